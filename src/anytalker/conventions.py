"""What everything agrees on: how boxes are written, and how many samples a second voices have."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

SAMPLE_RATE = 16000
"""Samples a second of voices, wherever no other rate is named."""

Box = tuple[float, float, float, float]
"""A box is (x, y, width, height) in pixels, x and y those of its left upper corner."""
PixelBox = tuple[int, int, int, int]
"""A box in whole pixels."""


def corners(boxes: ArrayLike) -> np.ndarray:
    """Boxes (..., 4) as corners, the way face tracks have them: floating point left, top, right, bottom in pixels."""
    values = np.asarray(boxes)
    values = values if values.dtype.kind == "f" else values.astype(float)
    return np.concatenate([values[..., :2], values[..., :2] + values[..., 2:]], axis=-1)
