"""From the rows of the page to a job, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from anytalker.conventions import SAMPLE_RATE
from anytalker.errors import InputError
from anytalker.pipelines.options import GenerationOptions
from anytalker.queue.decoding import decode
from anytalker.queue.record import QueuedJob
from anytalker.queue.request import PersonRequest, VideoRequest
from anytalker.queue.video_queue import VideoQueue
from anytalker.studio import words
from anytalker.studio.cast import Cast

OTHERS = tuple(GenerationOptions.model_fields.keys() - {"prompt", "num_inference_steps", "max_frames"})
"""Options of a video that the page has no fields for."""
LATEST = 600.0
"""Seconds into a video at which a voice may start."""


@dataclass(frozen=True)
class Row:
    """What one person's row says.

    Attributes:
        name: of the person.
        voice: path of the recording; None: none.
        listens: whether the person only listens, recording or not.
        starts: second of the video at which the recording starts.
    """

    name: str = ""
    voice: str | None = None
    listens: bool = False
    starts: float = 0.0


@dataclass(frozen=True)
class Choices:
    """What the page says of the video.

    Attributes:
        preset: a name of `words.PRESETS`.
        model: name of a model that is here.
        seed: of the noise.
        prompt: what happens.
        seconds: how long it may be; 0: as long as the voices.
        exact: denoising steps; 0: as the preset says.
        rest: other options, which the page has no fields for, by name.
    """

    preset: str = "Good"
    model: str = "tiny"
    seed: float = 0
    prompt: str = ""
    seconds: float = 0.0
    exact: float = 0
    rest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Denoising steps: those asked for, or the model's, more or fewer."""
        if self.exact:
            return int(self.exact)
        if self.preset not in words.PRESETS:
            raise InputError(words.BROKEN)
        return max(1, round(words.PRESETS[self.preset] * model_settings(self.model).num_inference_steps))

    def options(self) -> dict[str, Any]:
        """The same as options of a request."""
        settings = model_settings(self.model)
        chosen = {
            **self.rest,
            "model": self.model,
            "seed": int(self.seed),
            "prompt": self.prompt,
            "num_inference_steps": self.steps,
        }
        return chosen | ({"max_frames": max(5, round(self.seconds * settings.fps))} if self.seconds else {})


def model_settings(model: str) -> Any:
    """The settings of a model that is here.

    Raises:
        InputError: if it isn't one that the page offers.
    """
    from anytalker.loading.locate import find_model
    from anytalker.loading.part_loaders import settings_of

    if model not in models_here():
        raise InputError(f"{model[:40]!r} isn't a model that is here; choose one of {', '.join(models_here())}.")
    return settings_of(find_model(model))


def models_here() -> list[str]:
    """Names of the models that can be used at once."""
    from anytalker.loading.locate import find_model
    from anytalker.loading.presets import PRESETS

    found = ["tiny"]
    for name in PRESETS:
        try:
            find_model(name)
        except InputError:
            continue
        found.append(name)
    return found


def submit(queue: VideoQueue, cast: Cast | None, rows: Sequence[Row], choices: Choices, consent: bool) -> QueuedJob:
    """Queue the video that the page describes.

    Raises:
        InputError: if something is missing or can't be used.
        QueueFull: if there is no room.
    """
    if cast is None or not cast.members:
        raise InputError(words.NOBODY)
    voices = [None if row.listens else row.voice for row in rows]
    if not any(voices):
        raise InputError(words.NO_VOICE)
    if not consent:
        raise InputError(words.NEEDS_CONSENT)
    try:
        request, recordings, starts = _request(cast, rows, voices, choices)
    except ValidationError as error:
        raise InputError(f"{error.errors()[0]['msg'].removeprefix('Value error, ').rstrip('.')}.") from error
    people = [number for number, voice in enumerate(voices, start=1) if voice is not None]
    try:
        with queue.incoming() as folder:
            if any(starts):
                recordings = _delayed(queue, folder, cast.picture, recordings, starts)
            return queue.submit(request, cast.picture, recordings)
    except InputError as error:  # which counts recordings, and not the rows of people
        said = str(error)
        for number, person in reversed(list(enumerate(people, start=1))):
            said = said.replace(f"Recording {number} ", f"{words.VOICE.format(number=person)} ")
        raise InputError(said) from error


def _request(
    cast: Cast, rows: Sequence[Row], voices: Sequence[str | None], choices: Choices
) -> tuple[VideoRequest, list[str], list[float]]:
    """What is asked of the queue, the recordings, and when each starts."""
    people: list[PersonRequest] = []
    recordings: list[str] = []
    starts: list[float] = []
    for member, row, voice in zip(cast.members, rows, voices, strict=True):
        if voice is not None:
            recordings.append(voice)
            starts.append(_checked_start(row.starts))
        number = None if voice is None else len(recordings)
        people.append(PersonRequest(voice=number, box=member.box, name=row.name.strip() or None))
    options = choices.options()
    if len(options.get("voice_strengths") or ()) > len(people):  # somebody was removed, nobody knows who
        del options["voice_strengths"]
    return VideoRequest(people=tuple(people), **options), recordings, starts


def _checked_start(seconds: float | None) -> float:
    value = float(seconds or 0)
    if not 0 <= value <= LATEST:
        raise InputError(f"A voice starts at second {value:g}; it must be from 0 to {LATEST:g}.")
    return value


def _delayed(
    queue: VideoQueue, folder: Path, picture: str, recordings: Sequence[str], starts: Sequence[float]
) -> list[str]:
    """Copies of recordings that begin with silence."""
    import numpy as np

    from anytalker.media.recordings import load_audio, write_wave

    decode(folder, Path(picture), list(map(Path, recordings)), None, queue.settings.decoding)
    found = []
    for number, start in enumerate(starts, start=1):
        path = folder / f"voice-{number}.wav"
        silence = np.zeros(round(start * SAMPLE_RATE), np.float32)
        write_wave(folder / f"late-{number}.wav", np.concatenate([silence, load_audio(path)]))
        found.append(str(folder / f"late-{number}.wav"))
    return found


def choices_of(request: VideoRequest) -> Choices:
    """What the page offers of a job's settings; those that it has no fields for go along."""
    model = request.model if request.model in models_here() else "tiny"
    settings = model_settings(model)
    usual = VideoRequest()
    rest = {name: getattr(request, name) for name in OTHERS if getattr(request, name) != getattr(usual, name)}
    seconds = round(request.max_frames / settings.fps, 2) if request.max_frames else 0.0
    steps = request.num_inference_steps or settings.num_inference_steps
    return with_steps(Choices(model=model, seed=request.seed, prompt=request.prompt, seconds=seconds, rest=rest), steps)


def with_steps(choices: Choices, steps: int) -> Choices:
    """Choices with so many steps: by a preset, or by their number."""
    for preset in words.PRESETS:
        if replace(choices, preset=preset, exact=0).steps == steps:
            return replace(choices, preset=preset, exact=0)
    return replace(choices, exact=steps)
