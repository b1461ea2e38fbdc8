"""Splitting the token grid's rows among devices that share a video, and joining the results."""

from __future__ import annotations

import torch
from torch import nn

from anytalker.errors import InputError


class RowsOfThisDevice(nn.Module):
    """Rows of a grid, all of them until `anytalker.hardware.context_parallel` puts diffusers' splitting in front."""

    def __init__(self) -> None:
        super().__init__()
        self.devices = 1

    def check(self, rows: int) -> None:
        """Raise an `InputError` unless so many token rows can be shared out evenly."""
        if rows % self.devices:
            raise InputError(
                f"The video is {16 * rows} pixels high; {self.devices} devices can share heights that are multiples of "
                f"{16 * self.devices}. Give a picture of another shape, or other devices."
            )

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Split (B, C, f, rows, n) along the rows."""
        return rows


class RowsOfAllDevices(nn.Module):
    """The rows that every device has computed, put together by diffusers' gathering."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Join (B, C, f, own rows, n) along the rows."""
        return rows


def split_latents(split: nn.Module, latents: torch.Tensor) -> torch.Tensor:
    """The own rows of latents (B, C, f, h, w), two of which make a row of tokens."""
    pairs = latents.unflatten(3, (-1, 2)).flatten(4)
    return split(pairs).unflatten(4, (2, -1)).flatten(3, 4)


def join_latents(join: nn.Module, latents: torch.Tensor) -> torch.Tensor:
    """All rows of latents (B, C, f, own h, w)."""
    pairs = latents.unflatten(3, (-1, 2)).flatten(4)
    return join(pairs).unflatten(4, (2, -1)).flatten(3, 4)


def split_rotary(
    split: nn.Module, rotary: tuple[torch.Tensor, torch.Tensor], grid: tuple[int, int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The own rows of rotary positions (1, f·h·w, 1, d) of a token grid (f, h, w)."""
    cosine, sine = (part.unflatten(1, grid).flatten(3)[None] for part in rotary)
    width, channels = grid[2], rotary[0].shape[-1]

    def own(part: torch.Tensor) -> torch.Tensor:
        return split(part)[0].unflatten(3, (width, 1, channels)).flatten(1, 3)

    return own(cosine), own(sine)
