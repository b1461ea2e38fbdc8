"""How a video is made: the options that the command line, files of jobs and Python share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from anytalker.errors import InputError
from anytalker.models.settings import MAX_POSITIONS, PipelineSettings
from anytalker.pipelines.limits import (
    MAX_FPS,
    MAX_SCALE,
    MAX_STEPS,
    MIN_FRAMES,
    MIN_SCALE,
    check_number,
    check_size,
    parse_size,
)

RANGES: dict[str, tuple[float, float]] = {
    "num_inference_steps": (1, MAX_STEPS),
    "guidance_scale": (0, 100),
    "audio_guidance_scale": (0, 100),
    "fps": (1, MAX_FPS),
    "max_frames": (MIN_FRAMES, 10**9),
    "scale": (MIN_SCALE, MAX_SCALE),
}
"""The smallest and the largest value of an option that is a number."""
_CHOICES = {"mode": ("pad", "concat"), "rounding": ("up", "release")}


class GenerationOptions(BaseModel):
    """Options of a video besides its picture, its people and their voices.

    None means the model's default, see `settled`. Sizes, windows and intervals may be text, as on the command line.

    Raises:
        InputError: for a value that can't be used, naming it and what can.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str = Field(default="", description="What happens in the video.")
    negative_prompt: str | None = Field(default=None, description="What should not happen (used with guidance).")
    num_inference_steps: int | None = Field(
        default=None, description="Denoising steps, 1 to 1000; more is finer and slower. Left out: the model's default."
    )
    guidance_scale: float | None = Field(default=None, description="Pull of prompt and voice, 0 to 100; 1 is none.")
    audio_guidance_scale: float | None = Field(
        default=None, description="Pull of the voices alone; left out: that of the prompt, as in the release."
    )
    voice_strengths: tuple[float, ...] | None = Field(
        default=None, description="How much a voice moves its face, 0 to 10, once a person; left out: 1."
    )
    guidance_interval: tuple[float, float] = Field(
        default=(0.0, 1.0), description="Shares of the steps between which there is guidance; the release's is 0,1."
    )
    batch_guidance: bool = Field(
        default=False, description="With guidance: all branches in one batch, faster where memory allows."
    )
    mode: Literal["pad", "concat"] = Field(
        default="pad", description="pad: the audios share a clock. concat: people speak one after another."
    )
    fps: float | None = Field(default=None, description="Video frames a second, 1 to 120.")
    max_frames: int | None = Field(default=None, description="Stop after that many video frames.")
    window: int | Literal["none"] | None = Field(
        default=None,
        description="Latent frames (4 video frames each) denoised together; none: all at once, as the release; "
        "left out: the model's, 20 for 1.3b and 14b.",
    )
    size: tuple[int, int] | None = Field(
        default=None,
        description="Width and height of the video, of the picture's shape; left out: what suits the model.",
    )
    scale: float | None = Field(
        default=None, description="Make the sides that many times as long as what suits the model, 0.1 to 8."
    )
    rounding: Literal["up", "release"] = Field(
        default="up",
        description="up: no sound is cut. release: end up to 4 frames before the sound, as the release does.",
    )
    upscale: bool = Field(
        default=True,
        description="Enlarge the decoded frames with the picture's detail, if the model can (tiny); off: half the "
        "size in less time.",
    )
    separate: bool = Field(
        default=True,
        description="Take the voices out of their recordings first, if the model was trained so (1.3b and 14b) and "
        "the separator is there.",
    )

    def settled(self, settings: PipelineSettings) -> SettledOptions:
        """The same with the model's defaults filled in."""
        text = settings.guidance_scale if self.guidance_scale is None else self.guidance_scale
        defaults = {
            "negative_prompt": settings.negative_prompt,
            "num_inference_steps": settings.num_inference_steps,
            "guidance_scale": text,
            "audio_guidance_scale": text,
            "fps": settings.fps,
        }
        return SettledOptions.model_validate(defaults | self.model_dump(exclude_none=True))

    @field_validator(*RANGES, mode="before")
    @classmethod
    def _within_range(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None:
            return None
        name = str(info.field_name)
        number = check_number(called(info), value, *RANGES[name])
        if name not in ("num_inference_steps", "max_frames"):
            return number
        if number != int(number):
            raise InputError(f"{called(info)} is {value}; it must be a whole number.")
        return int(number)

    @field_validator(*_CHOICES, mode="before")
    @classmethod
    def _one_of(cls, value: Any, info: ValidationInfo) -> Any:
        known = _CHOICES[str(info.field_name)]
        if value not in known:
            raise InputError(f"{called(info)} is {value!r}; it must be {' or '.join(map(repr, known))}.")
        return value

    @field_validator("voice_strengths", mode="before")
    @classmethod
    def _strengths(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None:
            return None
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise InputError(f"{called(info)} is {value!r}; it must be a list of numbers, one a person.")
        return tuple(check_number(called(info), one, 0, 10) for one in value)

    @field_validator("guidance_interval", mode="before")
    @classmethod
    def _interval(cls, value: Any, info: ValidationInfo) -> Any:
        try:
            start, end = map(float, value.split(",") if isinstance(value, str) else value)
        except (TypeError, ValueError):
            start = end = math.nan
        if not 0 <= start <= end <= 1:
            raise InputError(f"{called(info)} is {value!r}; it must be two shares such as 0,0.5.")
        return start, end

    @field_validator("window", mode="before")
    @classmethod
    def _latent_frames(cls, value: Any, info: ValidationInfo) -> Any:
        number = int(value) if isinstance(value, str) and value.isdecimal() else value
        if number is None or number == "none":
            return number
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number < MAX_POSITIONS:
            raise InputError(
                f"{called(info)} is {value!r}; it must be a number of latent frames from 1 to {MAX_POSITIONS - 1}, "
                "such as 20, or 'none'."
            )
        return number

    @field_validator("size", mode="before")
    @classmethod
    def _sides(cls, value: Any) -> Any:
        sides = parse_size(value) if isinstance(value, str) else value
        check_size(sides, None)
        return sides

    @model_validator(mode="after")
    def _size_or_scale(self) -> GenerationOptions:
        check_size(self.size, self.scale)
        return self


class SettledOptions(GenerationOptions):
    """Options with the model's defaults filled in, except the window."""

    negative_prompt: str
    num_inference_steps: int
    guidance_scale: float
    audio_guidance_scale: float
    fps: float


Options = TypeVar("Options", bound=BaseModel)


def checked(kind: type[Options], values: Mapping[str, Any], names: Callable[[str], str] = str) -> Options:
    """Options from values by name.

    Args:
        kind: `GenerationOptions`, or another model of options.
        values: by the names of its fields.
        names: what an option is called in messages.

    Raises:
        InputError: for an option that is not known, or a value that can't be used.
    """
    try:
        return kind.model_validate(values, context=names)
    except ValidationError as error:
        first = error.errors()[0]
        said = first.get("ctx", {}).get("error")
        if isinstance(said, InputError):
            raise said from error
        name = str(first["loc"][0]) if first["loc"] else ""
        if first["type"] == "extra_forbidden":
            raise InputError(f"There is no option {name!r}; there are {', '.join(kind.model_fields)}.") from error
        raise InputError(f"{names(name)} is {first['input']!r}. {first['msg']}.") from error


def called(info: ValidationInfo) -> str:
    """What an option is called where it was given."""
    names: Callable[[str], str] = info.context if callable(info.context) else str
    return names(str(info.field_name))


def record_of(options: SettledOptions, settings: PipelineSettings, strengths: Any) -> dict[str, Any]:
    """The options as they are written into a run's record.

    Args:
        options: how the video is made.
        settings: of the model, with the window that is used.
        strengths: one a person, or None.
    """
    chosen = options.model_dump(
        include={
            "prompt",
            "negative_prompt",
            "num_inference_steps",
            "guidance_scale",
            "audio_guidance_scale",
            "guidance_interval",
            "mode",
        }
    )
    chosen |= {
        "voice_strengths": strengths,
        "window": settings.window,
        "window_overlap": settings.window_overlap,
    }
    unusual: dict[str, Any] = {"rounding": options.rounding} if options.rounding != "up" else {}
    if settings.upscale > 1 and not options.upscale:
        unusual["upscale"] = False
    return chosen | unusual
