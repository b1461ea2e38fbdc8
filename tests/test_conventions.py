"""Boxes and corners."""

from __future__ import annotations

import numpy as np

from anytalker.conventions import corners


def test_corners_of_boxes() -> None:
    assert corners((10, 20, 30, 40)).tolist() == [10, 20, 40, 60]
    boxes = np.array([[[0.5, 1, 2, 3]], [[np.nan] * 4]], dtype=np.float32)
    assert corners(boxes).dtype == np.float32
    np.testing.assert_array_equal(corners(boxes), [[[0.5, 1, 2.5, 4]], [[np.nan] * 4]])
