"""Faces cut out of a video in one pass, for the models that judge them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from anytalker.errors import InputError


@dataclass(frozen=True)
class FaceCrop:
    """Which square around a face box a model looks at.

    Attributes:
        size: side of the crop in pixels.
        side: side of the square, in units of the box's larger side.
        shift: how far its centre lies to the right of the box's and below it, in the same units.
        color: "gray" (one channel) or "bgr" (three).
        smoothing: frames (odd) of a running median over the boxes; 1 leaves them as they are.
        filling: value of what lies outside the picture, 0 to 255; None repeats the picture's edge.
    """

    size: int
    side: float
    shift: tuple[float, float] = (0.0, 0.0)
    color: str = "gray"
    smoothing: int = 1
    filling: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a crop: (size, size) or (size, size, 3)."""
        return (self.size, self.size) if self.color == "gray" else (self.size, self.size, 3)

    def cut(self, frame: np.ndarray, box: np.ndarray) -> np.ndarray:
        """The crop, uint8 of `shape`, of a frame uint8 (H, W, 3) RGB at a face box (4,) of corners in px."""
        larger = max(box[2] - box[0], box[3] - box[1])
        side = self.side * larger
        x = (box[0] + box[2]) / 2 + self.shift[0] * larger
        y = (box[1] + box[3]) / 2 + self.shift[1] * larger
        # Cut whole pixels with a margin, then place the square exactly: averaging first keeps thin lips.
        view, left, top = self._around(frame, x, y, side)
        scale = self.size / side
        if scale < 1:
            view = cv2.resize(view, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            # cv2 rounds the size, so the true factors differ a little from `scale`.
            factors = view.shape[1] / self._reach(side), view.shape[0] / self._reach(side)
            shift = [(x - left) * factors[0] - self.size / 2, (y - top) * factors[1] - self.size / 2]
            place = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
        else:
            corner = (x - left - side / 2 + 0.5 / scale - 0.5, y - top - side / 2 + 0.5 / scale - 0.5)
            place = np.array([[1 / scale, 0, corner[0]], [0, 1 / scale, corner[1]]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        crop = cv2.warpAffine(view, place, (self.size, self.size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY if self.color == "gray" else cv2.COLOR_RGB2BGR)

    @staticmethod
    def _reach(side: float) -> int:
        return int(np.ceil(side)) + 4

    def _around(self, frame: np.ndarray, x: float, y: float, side: float) -> tuple[np.ndarray, int, int]:
        """A view around the square with 2 pixels to spare, and where in the frame it starts."""
        reach = self._reach(side)
        left, top = int(np.floor(x - side / 2)) - 1, int(np.floor(y - side / 2)) - 1
        height, width = frame.shape[:2]
        if top >= 0 and left >= 0 and top + reach <= height and left + reach <= width:
            return frame[top : top + reach, left : left + reach], left, top
        rows, columns = np.arange(top, top + reach), np.arange(left, left + reach)
        view = frame[np.clip(rows, 0, height - 1)[:, None], np.clip(columns, 0, width - 1)[None]]
        if self.filling is not None:
            view[(rows < 0) | (rows >= height)] = self.filling
            view[:, (columns < 0) | (columns >= width)] = self.filling
        return view, left, top


class FaceCrops:
    """Cuts every person's face out of the frames of a video as they are decoded; keeps the crops and no frame.

    Args:
        boxes: face boxes (T, P, 4) xyxy px, NaN where a face is missing; (P, 4): the same in every frame.
        crop: what to cut.

    Raises:
        InputError: if the boxes have another shape.
    """

    def __init__(self, boxes: np.ndarray, crop: FaceCrop) -> None:
        boxes = np.asarray(boxes, dtype=float)
        if boxes.shape[-1:] != (4,) or boxes.ndim not in (2, 3):
            raise InputError(f"Face boxes have shape {boxes.shape}; give (frames, people, 4) or (people, 4).")
        self.crop, self.still, self.count = crop, boxes.ndim == 2, 0
        self._boxes = boxes if self.still else smooth_boxes(boxes, crop.smoothing)
        # As many rows as there will be, where that is known: a list of them would be copied in the end.
        self._rows: Any = [] if self.still else np.zeros((*boxes.shape[:2], *crop.shape), dtype=np.uint8)

    def add(self, frame: np.ndarray) -> None:
        """Cut the faces out of the next frame, uint8 (H, W, 3) RGB.

        Raises:
            InputError: if it is anything else, or there are no boxes for it.
        """
        if self.still:
            self._rows.append(_cut_row(frame, self._boxes, self.crop))
        elif self.count < len(self._boxes):
            self._rows[self.count] = _cut_row(frame, self._boxes[self.count], self.crop)
        else:
            raise InputError(f"The video has more frames than the {self.count} that there are face boxes for.")
        self.count += 1

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Crops uint8 (T, P, *crop.shape), black where a face is missing; and boolean (T, P), where it is there.

        Raises:
            InputError: if there were fewer frames than boxes, or none.
        """
        if self.still:
            if not self._rows:
                raise InputError("The video has no frames.")
            return np.stack(self._rows), np.tile(present(self._boxes), (self.count, 1))
        if self.count == 0 or self.count < len(self._boxes):
            raise InputError(f"The video has {self.count} frames, and there are face boxes for {len(self._boxes)}.")
        return self._rows, present(self._boxes)


def crop_faces(frames: Iterable[np.ndarray], boxes: np.ndarray, crop: FaceCrop) -> tuple[np.ndarray, np.ndarray]:
    """Cut every person's face out of a video, reading its frames once and keeping none.

    Args:
        frames: uint8 (H, W, 3) RGB each; an array (T, H, W, 3) or any iterator.
        boxes: face boxes (T, P, 4) xyxy px, NaN where a face is missing; (P, 4): the same in every frame.
        crop: what to cut.

    Returns:
        Crops and where faces are, see `FaceCrops.result`.

    Raises:
        InputError: if the boxes have another shape, or there are fewer or more frames than boxes.
    """
    faces = FaceCrops(boxes, crop)
    for frame in frames:
        faces.add(frame)
    return faces.result()


def _cut_row(frame: np.ndarray, boxes: np.ndarray, crop: FaceCrop) -> np.ndarray:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise InputError(f"A frame is {frame.dtype} {frame.shape}; give uint8 (height, width, 3).")
    row = np.zeros((len(boxes), *crop.shape), dtype=np.uint8)
    for person in np.flatnonzero(present(boxes)):
        row[person] = crop.cut(frame, boxes[person])
    return row


def present(boxes: np.ndarray) -> np.ndarray:
    """Boolean (...): where boxes (..., 4), as corners, are a face's: finite, at least two pixels wide and high."""
    with np.errstate(invalid="ignore"):
        sides = boxes[..., 2:] - boxes[..., :2]
        return np.isfinite(boxes).all(axis=-1) & (sides >= 2).all(axis=-1)


def smooth_boxes(boxes: np.ndarray, width: int) -> np.ndarray:
    """Running median over `width` frames (odd) of boxes (T, P, 4); missing ones count for nothing and stay missing."""
    if width <= 1:
        return boxes
    known = np.where(present(boxes)[..., None], boxes, np.nan)
    reach = width // 2
    smooth = np.full(boxes.shape, np.nan)
    for frame, person in zip(*np.nonzero(present(boxes)), strict=True):
        around = known[max(0, frame - reach) : frame + reach + 1, person]
        smooth[frame, person] = np.nanmedian(around, axis=0)
    return smooth
