"""Whether the camera moves in a shot, and how: told from what is behind the people, who move anyway.

The picture is divided into fields, so that a large face has no more votes than its size. Where many fields with
something to see in them stay exactly where they are, the camera stands still, whatever the others do.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

_WIDTH = 320
_RATE = 5.0
"""Pictures a second that are looked at."""
_LAGS = (0.4, 1.0, 2.4)
"""Seconds over which motion is measured: short for a shaking camera, long for slow ones, longest for zooms."""
_ROWS, _COLUMNS, _EACH = 6, 10, 5
"""Fields of a picture, and the points that are followed in each."""
_TEXTURE = 2e-5
"""Least texture of a point (OpenCV's smallest eigenvalue, of pictures from 0 to 1)."""
_BLOCK, _VISIBLE = 8, 0.5
"""Side of the squares whose mean colours are compared, in pixels, and the least change of one, of 255."""
_FEWEST = 6
"""Fields with points below which nothing can be said."""
_FIXED = 0.3
"""Pixels by which a point that stays may seem to move."""
_STILL_SHARE = 0.35
"""Share of the fields that stay from which the camera stands still."""
_AGREE, _RATIO = {0.4: 0.5, 1.0: 0.25, 2.4: 0.25}, {0.4: 3.0, 1.0: 1.3, 2.4: 1.3}
"""Least share of fields that move alike, and of the picture that it explains, over what standing still explains."""
_LEAST_SHARE = 0.05
"""Share of the picture that a motion explains at least."""
_SHIFT, _ZOOM, _TURN = {0.4: 0.02, 1.0: 0.011, 2.4: 0.011}, 0.01, 0.015
"""From which shift (of the width a second), zoom (share a second) and rotation (radians a second) a camera moves."""
_RANK, _SHARE = 7, 0.3
"""Which of the fastest moments counts, and at most which share of them, so that a leaning person does not."""


@dataclass(frozen=True)
class CameraMotion:
    """How a camera moves where it moves fastest; all zero (zoom: one) for a camera that stands still.

    Attributes:
        shift: share of the picture's width a second, in any direction.
        zoom: factor a second; above one, things become larger.
        rotation: radians a second around the line of sight.
        moving: whether that is more than a camera on a tripod does.
    """

    shift: float
    zoom: float
    rotation: float
    moving: bool


def camera_motion(
    frames: Iterable[np.ndarray], fps: float, faces: Sequence[Sequence[float]] | None = None
) -> CameraMotion:
    """Measure how the camera moves in a shot, in memory that doesn't grow with its length.

    Corners are followed by sparse optical flow (Lucas-Kanade) over fractions of a second; RANSAC finds the similarity
    transform that most fields of the picture agree on.

    Args:
        frames: uint8 RGB (height, width, 3) of one shot, all of one size.
        fps: frames a second.
        faces: boxes (x, y, width, height) in pixels where people are all the time, if known; nothing is followed there.

    Returns:
        The motion. Of less than half a second, and where there is too little to see, the camera stands still.
    """
    step = max(1, round(fps / _RATE))
    lags = {lag: max(1, round(lag * fps / step)) for lag in _LAGS}
    views: deque[_View] = deque(maxlen=max(lags.values()) + 1)
    speeds = {lag: _Fastest() for lag in _LAGS}
    for index, frame in enumerate(frames):
        if index % step:
            continue
        views.append(_View.of(frame, faces or ()))
        for lag, count in lags.items():
            if len(views) > count and (moved := _moved(views[-1 - count], views[-1], lag)) is not None:
                speeds[lag].add(moved / (count * step / fps))
    return _summary({lag: fastest.motion() for lag, fastest in speeds.items() if fastest.count})


class _Fastest:
    """The largest values of shift, zoom and rotation so far, each for itself."""

    def __init__(self) -> None:
        self.count = 0
        self._largest = np.zeros((0, 3))

    def add(self, motion: np.ndarray) -> None:
        self.count += 1
        largest = np.concatenate([self._largest, motion[None]])
        order = np.argsort(-np.abs(largest), axis=0, kind="stable")[:_RANK]
        self._largest = np.take_along_axis(largest, order, axis=0)

    def motion(self) -> np.ndarray:
        return self._largest[min(_RANK, math.ceil(_SHARE * self.count)) - 1]


def _summary(speeds: dict[float, np.ndarray]) -> CameraMotion:
    """One motion of those over short and long times; zoom and rotation are those over the longest."""
    if not speeds:
        return CameraMotion(0.0, 1.0, 0.0, False)
    _, zoom, turn = (float(value) for value in speeds[max(speeds)])
    shifts = {lag: float(speed[0]) for lag, speed in speeds.items()}
    moving = any(shift > _SHIFT[lag] for lag, shift in shifts.items()) or abs(zoom) > _ZOOM or abs(turn) > _TURN
    return CameraMotion(max(shifts.values()), math.exp(zoom), turn, moving)


@dataclass(frozen=True)
class _View:
    """A small picture, and the points in it that can be followed.

    Attributes:
        colors: uint8 RGB (height, width, 3).
        grey: uint8 (height, width), a little blurred.
        free: boolean (rows, columns), squares without a face.
        points: float32 (points, 1, 2), x and y in pixels.
        fields: int (points,), the field of each.
    """

    colors: np.ndarray
    grey: np.ndarray
    free: np.ndarray
    points: np.ndarray
    fields: np.ndarray

    @classmethod
    def of(cls, frame: np.ndarray, faces: Sequence[Sequence[float]]) -> _View:
        scale = _WIDTH / frame.shape[1]
        size = (_WIDTH, max(8, round(frame.shape[0] * scale)))
        colors = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(colors, cv2.COLOR_RGB2GRAY)
        grey = cv2.GaussianBlur(grey, (5, 5), 0)
        texture = cv2.cornerMinEigenVal(grey.astype(np.float32) / 255, 9)
        free = np.ones_like(texture)
        for x, y, width, height in faces:
            left, top = max(0, int((x - 0.2 * width) * scale)), max(0, int((y - 0.4 * height) * scale))
            free[top : int((y + 1.2 * height) * scale), left : int((x + 1.2 * width) * scale)] = 0
        points, fields = _corners(texture * free)
        return cls(colors, grey, _coarse(free) > 0.99, points, fields)


def _corners(texture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best points of each field, apart from each other: their places (points, 1, 2) and fields (points,)."""
    height, width = texture.shape
    peaks = (texture >= cv2.dilate(texture, np.ones((7, 7), np.uint8))) & (texture > _TEXTURE)
    peaks[:4] = peaks[-4:] = False
    peaks[:, :4] = peaks[:, -4:] = False
    ys, xs = np.nonzero(peaks)
    fields = ys * _ROWS // height * _COLUMNS + xs * _COLUMNS // width
    order = np.lexsort((-texture[ys, xs], fields))
    ys, xs, fields = ys[order], xs[order], fields[order]
    rank = np.arange(len(fields)) - np.searchsorted(fields, fields)
    kept = rank < _EACH
    return np.stack([xs, ys], axis=1)[kept].astype(np.float32)[:, None], fields[kept]


def _moved(before: _View, after: _View, lag: float) -> np.ndarray | None:
    """Shift in widths, logarithm of the zoom and rotation between two views; None if they can't be compared."""
    if len(np.unique(before.fields)) < _FEWEST:
        return _drifted(before, after)
    ends, fields, starts = _followed(before, after)
    if len(np.unique(fields)) < _FEWEST:
        return None
    if _agreeing(fields, np.abs(ends - starts).max(axis=1) < _FIXED) > _STILL_SHARE:
        return np.zeros(3)
    model, _ = cv2.estimateAffinePartial2D(starts, ends, method=cv2.RANSAC, ransacReprojThreshold=1.0, maxIters=500)
    if model is None:
        return None
    apart = np.linalg.norm(ends - (starts @ model[:, :2].T + model[:, 2]), axis=1)
    far = float(np.median(np.linalg.norm(ends - starts, axis=1)))
    still, moving = _votes(before, after, model)
    if _agreeing(fields, apart < 1 + 0.1 * far) < _AGREE[lag] or moving < max(_RATIO[lag] * still, _LEAST_SHARE):
        return np.zeros(3)
    middle = np.array([before.grey.shape[1] / 2, before.grey.shape[0] / 2])
    shift = model[:, :2] @ middle + model[:, 2] - middle
    zoom = math.log(max(1e-3, math.hypot(model[0, 0], model[1, 0])))
    return np.array([np.linalg.norm(shift) / _WIDTH, zoom, math.atan2(model[1, 0], model[0, 0])])


def _drifted(before: _View, after: _View) -> np.ndarray:
    """The shift of a picture without corners, such as a plain wall, from how its brightness changes where it slopes."""
    old, new = _coarse(before.colors), _coarse(after.colors)
    free = before.free[1:-1, 1:-1]
    change = (new - old)[1:-1, 1:-1][free]
    if not free.any() or (np.abs(change).max(axis=1) > _VISIBLE).mean() < 0.5:
        return np.zeros(3)
    slopes = [np.gradient((old + new) / 2, _BLOCK, axis=axis)[1:-1, 1:-1][free].ravel() for axis in (1, 0)]
    shift, *_ = np.linalg.lstsq(np.stack(slopes, axis=1), -change.ravel(), rcond=None)
    return np.array([np.linalg.norm(shift) / _WIDTH, 0.0, 0.0])


def _votes(before: _View, after: _View, model: np.ndarray) -> tuple[float, float]:
    """Shares of the picture that are explained better by a camera that stands still, and by one that moved so."""
    height, width = before.grey.shape
    moved = cv2.warpAffine(before.colors, model, (width, height), flags=cv2.INTER_LINEAR)
    seen = cv2.warpAffine(np.ones((height, width), np.float32), model, (width, height))
    seen = (_coarse(seen) > 0.99) & before.free & after.free
    without = np.abs(_coarse(after.colors) - _coarse(before.colors)).mean(axis=2)[seen]
    along = np.abs(_coarse(after.colors) - _coarse(moved)).mean(axis=2)[seen]
    if not len(along):
        return 1.0, 0.0
    margin = max(0.25, 2.0 * float(np.quantile(np.minimum(without, along), 0.3)))
    return float((along - without > margin).mean()), float((without - along > margin).mean())


def _coarse(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    return cv2.resize(picture.astype(np.float32), (width // _BLOCK, height // _BLOCK), interpolation=cv2.INTER_AREA)


def _followed(before: _View, after: _View) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where points are later (points, 2), their fields (points,), and where they were (points, 2)."""
    how: dict[str, Any] = {"winSize": (15, 15), "maxLevel": 3, "minEigThreshold": 1e-5}
    later, found, _ = cv2.calcOpticalFlowPyrLK(before.grey, after.grey, before.points, None, **how)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(after.grey, before.grey, later, None, **how)
    returned = np.abs(back - before.points).max(axis=(1, 2)) < 0.5
    kept = returned & (found[:, 0] > 0) & (found_back[:, 0] > 0)
    return later[kept, 0], before.fields[kept], before.points[kept, 0]


def _agreeing(fields: np.ndarray, agree: np.ndarray) -> float:
    """Share of the fields in which at least half of the points agree."""
    number = np.bincount(fields)
    share = np.bincount(fields, weights=agree)[number > 0] / number[number > 0]
    return float((share >= 0.5).mean())
