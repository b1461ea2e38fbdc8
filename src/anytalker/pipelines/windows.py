"""Windows over latent frames: videos longer than a model was trained on, at a cost that grows with length only.

Every window starts with the picture's latent frame as anchor, as in training, and holds some of the later ones.
Neighbouring windows overlap; where they do, their velocities are blended at every denoising step. The picture's frame
is moved by the first window alone: the others see it as it was there, and no window waits for the end of the video.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


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
