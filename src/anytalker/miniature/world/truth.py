"""Reads the state of a known drawn face back from pixels: the truth that generated videos are held against.

People of the drawn world are known exactly, so the same person can be drawn in many random states, and a small kernel
regression from those pixels to those states reads any other frame of that person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from scipy.linalg import solve
from scipy.spatial.distance import cdist

from anytalker.miniature.world.behaviour import LOOK_TURN
from anytalker.miniature.world.drawing import EYE_Y, mouth_center
from anytalker.miniature.world.people import FaceState
from anytalker.miniature.world.scenes import Placement, Scene

_SMOOTHING = 0.8
_COMPONENTS = 24
_RIDGE = 1e-2


class FaceReader:
    """Reads one person's mouth and eyes in videos of a scene.

    Args:
        scene: who is there and where.
        person: index from the left.
        height: height of the videos in pixels; their width follows from the scene.
        drawings: random states that the person is drawn in to learn from.
    """

    def __init__(self, scene: Scene, person: int, height: int, drawings: int = 400) -> None:
        drawn, place = scene.people[person], scene.placements[person]
        rng = np.random.default_rng(0)
        states = [_random_state(scene.neutral(person), rng) for _ in range(drawings)]
        alone = replace(scene, people=[drawn], placements=[place], gazes=[scene.gazes[person]])
        x, y = mouth_center(drawn)
        mouth, eyes = (
            _region(place, center, reach, height, scene.width)
            for center, reach in (((x, y + 0.2), (0.62, 0.55)), ((0.0, EYE_Y), (0.75, 0.2)))
        )
        face = _around(mouth, eyes)
        frames = np.stack(list(alone.render([states], height, face)))  # the rest of the picture would take longer
        mouths, looks = _cut(frames, mouth, face), _cut(frames, eyes, face)
        self._mouth = _Regression(mouths, mouth, [state.opening for state in states], (20, 16))
        self._eyes = _Regression(looks, eyes, [state.gaze[0] for state in states], (30, 8))

    def openings(self, frames: np.ndarray) -> np.ndarray:
        """How far the mouth is open in each frame.

        Args:
            frames: float (T, H, W, 3) in [0, 1].

        Returns:
            (T,) from 0 (closed) to 1 (wide open).
        """
        return self._mouth(frames)

    def gazes(self, frames: np.ndarray) -> np.ndarray:
        """Where the eyes look in each frame (T, H, W, 3): (T,) from −1 (left of the picture) to 1."""
        return self._eyes(frames)


def _around(one: tuple[slice, slice], other: tuple[slice, slice]) -> tuple[slice, slice]:
    """The rows and columns that have both parts of a picture in them."""
    rows, columns = (slice(min(p.start, q.start), max(p.stop, q.stop)) for p, q in zip(one, other, strict=True))
    return rows, columns


def _cut(frames: np.ndarray, part: tuple[slice, slice], known: tuple[slice, slice]) -> np.ndarray:
    """A part of pictures of which only the known part, around it, is given."""
    rows, columns = (slice(p.start - q.start, p.stop - q.start) for p, q in zip(part, known, strict=True))
    return frames[:, rows, columns]


class _Regression:
    """Kernel ridge regression from a region's leading components to a number in the range that was learned from."""

    def __init__(
        self, views: np.ndarray, region: tuple[slice, slice], values: Sequence[float], size: tuple[int, int]
    ) -> None:
        self.region, self.size = region, size
        pixels, targets = self._pixels(views), np.asarray(values)
        self.mean, self.offset, self.range = pixels.mean(axis=0), targets.mean(), (targets.min(), targets.max())
        _, scales, components = np.linalg.svd(pixels - self.mean, full_matrices=False)
        self.components = components[:_COMPONENTS]
        self.reach = 1.5 * scales[0] / np.sqrt(len(pixels))
        self.known = (pixels - self.mean) @ self.components.T
        kernel = self._kernel(self.known) + _RIDGE * np.eye(len(pixels))
        self.weights = solve(kernel, targets - self.offset, assume_a="pos")

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        seen = (self._pixels(frames[:, self.region[0], self.region[1]]) - self.mean) @ self.components.T
        return np.clip(self._kernel(seen) @ self.weights + self.offset, *self.range)

    def _pixels(self, regions: np.ndarray) -> np.ndarray:
        """The region of each frame, in [0, 1] or uint8, smoothed and shrunk: float64 (T, values)."""
        views = np.ascontiguousarray(regions, dtype=np.float32)
        if regions.dtype == np.uint8:
            views /= 255
        small = [
            cv2.resize(cv2.GaussianBlur(v, (0, 0), _SMOOTHING), self.size, interpolation=cv2.INTER_AREA) for v in views
        ]
        return np.stack(small).reshape(len(small), -1).astype(np.float64)

    def _kernel(self, points: np.ndarray) -> np.ndarray:
        return np.exp(-cdist(points, self.known, "sqeuclidean") / (2 * self.reach**2))


def _random_state(rest: FaceState, rng: np.random.Generator) -> FaceState:
    opening = float(rng.uniform(0, 1) ** 1.3 * (rng.random() > 0.15))
    voiced = min(1.0, 6 * opening)
    blink = float(np.clip(rng.uniform(-3, 1.2), 0, 1))
    return replace(
        rest,
        opening=opening,
        width=float(0.5 + rng.uniform(-0.5, 0.5) * voiced),
        teeth=float(rng.uniform(0, 1) * voiced),
        tongue=float(rng.uniform(0, 1) ** 2 * voiced),
        blink=blink,
        brow=float(rng.uniform(0, 1)),
        gaze=(float(rng.uniform(-1, 1)), float(rng.uniform(-0.6, 0.6))),
        turn=(float(rng.normal(0, 0.9 * LOOK_TURN)), float(abs(rng.normal(0, 0.7 * LOOK_TURN)))),  # nods go down
        shift=(0.0, float(-0.05 * rng.uniform(0, 1))),
    )


def _region(
    place: Placement, center: tuple[float, float], reach: tuple[float, float], height: int, width: float
) -> tuple[slice, slice]:
    """Rows and columns, within the picture, around a point of the face, in half face widths from its centre."""
    left, right = (int((place.x + (center[0] + side * reach[0]) * place.scale) * height) for side in (-1, 1))
    top, bottom = (int((place.y + (center[1] + side * reach[1]) * place.scale) * height) for side in (-1, 1))
    return slice(max(0, top), min(bottom, height)), slice(max(0, left), min(right, round(width * height)))
