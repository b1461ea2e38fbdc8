"""What faces do, from their landmarks: mouths, eyes, and where heads turn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

from anytalker.conditioning.face_mesh.landmarks import FaceMesh, find_landmarks, stream_landmarks

_INNER_LIPS = ((82, 87), (13, 14), (312, 317))
_OUTER_LIPS = ((37, 84), (0, 17), (267, 314))
_CORNERS = (78, 308)
_EYES = (((160, 144), (158, 153), (33, 133)), ((385, 380), (387, 373), (362, 263)))
_EYE_CORNERS = (33, 263)
_FOREHEAD, _CHIN = 10, 152
_CHEEKS = (234, 454)


@dataclass(frozen=True)
class FaceMotion:
    """What P faces do over T frames; NaN where a face is missing. Lengths are in units of the distance between the
    outer corners of the eyes.

    Attributes:
        opening: (T, P) gap between the lips, about 0 when they are closed.
        width: (T, P) distance between the corners of the mouth.
        height: (T, P) from the upper edge of the upper lip to the lower edge of the lower one.
        eyes: (T, P, 2) gap between the lids over the eye's width, first of the eye further left in an upright picture.
        yaw: (T, P) degrees that the head turns sideways; positive: to the right of the picture.
        pitch: (T, P) degrees; positive: down.
        roll: (T, P) degrees clockwise.
        confidence: (T, P) from 0 to 1, that there is a face.
    """

    opening: np.ndarray
    width: np.ndarray
    height: np.ndarray
    eyes: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray
    roll: np.ndarray
    confidence: np.ndarray

    def mouth(self, person: int) -> np.ndarray:
        """One person's mouth (T, 3): opening, height, width."""
        return np.stack([values[:, person] for values in (self.opening, self.height, self.width)], axis=1)


def follow_faces(frames: Iterable[np.ndarray], boxes: np.ndarray) -> FaceMotion:
    """What tracked faces do in a video, read once; landmarks are not kept. Input and errors are `stream_landmarks`'."""
    parts = [read_motion(mesh) for mesh in stream_landmarks(frames, boxes)]
    if not parts:
        return read_motion(find_landmarks([], boxes))
    return FaceMotion(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(FaceMotion)))


def read_motion(mesh: FaceMesh) -> FaceMotion:
    """Measure mouths, eyes and heads."""
    points = mesh.points.astype(np.float64)
    flat = points[..., :2]
    across = points[..., _EYE_CORNERS[1], :] - points[..., _EYE_CORNERS[0], :]
    size = np.linalg.norm(across, axis=-1)
    down = _unit(flat[..., _CHIN, :] - flat[..., _FOREHEAD, :])

    def gap(pairs: tuple[tuple[int, int], ...]) -> np.ndarray:
        gaps = [((flat[..., low, :] - flat[..., high, :]) * down).sum(axis=-1) for high, low in pairs]
        return np.mean(gaps, axis=0) / size

    def distance(pair: tuple[int, int]) -> np.ndarray:
        return np.linalg.norm(points[..., pair[1], :] - points[..., pair[0], :], axis=-1) / size

    eyes = [gap(lids[:2]) / distance(lids[2]) for lids in _EYES]
    right = _unit(points[..., _CHEEKS[1], :] - points[..., _CHEEKS[0], :])
    below = points[..., _CHIN, :] - points[..., _FOREHEAD, :]
    below = _unit(below - (below * right).sum(axis=-1, keepdims=True) * right)
    front = np.cross(below, right)
    return FaceMotion(
        opening=gap(_INNER_LIPS),
        width=distance(_CORNERS),
        height=gap(_OUTER_LIPS),
        eyes=np.stack(eyes, axis=-1),
        yaw=np.degrees(np.arctan2(front[..., 0], -front[..., 2])),
        pitch=np.degrees(np.arcsin(np.clip(front[..., 1], -1, 1))),
        roll=np.degrees(np.arctan2(across[..., 1], across[..., 0])),
        confidence=mesh.confidence,
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
