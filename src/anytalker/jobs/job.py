"""A job: one video as a file of jobs describes it."""

from __future__ import annotations

import difflib
import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from anytalker.errors import InputError
from anytalker.loading.components import find_model
from anytalker.media.channels import split_channel

_RELEASE_NAMES = ("image_path", "audio_list", "enhance_caption", "caption", "steps")
"""Other names of keys, those of the release's batch file among them."""


class Job(BaseModel):
    """One video. The names of the release's batch file are understood, too.

    Attributes:
        image: the picture ("image_path" in the release).
        audio: a recording a person, "talk.wav:left" for one channel, None or "none" for one who listens ("audio_list").
        prompt: what happens ("enhance_caption", "caption").
        faces: whose voices they are, as for `AnyTalkerPipeline.prepare`.
        negative_prompt, mode, fps, max_frames, num_inference_steps, guidance_scale, audio_guidance_scale,
            voice_strengths, guidance_interval, batch_guidance, window, size, scale, rounding: as for
            `AnyTalkerPipeline.prepare`.
        seed: of the noise.
    """

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    image: Path = Field(validation_alias=AliasChoices("image", "image_path"))
    audio: list[Path | None] = Field(min_length=1, validation_alias=AliasChoices("audio", "audio_list"))
    prompt: str = Field(default="", validation_alias=AliasChoices("prompt", "enhance_caption", "caption"))
    faces: list[list[float]] | None = None
    negative_prompt: str | None = None
    mode: str = "pad"
    fps: float | None = None
    max_frames: int | None = None
    num_inference_steps: int | None = Field(default=None, validation_alias=AliasChoices("num_inference_steps", "steps"))
    guidance_scale: float | None = None
    audio_guidance_scale: float | None = None
    voice_strengths: list[float] | None = None
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    batch_guidance: bool = False
    window: int | Literal["none"] | None = None
    size: tuple[int, int] | None = None
    scale: float | None = None
    rounding: Literal["up", "release"] = "up"
    seed: int = Field(default=0, ge=0, lt=2**63)

    @model_validator(mode="before")
    @classmethod
    def _no_slips(cls, values: Any) -> Any:
        """Every name must be known; jobs of the release's files may have more, which don't look like one of these."""
        if not isinstance(values, dict):
            return values
        known = [*cls.model_fields, *_RELEASE_NAMES]
        release = "image_path" in values or "audio_list" in values
        for name in map(str, values):
            if name in known:
                continue
            near = difflib.get_close_matches(name.lower(), known, 1, 0.75)
            if near or not release:
                guess = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"{name!r} is not known.{guess} A job's keys are {', '.join(cls.model_fields)}.")
        return values

    def within(self, folder: Path) -> Job:
        """The same with relative paths taken from a folder."""
        voices = [None if path is None or str(path).lower() == "none" else folder / path for path in self.audio]
        return self.model_copy(update={"image": folder / self.image, "audio": voices})

    def files(self) -> list[Path]:
        """What the video is made from: "talk.wav" for "talk.wav:left"."""
        return [self.image, *(split_channel(path)[0] for path in self.audio if path is not None)]

    def fingerprint(self, model: str, weights: str = "full") -> str:
        """What the video depends on, in short: settings, and sizes and times of the files, the model's, too."""
        states = []
        for path in (*self.files(), *model_files(model)):
            with suppress(OSError):
                states.append([path.stat().st_size, path.stat().st_mtime_ns])
        text = json.dumps([model, weights, self.model_dump(mode="json"), states], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def model_files(model: str) -> list[Path]:
    """Weights and settings of a model; none if it is not here."""
    try:
        return find_model(model).files()
    except InputError:
        return []


def read_jobs(path: Path) -> dict[str, Job]:
    """Jobs by name from a JSON file, name → job; relative paths are taken from the file's folder.

    Raises:
        InputError: if it can't be read, or a job is of another form, naming it.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict) or not values:
        raise InputError(f"{path} must map names of videos to jobs, and hold one at least.")
    jobs = {}
    for name, value in values.items():
        if not name or Path(name).name != name or name.startswith("."):
            raise InputError(f"{path}: {name!r} can't be the name of a video file.")
        try:
            jobs[name] = Job.model_validate(value).within(path.absolute().parent)
        except ValidationError as error:
            first = error.errors()[0]
            place = ", ".join([f"job {name!r}", *map(str, first["loc"])])
            said = first["msg"].removeprefix("Value error, ")
            keys = "" if first["type"] == "value_error" else f" A job's keys are {', '.join(Job.model_fields)}."
            raise InputError(f"{path}: {place}: {said}{'' if said.endswith('.') else '.'}{keys}") from error
    return jobs
