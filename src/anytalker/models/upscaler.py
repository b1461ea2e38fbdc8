"""Twice the size, with the picture's own detail: what a small autoencoder can't draw is copied from the picture.

A video shows what its picture shows, moved a little. So dense optical flow from each decoded frame to the picture says
where every pixel comes from, the picture is warped there at its full size, and a small network decides pixel by pixel
between the warped picture, the picture where it stands, and the enlarged frame, and corrects the result. Walls, hair
and glasses are then the picture's; mouths and eyes that the picture doesn't show are the model's.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

SCALE = 2
_SOURCES = 3  # the frame, the picture, the warped picture


class _Block(nn.Module):
    """Two 3×3 convolutions added to their input; without normalisation, so that a pixel depends on its surroundings."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(width, width, 3, padding=1)
        self.conv_out = nn.Conv2d(width, width, 3, padding=1)
        for parameter in self.conv_out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return states + self.conv_out(nn.functional.silu(self.conv_in(nn.functional.silu(states))))


class PictureUpscaler(nn.Module):
    """Enlarges frames (n, 3, h, w) to (n, 3, 2h, 2w) with what a picture of that size shows.

    Args:
        width: channels of the convolutions, which work on the frames' own grid.
        blocks: residual blocks.
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        fine = SCALE * SCALE
        self.enter = nn.Conv2d(3 + 2 * 3 * fine, width, 3, padding=1)
        self.body = nn.Sequential(*(_Block(width) for _ in range(blocks)), nn.SiLU())
        self.leave = nn.Conv2d(width, (_SOURCES + 3) * fine, 3, padding=1)
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)

    def forward(self, frames: torch.Tensor, picture: torch.Tensor, warped: torch.Tensor) -> torch.Tensor:
        """Enlarge frames.

        Args:
            frames: (n, 3, h, w) in [-1, 1].
            picture: (n, 3, 2h, 2w) in [-1, 1], the picture as it stands.
            warped: the same, brought by `warp` to where the frames show it.

        Returns:
            (n, 3, 2h, 2w), about in [-1, 1].
        """
        enlarged = nn.functional.interpolate(frames, scale_factor=SCALE, mode="bicubic", align_corners=False)
        fine = [nn.functional.pixel_unshuffle(source, SCALE) for source in (picture, warped)]
        states = self.enter(torch.cat([frames, *fine], dim=1))
        weights, correction = nn.functional.pixel_shuffle(self.leave(self.body(states)), SCALE).split(
            [_SOURCES, 3], dim=1
        )
        shares = weights.softmax(dim=1)
        sources = (enlarged, picture, warped)
        return sum(shares[:, number, None] * source for number, source in enumerate(sources)) + correction

    @torch.no_grad()
    def enlarge(self, frames: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
        """Enlarge a video's frames; each frame's result depends on nothing but the frame and the picture.

        Args:
            frames: (t, 3, h, w) in [-1, 1].
            picture: (3, 2h, 2w) in [-1, 1].

        Returns:
            (t, 3, 2h, 2w) in [-1, 1].
        """
        picture = picture.to(frames)
        enlarged = frames.new_empty(len(frames), *picture.shape)
        kind = self.enter.weight.dtype
        for number, frame in enumerate(frames.split(1)):  # one after another: the states are as large as the frames
            parts = (frame, picture[None], warp(picture, frame))
            # channels_last is a fifth faster on a CPU
            enlarged[number] = self(*(part.to(kind, memory_format=torch.channels_last) for part in parts))[0]
        return enlarged.clamp_(-1, 1)


def warp(picture: torch.Tensor, frames: torch.Tensor, square: tuple[int, int, int] | None = None) -> torch.Tensor:
    """A picture brought to where each frame shows it, by optical flow (DIS, Kroeger et al. 2016).

    Args:
        picture: (3, 2h, 2w) in [-1, 1].
        frames: (n, 3, h, w) in [-1, 1].
        square: top, left and side, in pixels of a frame, of the part that is wanted; None: all of it.

    Returns:
        (n, 3, 2h, 2w), or (n, 3, 2·side, 2·side), in [-1, 1].
    """
    shown = _eight_bit(picture)
    height, width = frames.shape[2:]
    top, left, tall, wide = (0, 0, height, width) if square is None else (*square, square[2])
    rows, columns = slice(top, top + tall), slice(left, left + wide)
    grey = _grey(cv2.resize(shown, (width, height), interpolation=cv2.INTER_AREA))
    library: Any = cv2  # its stubs lack what optical flow needs
    search = library.DISOpticalFlow_create(library.DISOPTICAL_FLOW_PRESET_MEDIUM)
    place = np.mgrid[SCALE * top : SCALE * (top + tall), SCALE * left : SCALE * (left + wide)][::-1].astype(np.float32)
    warped = []
    for frame in frames:
        flow = search.calc(_grey(_eight_bit(frame)), grey, None)[rows, columns]
        flow = cv2.resize(flow, (SCALE * wide, SCALE * tall), interpolation=cv2.INTER_LINEAR) * SCALE
        where = place[0] + flow[..., 0], place[1] + flow[..., 1]
        warped.append(cv2.remap(shown, *where, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))
    return torch.from_numpy(np.stack(warped)).permute(0, 3, 1, 2).to(frames).div_(127.5).sub_(1)


def _eight_bit(pixels: torch.Tensor) -> np.ndarray:
    """Pixels (3, h, w) in [-1, 1] as uint8 (h, w, 3)."""
    scaled = pixels.float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    return scaled.permute(1, 2, 0).contiguous().cpu().numpy()


def _grey(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
