"""Where the eyes of photographed people are, which a model that has only seen drawn ones can't move."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from anytalker.conditioning.face_mesh.landmarks import find_landmarks
from anytalker.conventions import Box, corners

# Each eye with its brow, and the outer corners of both: points of MediaPipe's canonical face model.
EYES_WITH_BROWS = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 70, 63, 105, 66, 107, 55, 46, 53, 52, 65),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 300, 293, 334, 296, 336, 285, 276, 283, 282, 295),
)
EYE_CORNERS = (33, 263)

_SURE = 0.5
_AROUND, _FADE = 0.1, 0.05
"""How far around eyes and brows the areas reach, and fade, in distances between the outer corners of the eyes."""


def eye_areas(picture: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """Where eyes and brows are: 1 there, 0 elsewhere, with soft edges.

    Args:
        picture: uint8 RGB (H, W, 3).
        boxes: face boxes (x, y, width, height), brows to chin, in pixels.

    Returns:
        float32 (H, W). A face in which no landmarks are found adds nothing.
    """
    areas = np.zeros(picture.shape[:2], np.float32)
    mesh = find_landmarks([picture], np.array([corners(boxes)], dtype=np.float64))
    for points, confidence in zip(mesh.points[0, ..., :2], mesh.confidence[0], strict=True):
        if confidence < _SURE:
            continue
        unit = float(np.linalg.norm(np.subtract(*points[list(EYE_CORNERS)])))
        fade, reach = max(0.5, _FADE * unit), max(1, round(_AROUND * unit))
        around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        for part in EYES_WITH_BROWS:
            area = np.zeros(picture.shape[:2], np.uint8)
            cv2.fillConvexPoly(area, cv2.convexHull(points[list(part)].astype(np.float32)).astype(np.int32), 1)
            soft = cv2.GaussianBlur(cv2.dilate(area, around).astype(np.float32), (0, 0), fade)
            np.maximum(areas, soft, out=areas)
    return areas.clip(0, 1)
