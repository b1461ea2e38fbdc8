"""Remarks on a scene before the video is made: silent recordings, who speaks, photographs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from anytalker.conditioning.binding import describe_people
from anytalker.conditioning.drawn import looks_photographed
from anytalker.conditioning.timeline import is_silent
from anytalker.models.settings import PipelineSettings
from anytalker.pipelines.inputs import Scene


def silent_voices(scene: Scene, names: Sequence[str]) -> Iterator[str]:
    """A sentence for every recording in which nothing is to be heard; `names` are those of the scene's voices."""
    for name, voice in dict(zip(names, scene.voices, strict=True)).items():
        if voice is not None and is_silent(voice.waveform):
            yield f"{name} is silent throughout: whoever has it for a voice keeps their mouth shut."


def who_speaks(scene: Scene) -> Iterator[str]:
    """Who speaks and who listens, where there are several people."""
    if len(scene.people) > 1:
        yield describe_people(scene.people, [voice.name if voice else None for voice in scene.voices])


def photograph_of_drawn(scene: Scene, settings: PipelineSettings) -> bool:
    """Whether a model that has only seen drawn people is given a photograph."""
    return settings.trained_on == "drawn" and looks_photographed(scene.picture)
