"""Frames are enlarged by interpolation, in a fraction of the time; importing this makes it so, in this process.

`conftest.py` has it in the tests' own process; those that `processes.py` forks have it from the first of them.
"""

from __future__ import annotations

import torch

from anytalker.models.upscaler import PictureUpscaler

ENLARGE = PictureUpscaler.enlarge
"""How users have it."""


def interpolate(
    upscaler: PictureUpscaler, frames: torch.Tensor, picture: torch.Tensor, decoded: torch.Tensor | None = None
) -> torch.Tensor:
    """Frames of the picture's size."""
    return torch.nn.functional.interpolate(frames, tuple(picture.shape[1:]), mode="bilinear")


PictureUpscaler.enlarge = interpolate
