"""Windows over latent frames: videos longer than a model was trained on, at a cost that grows with length only.

Every window starts with the picture's latent frame as anchor, as in training, and holds some of the later ones.
Neighbouring windows overlap; where they do, their velocities are blended at every denoising step. The picture's frame
is moved by the first window alone: the others see it as it was there, and no window waits for the end of the video.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from anytalker.errors import InputError
from anytalker.models.settings import MAX_POSITIONS, PipelineSettings

WindowChoice = int | Literal["none"] | None
"""Latent frames of a window besides the picture's; "none": all at once, as the release does; None: the model's."""


@dataclass(frozen=True)
class Window:
    """A stretch of latent frames `start` to `stop` (exclusive, the picture's frame 0 not among them)."""

    start: int
    stop: int

    def latent_frames(self) -> list[int]:
        """Indices of the window's latent frames, the picture's first."""
        return [0, *range(self.start, self.stop)]

    def video_frames(self) -> list[int]:
        """Indices of the window's video frames, the picture's first; 4 to a later latent frame."""
        return [0, *range(4 * (self.start - 1) + 1, 4 * (self.stop - 1) + 1)]

    def weights(self, overlap: int, total: int) -> torch.Tensor:
        """Blending weights (latent frames,), ramps where another window overlaps; 1 for the picture's frame."""
        length = self.stop - self.start
        ramp = torch.arange(1, length + 1, dtype=torch.float32) / (overlap + 1)
        rising = ramp.clamp(max=1) if self.start > 1 else torch.ones(length)
        falling = ramp.flip(0).clamp(max=1) if self.stop < total else torch.ones(length)
        return torch.cat([torch.ones(1), rising * falling])


def plan_windows(total: int, length: int | None, overlap: int) -> list[Window]:
    """Cover latent frames 1 to `total` − 1 with windows of equal length.

    Args:
        total: latent frames of the video, the picture's included.
        length: latent frames a window besides the picture's; None: one window for all.
        overlap: latent frames shared by neighbours; the last window may share more.
    """
    moving = total - 1
    if length is None or moving <= length:
        return [Window(1, total)]
    stride = max(1, length - overlap)
    starts = list(range(1, total - length, stride)) + [total - length]
    return [Window(start, start + length) for start in starts]


def with_window(settings: PipelineSettings, window: WindowChoice) -> PipelineSettings:
    """Settings with another window; neighbours then share at most half of it.

    Raises:
        InputError: for a window that is neither "none" nor a number that rotary positions reach.
    """
    if window is None:
        return settings
    if window == "none":
        return replace(settings, window=None)
    if isinstance(window, bool) or not isinstance(window, int) or not 1 <= window < MAX_POSITIONS:
        raise InputError(
            f"window is {window!r}; it must be a number of latent frames from 1 to {MAX_POSITIONS - 1}, or 'none'."
        )
    return replace(settings, window=window, window_overlap=min(settings.window_overlap, window // 2))


def check_positions(frames: int, size: tuple[int, int], settings: PipelineSettings, most: int = MAX_POSITIONS) -> None:
    """Make sure that rotary positions reach all that is denoised together.

    Args:
        frames: of the video.
        size: (width, height) of the video in pixels.
        settings: with the window.
        most: positions that the model knows in each direction.

    Raises:
        InputError: if they don't.
    """
    total = (frames - 1) // 4 + 1
    together = total if settings.window is None else min(total, settings.window + 1)
    if together > most:
        raise InputError(
            f"The video has {frames} frames, {together} latent frames to be denoised at once; the model knows "
            f"{most} positions, at most {4 * most - 3} frames. Give --window {min(20, most - 1)}, or --max-frames."
        )
    if max(size) // 16 > most:
        raise InputError(
            f"The video has {size[0]}×{size[1]} pixels; the model knows {most} positions, at most {16 * most} pixels "
            "in each direction. Give a picture of another shape."
        )


def window_remark(frames: int, settings: PipelineSettings) -> str | None:
    """What to say of a video that is longer than the model was trained on; None for others."""
    trained = settings.trained_frames
    if trained is None or frames <= trained:
        return None
    remark = f"The video has {frames} frames; the model was trained on {trained}."
    count = len(plan_windows((frames - 1) // 4 + 1, settings.window, settings.window_overlap))
    if count == 1:
        return f"{remark} It is made at once (--window {(trained - 1) // 4} makes it in windows)."
    return f"{remark} It is made in {count} windows (--window none makes it at once, as the release does)."
