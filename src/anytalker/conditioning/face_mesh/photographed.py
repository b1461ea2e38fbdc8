"""What moves in a photograph: where a model that has only seen drawn people may draw, and what it may only move."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from anytalker.conditioning.face_mesh.landmarks import find_landmarks
from anytalker.conventions import Box, corners

# Points of MediaPipe's canonical face model: outer lips, and each eye with its brow.
LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
EYES_WITH_BROWS = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 70, 63, 105, 66, 107, 55, 46, 53, 52, 65),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 300, 293, 334, 296, 336, 285, 276, 283, 282, 295),
)
EYE_CORNERS = (33, 263)

_SURE = 0.5
_AROUND_LIPS, _FADE = 0.22, 0.1
"""How far around lips mouths reach, and how softly areas end, in widths of a face box."""
_HEAD = (0.72, 0.95)
"""Half axes of a head with its hair, in widths of a face box."""
_UP = 0.16
"""How far the middle of a head lies above that of its box, which goes from brows to chin."""


def moving_areas(picture: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """Where mouths are, which change, and heads, which move; all else of a photograph stands still.

    Args:
        picture: uint8 RGB (H, W, 3).
        boxes: face boxes (x, y, width, height), brows to chin, in pixels.

    Returns:
        float32 (3, H, W) in [0, 1]: mouths; heads; and what of a head doesn't tell how it moves, because such a model
        draws it as it knows it: mouths, eyes and brows. A face without landmarks has its mouth where most have it.
    """
    mouths, heads, features = np.zeros((3, *picture.shape[:2]), np.float32)
    mesh = find_landmarks([picture], np.array([corners(boxes)], dtype=np.float64))
    for box, points, confidence in zip(boxes, mesh.points[0, ..., :2], mesh.confidence[0], strict=True):
        left, top, width, height = box
        middle = left + width / 2, top + height / 2
        head = _ellipse((middle[0], middle[1] - _UP * height), (_HEAD[0] * width, _HEAD[1] * width))
        np.maximum(heads, _filled(heads.shape, head, 0.0, 1.5 * _FADE * width), out=heads)
        parts = [points[list(part)] for part in (LIPS, *EYES_WITH_BROWS)]
        if confidence < _SURE:
            lips = _ellipse((middle[0], top + 0.8 * height), (0.25 * width, 0.1 * height))
            parts = [lips, _ellipse((middle[0], top + 0.25 * height), (0.4 * width, 0.2 * height))]
        np.maximum(mouths, _filled(mouths.shape, parts[0], _AROUND_LIPS * width, _FADE * width), out=mouths)
        for part in parts[1:]:
            np.maximum(features, _filled(features.shape, part, _FADE * width, _FADE * width), out=features)
    return np.stack([mouths, heads, np.maximum(features, mouths)]).clip(0, 1)


def _ellipse(middle: tuple[float, float], axes: tuple[float, float]) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.stack([middle[0] + axes[0] * np.cos(angle), middle[1] + axes[1] * np.sin(angle)], axis=1)


def _filled(shape: tuple[int, ...], outline: np.ndarray, around: float, fade: float) -> np.ndarray:
    """1 within the hull of points (n, 2) and so many pixels around it, with soft edges."""
    area = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(area, cv2.convexHull(outline.astype(np.float32)).astype(np.int32), 1)
    reach = round(around)
    if reach:
        area = cv2.dilate(area, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))
    return cv2.GaussianBlur(area.astype(np.float32), (0, 0), max(0.5, fade / 2))
