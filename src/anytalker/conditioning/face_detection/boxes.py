"""How much boxes share, and boxes in whole pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anytalker.conventions import PixelBox


def box_overlap(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float:
    """Intersection over union of two boxes (x, y, width, height)."""
    one, other = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    sides = np.minimum(one[:2] + one[2:], other[:2] + other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    return shared / (float(np.prod(one[2:])) + float(np.prod(other[2:])) - shared)


def rounded_box(values: Sequence[float] | np.ndarray) -> PixelBox:
    """A box in whole pixels."""
    x, y, width, height = (int(round(float(value))) for value in values)
    return x, y, width, height
