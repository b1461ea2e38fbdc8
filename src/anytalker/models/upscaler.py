"""Twice the size, with the picture's own detail: what a small autoencoder can't draw is copied from the picture.

A video shows what its picture shows, moved a little. So dense optical flow from each decoded frame to the picture says
where every pixel comes from, the picture is warped there at its full size, and a small network decides everywhere
between the warped picture, the picture where it stands, and the enlarged frame, and corrects the result. Walls, hair
and glasses are then the picture's; mouths and eyes that the picture doesn't show are the model's.

Photographs are more than a model of drawn people can draw. Of them only mouths are the model's: heads are the
picture's, moved as a whole, and all else stands still.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from anytalker.cores import one_thread

SCALE = 2
CELL = 2
"""Side of what the network works on, in pixels of a frame: single pixels would take four times as long."""
_SOURCES = 3  # the frame, the picture, the warped picture
_REACH = 8.0
"""How smooth the movement of a photographed head is, in pixels of a frame, whose faces are 76 wide."""
_LEAST = 1e-3


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
        width: channels of the convolutions, which work on cells of `CELL` by `CELL` pixels of a frame.
        blocks: residual blocks.
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(_SOURCES * 3 * CELL**2, width, 3, padding=1)
        self.body = nn.Sequential(*(_Block(width) for _ in range(blocks)), nn.SiLU())
        self._outputs = [_SOURCES * CELL**2, 3 * (SCALE * CELL) ** 2]
        self.leave = nn.Conv2d(width, sum(self._outputs), 3, padding=1)
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, frames: torch.Tensor, picture: torch.Tensor, warped: torch.Tensor, small: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Enlarge frames; convolutions in the precision of their weights, all else in that of the frames.

        Args:
            frames: (n, 3, h, w) in [-1, 1]; h and w are multiples of `CELL`.
            picture: (n, 3, 2h, 2w) in [-1, 1], the picture as it stands.
            warped: the same, brought by `PictureWarp` to where the frames show it.
            small: (n, 3, h, w), what `halved` makes of the picture, if it is known already.

        Returns:
            (n, 3, 2h, 2w), about in [-1, 1].
        """
        small = halved(picture) if small is None else small
        cells = nn.functional.pixel_unshuffle(torch.cat([frames, small, halved(warped)], dim=1), CELL)
        # On a CPU channels_last halves the time of convolutions, and takes longer for all else.
        cells = cells.to(self.enter.weight.dtype, memory_format=torch.channels_last)
        states = self.leave(self.body(self.enter(cells))).to(frames.dtype, memory_format=torch.contiguous_format)
        weights, correction = states.split(self._outputs, dim=1)
        shares = _enlarged(nn.functional.pixel_shuffle(weights, CELL).softmax(dim=1))
        result = nn.functional.pixel_shuffle(correction, SCALE * CELL)
        for number, source in enumerate((_enlarged(frames), picture, warped)):
            result = torch.addcmul(result, shares[:, number, None], source)
        return result

    @torch.no_grad()
    def enlarge(self, frames: torch.Tensor, picture: torch.Tensor, decoded: torch.Tensor | None = None) -> torch.Tensor:
        """Enlarge a video's frames; each frame's result depends on nothing but the frame and the picture.

        Args:
            frames: (t, 3, h, w) in [-1, 1].
            picture: (3, 2h, 2w) in [-1, 1]; of a photograph (6, 2h, 2w), with the three areas in [0, 1] that
                `conditioning.face_mesh.photographed.moving_areas` finds.
            decoded: (3, h, w) in [-1, 1], what the autoencoder makes of the picture at half its size, for photographs:
                frames are compared with it, to see how they move; None: with the picture.

        Returns:
            (t, 3, 2h, 2w) in [-1, 1].
        """
        areas = picture[3:].float().cpu().numpy() if len(picture) > 3 else None
        picture = picture[:3]
        warp = PictureWarp(picture, frames.shape[2:], areas=areas, decoded=decoded)
        shown = picture[None].to(frames)
        small = halved(shown)
        seen = SCALE * CELL * (2 * len(self.body) + 1)  # each convolution looks one cell further
        mouths = None if areas is None else [(place, share.to(frames)) for place, share in _pieces(areas[0], seen)]

        @torch.no_grad()
        def larger(frame: torch.Tensor) -> torch.Tensor:
            warped = warp(frame).contiguous()
            if mouths is None:
                return self(frame, shown, warped, small)[0]
            result = warped[0].clone()
            for (rows, columns), share in mouths:
                y, x = (slice(part.start // SCALE, part.stop // SCALE) for part in (rows, columns))
                piece = warped[..., rows, columns]
                made = self(frame[..., y, x], shown[..., rows, columns], piece, small[..., y, x])
                result[:, rows, columns] += share * (made - piece)[0]
            return result

        # One by one, since the states are as large as the frames.
        results = (
            _on_all_cores(larger, frames.split(1)) if frames.device.type == "cpu" else map(larger, frames.split(1))
        )
        enlarged = frames.new_empty(len(frames), *picture.shape)
        for number, result in enumerate(results):
            enlarged[number] = result
        return enlarged.clamp_(-1, 1)


def _on_all_cores(
    work: Callable[[torch.Tensor], torch.Tensor], parts: tuple[torch.Tensor, ...]
) -> Iterator[torch.Tensor]:
    """Results of `work` in order, one core for each part: cores that share an operation wait for each other."""
    with one_thread() as threads, ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as pool:
        yield from pool.map(work, parts)


class PictureWarp:
    """Brings a picture to where a frame shows it, by optical flow (DIS, Kroeger et al. 2016).

    Args:
        picture: (3, 2h, 2w) in [-1, 1].
        size: height and width of the frames.
        square: top, left and side, in pixels of a frame, of the part that is wanted; None: all of it.
        areas: (3, 2h, 2w) in [0, 1] of a photograph, see `PictureUpscaler.enlarge`.
        decoded: (3, h, w), see there.
    """

    def __init__(
        self,
        picture: torch.Tensor,
        size: tuple[int, ...],
        square: tuple[int, int, int] | None = None,
        areas: np.ndarray | None = None,
        decoded: torch.Tensor | None = None,
    ) -> None:
        height, width = size
        top, left, tall, wide = (0, 0, height, width) if square is None else (*square, square[2])
        self._part = slice(top, top + tall), slice(left, left + wide)
        self._shown = _eight_bit(picture)
        small = cv2.resize(self._shown, (width, height), interpolation=cv2.INTER_AREA)
        self._grey = _grey(small if decoded is None else _eight_bit(decoded))
        self._areas: list[np.ndarray] = []
        if areas is not None:
            self._areas = [cv2.resize(area, (width, height), interpolation=cv2.INTER_AREA)[..., None] for area in areas]
        y, x = np.mgrid[SCALE * top : SCALE * (top + tall), SCALE * left : SCALE * (left + wide)]
        self._place = np.stack([x, y], axis=-1).astype(np.float32)

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        """The picture for each frame.

        Args:
            frames: (n, 3, h, w) in [-1, 1].

        Returns:
            (n, 3, 2h, 2w), or (n, 3, 2·side, 2·side), in [-1, 1].
        """
        height, width = self._place.shape[:2]
        warped = np.empty((len(frames), height, width, 3), np.uint8)
        library: Any = cv2  # its stubs lack what optical flow needs
        for number, frame in enumerate(frames):
            # a new one for each: of small frames it remembers the last
            search = library.DISOpticalFlow_create(library.DISOPTICAL_FLOW_PRESET_MEDIUM)
            flow = search.calc(_grey(_eight_bit(frame)), self._grey, None)
            flow = (_of_heads(flow, *self._areas[1:]) if self._areas else flow)[self._part]
            flow = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR) * SCALE + self._place
            cv2.remap(self._shown, flow, None, cv2.INTER_CUBIC, warped[number], cv2.BORDER_REPLICATE)
        return torch.from_numpy(warped).permute(0, 3, 1, 2).to(frames).div_(127.5).sub_(1)


def _pieces(area: np.ndarray, seen: int) -> Iterator[tuple[tuple[slice, slice], torch.Tensor]]:
    """The connected parts of an area (2h, 2w), each with so many pixels around it.

    Yields:
        Rows and columns of the picture, whole cells, and the part's values there.
    """
    unit = SCALE * CELL
    count, labels, found, _ = cv2.connectedComponentsWithStats((area > 0).astype(np.uint8))
    for number in range(1, count):
        left, top, wide, tall = (int(value) for value in found[number, :4])
        rows, columns = (
            slice(max(0, (start - seen) // unit * unit), min(-(-(start + length + seen) // unit) * unit, end))
            for start, length, end in ((top, tall, area.shape[0]), (left, wide, area.shape[1]))
        )
        yield (rows, columns), torch.from_numpy(np.where(labels == number, area, 0)[rows, columns])


def _of_heads(flow: np.ndarray, heads: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Flow (h, w, 2) of heads as a whole, of which features tell nothing, and none elsewhere; areas (h, w, 1)."""
    known = np.maximum(heads * (1 - features), _LEAST)
    smooth = cv2.GaussianBlur(flow * known, (0, 0), _REACH) / cv2.GaussianBlur(known, (0, 0), _REACH)[..., None]
    return smooth * heads


def halved(picture: torch.Tensor) -> torch.Tensor:
    """Pictures (n, 3, 2h, 2w) at half their size."""
    return nn.functional.avg_pool2d(picture, SCALE)


def _enlarged(pixels: torch.Tensor) -> torch.Tensor:
    return nn.functional.interpolate(pixels, scale_factor=SCALE, mode="bilinear", align_corners=False)


def _eight_bit(pixels: torch.Tensor) -> np.ndarray:
    """Pixels (3, h, w) in [-1, 1] as uint8 (h, w, 3)."""
    scaled = pixels.float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    return scaled.permute(1, 2, 0).contiguous().cpu().numpy()


def _grey(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
