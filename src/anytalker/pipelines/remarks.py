"""Remarks on a scene before the video is made: silent recordings, who speaks, photographs, faces that are too small."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from anytalker.conditioning.binding import describe_people
from anytalker.conditioning.timeline import is_silent
from anytalker.denoising.windows import window_remark
from anytalker.models.settings import PipelineSettings
from anytalker.pipelines.inputs import Inputs, Scene


def silent_voices(scene: Scene, names: Sequence[str]) -> Iterator[str]:
    """A sentence for every recording in which nothing is to be heard; `names` are those of the scene's voices."""
    for name, voice in dict(zip(names, scene.voices, strict=True)).items():
        if voice is not None and is_silent(voice.waveform):
            yield f"{name} is silent throughout: whoever has it for a voice keeps their mouth shut."


def who_speaks(scene: Scene) -> Iterator[str]:
    """Who speaks and who listens, where there are several people."""
    if len(scene.people) > 1:
        yield describe_people(scene.people, [voice.name if voice else None for voice in scene.voices])


def remarks_on(
    inputs: Inputs,
    face_masks: torch.Tensor,
    settings: PipelineSettings,
    window: int | str | None,
    missing: str | None,
) -> str:
    """What to say of a video once the model has seen its inputs, in lines.

    Args:
        inputs: what the video is made of.
        face_masks: see `small_faces`.
        settings: the model's.
        window: as it was asked for; None: the model's.
        missing: what is said of a separator that isn't there.
    """
    long = window_remark(inputs.frames, settings) if window is None else None
    return "\n".join(filter(None, [missing, long, small_faces(inputs, face_masks)]))


def small_faces(inputs: Inputs, face_masks: torch.Tensor) -> str | None:
    """A sentence about people whose faces cover none of the places on which voices act.

    Args:
        inputs: what the video is made of.
        face_masks: (1, N, f, h, w) on the token grid.
    """
    present = face_masks[0].flatten(1).any(dim=1).tolist()
    order = sorted(range(len(inputs.boxes)), key=lambda index: inputs.boxes[index][0] + inputs.boxes[index][2] / 2)
    missing = [str(number) for number, index in enumerate(order, start=1) if not present[index]]
    if not missing:
        return None
    who = f"The face of person {missing[0]}" if len(missing) == 1 else f"The faces of people {', '.join(missing)}"
    width, height = inputs.image.size
    return (
        f"{who} from the left will not move: too small in a video of {width}×{height}. Give a picture that is cut "
        "closer to the faces, or a larger --size."
    )
