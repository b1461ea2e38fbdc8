"""How a model is loaded: the options that the command line, batches and Python share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from anytalker.errors import InputError
from anytalker.pipelines.limits import check_number
from anytalker.pipelines.options import called

_CHOICES = {
    "memory": ("high", "balanced", "low"),
    "weights": ("full", "float8", "int8"),
    "decoder": ("auto", "float32", "bfloat16"),
    "cache": ("none", "first-block", "magcache", "taylorseer"),
}


class PlacementOptions(BaseModel):
    """What of a model is on the device at a time, and how its weights are kept.

    Raises:
        InputError: for a value that can't be used, naming it and what can.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory: Literal["high", "balanced", "low"] = Field(
        default="high",
        description="What is on the GPU at a time: high, everything; balanced, one part of the model; low, one layer, "
        "slower. All give the same video.",
    )
    weights: Literal["full", "float8", "int8"] = Field(
        default="full",
        description="Keep the transformer's weights as they are, or in 8 bits: less memory, slightly other.",
    )

    @property
    def placement(self) -> Any:
        """The same as a `Placement`."""
        from anytalker.hardware.placement import Placement

        return Placement(self.memory, self.weights)

    @field_validator(*_CHOICES, mode="before", check_fields=False)
    @classmethod
    def _one_of(cls, value: Any, info: ValidationInfo) -> Any:
        known = _CHOICES[str(info.field_name)]
        if value not in known:
            raise InputError(f"{called(info)} is {value!r}; it must be one of {', '.join(known)}.")
        return value


class LoadingOptions(PlacementOptions):
    """What a model is loaded with, the same for all of its videos."""

    lora: tuple[tuple[Path, float], ...] = Field(
        default=(),
        description="An adapter to merge in, such as one that makes 4 --steps enough; several times for several.",
    )
    cache: Literal["none", "first-block", "magcache", "taylorseer"] = Field(
        default="none",
        description="Leave out what hardly changes from step to step: faster, slightly other. first-block with "
        "--cache-threshold; magcache, too, once `anytalker calibrate` knows the model; taylorseer extrapolates.",
    )
    cache_threshold: float = Field(
        default=0.08, description="Of first-block and magcache, 0 to 1; more is faster and rougher."
    )
    attention: str | None = Field(
        default=None, description="Another attention kernel of diffusers, such as flash or sage, if installed."
    )
    compile: bool | None = Field(
        default=None, description="Compile first, or not; left out: on a GPU, if the video is long enough."
    )
    decoder: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Precision of the autoencoder's decoder; bfloat16 is faster, slightly other. auto: float32, but "
        "bfloat16 for the miniature on processors that compute it in hardware.",
    )

    @property
    def changes(self) -> dict[str, Any]:
        """The options that change a video's numbers and are not as usual, as JSON."""
        usual = type(self)().model_dump(mode="json")
        return {
            name: value
            for name, value in self.model_dump(mode="json", exclude={"memory", "compile"}).items()
            if value != usual[name]
        }

    @field_validator("cache_threshold", mode="before")
    @classmethod
    def _threshold(cls, value: Any, info: ValidationInfo) -> Any:
        return check_number(called(info), value, 0, 1)

    @field_validator("lora", mode="before")
    @classmethod
    def _adapters(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{called(info)} is {value!r}; it must be a list of adapters.")
        return tuple(_adapter(one) if isinstance(one, (str, Path)) else one for one in value)


def _adapter(text: str | Path) -> tuple[Path, float]:
    """An adapter's file and its strength, 1 unless it stands behind a colon."""
    path, colon, strength = str(text).rpartition(":")
    try:
        number = float(strength) if colon else 1.0
    except ValueError:
        return Path(text), 1.0
    if not math.isfinite(number):
        raise InputError(f"The strength of the adapter {text} must be a number, such as 0.8.")
    return Path(path if colon else text), number
