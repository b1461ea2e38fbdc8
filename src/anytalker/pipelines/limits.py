"""Ranges of numbers and sizes, checked before anything heavy is imported."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from numbers import Real
from typing import Any

from anytalker.errors import InputError

MAX_FPS = 120
MAX_STEPS = 1000
MIN_FRAMES = 5
"""The first frame is the picture; the shortest video has one more latent frame."""
MIN_VIDEO_SIDE = 16
MAX_VIDEO_SIDE = 4096
MIN_SCALE, MAX_SCALE = 0.1, 8.0


def check_number(name: str, value: float, low: float, high: float) -> float:
    """`value` as a float if it lies between `low` and `high`.

    Raises:
        InputError: naming the option, its value and what is allowed.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not low <= number <= high:
        raise InputError(f"{name} is {value}; it must be a number from {low:g} to {high:g}.")
    return number


def check_strengths(strengths: Sequence[float] | None, people: int) -> tuple[float, ...] | None:
    """Strengths of that many people; those not given are 1.

    Raises:
        InputError: for more strengths than people, or one that is not a number from 0 to 10.
    """
    if strengths is None:
        return None
    if len(strengths) > people:
        raise InputError(f"{len(strengths)} voice strengths were given for {people} people; give one a person at most.")
    for strength in strengths:
        if not 0 <= strength <= 10:
            raise InputError(f"The voice strength {strength} can't be used; it must be a number from 0 to 10.")
    return tuple(map(float, strengths)) + (1.0,) * (people - len(strengths))


def parse_size(text: str) -> tuple[int, int]:
    """A video's (width, height) from "WIDTHxHEIGHT".

    Raises:
        InputError: if the text is anything else.
    """
    match = re.fullmatch(r"(\d{1,5})[xX×](\d{1,5})", text.strip())
    if match is None:
        raise InputError(f"--size is {text!r}; it must be WIDTHxHEIGHT in pixels, such as 832x480.")
    return int(match[1]), int(match[2])


def check_size(size: Sequence[int] | None, scale: float | None) -> None:
    """Make sure that a video's size (width, height) and scale are within what can be made at all.

    Raises:
        InputError: for a side or scale beyond the limits, or if both are given.
    """
    if size is not None and scale is not None:
        raise InputError("Both a size and a scale were given; give --size or --scale.")
    if scale is not None:
        check_number("scale (--scale)", scale, MIN_SCALE, MAX_SCALE)
    if size is None:
        return
    if not _is_pair(size):
        raise InputError(f"size is {size!r}; it must be two whole numbers (width, height).")
    for side in size:
        if not MIN_VIDEO_SIDE <= side <= MAX_VIDEO_SIDE:
            raise InputError(
                f"The size {size[0]}x{size[1]} (--size) can't be made; each side must be from {MIN_VIDEO_SIDE} to "
                f"{MAX_VIDEO_SIDE} pixels."
            )


def _is_pair(size: Any) -> bool:
    """Whether something is two whole numbers."""
    if not isinstance(size, (list, tuple)) or len(size) != 2:
        return False
    return all(isinstance(side, Real) and not isinstance(side, bool) and side % 1 == 0 for side in size)
