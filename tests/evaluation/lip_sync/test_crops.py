"""Faces cut out of frames, against pictures whose crops are known."""

from __future__ import annotations

import numpy as np
import pytest

from anytalker.errors import InputError
from anytalker.evaluation.lip_sync.crops import FaceCrop, crop_faces, present, smooth_boxes


def ramp(height: int = 60, width: int = 80) -> np.ndarray:
    """A picture whose red channel says the column and whose green says the row."""
    rows, columns = np.indices((height, width))
    return np.stack([columns, rows, 0 * rows], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("box", [(20, 20, 40, 40), (20.5, 20.25, 40.5, 40.25), (10, 5, 50, 45)])
@pytest.mark.parametrize("size", [10, 17, 64])
def test_a_crop_is_placed_exactly(box: tuple[float, ...], size: int) -> None:
    crop = FaceCrop(size=size, side=0.8, shift=(0.05, 0.1), color="bgr")
    view = crop.cut(ramp(), np.array(box)).astype(float)
    larger = box[2] - box[0]
    # Pixel centres lie at half numbers.
    moments = (np.arange(size) + 0.5) / size * 0.8 * larger - 0.4 * larger - 0.5
    np.testing.assert_allclose(view[size // 2, :, 2], (box[0] + box[2]) / 2 + 0.05 * larger + moments, atol=1.01)
    np.testing.assert_allclose(view[:, size // 2, 1], (box[1] + box[3]) / 2 + 0.1 * larger + moments, atol=1.01)
    assert abs((view[..., 2].mean() - (box[0] + box[2]) / 2 - 0.05 * larger) + 0.5) < 0.5


def test_what_lies_outside_is_the_edge_or_a_colour() -> None:
    frame, box = np.full((20, 20, 3), 200, np.uint8), np.array([-10.0, -10.0, 10.0, 10.0])
    assert (FaceCrop(16, 1.0).cut(frame, box) == 200).all()
    filled = FaceCrop(16, 1.0, filling=110).cut(frame, box)
    assert (filled[:7] == 110).all()
    assert (filled[:, :7] == 110).all()
    assert (filled[9:, 9:] == 200).all()


def test_frames_are_read_once_and_faces_may_be_missing() -> None:
    frames = [np.full((30, 60, 3), 10 * index, np.uint8) for index in range(1, 6)]
    boxes = np.tile(np.array([[5.0, 5, 25, 25], [35, 5, 55, 25]]), (5, 1, 1))
    boxes[2, 1] = np.nan
    boxes[3, 0] = (5, 5, 5, 25)
    crops, found = crop_faces(iter(frames), boxes, FaceCrop(8, 0.6))
    assert crops.shape == (5, 2, 8, 8)
    assert found.tolist() == [[True, True], [True, True], [True, False], [False, True], [True, True]]
    assert crops[:, 0, 4, 4].tolist() == [10, 20, 30, 0, 50]
    assert crops[:, 1, 4, 4].tolist() == [10, 20, 0, 40, 50]
    still, there = crop_faces(iter(frames), boxes[0], FaceCrop(8, 0.6))
    assert there.all()
    assert still[3, 0, 4, 4] == 40


@pytest.mark.parametrize(
    ("frames", "boxes"),
    [
        (np.zeros((3, 20, 20, 3), np.uint8), np.zeros((2, 1, 4))),
        (np.zeros((3, 20, 20, 3), np.uint8), np.zeros((4, 1, 4))),
        (np.zeros((3, 20, 20, 3), np.uint8), np.zeros((3, 4, 1))),
        (np.zeros((3, 20, 20, 3), np.float32), np.zeros((3, 1, 4))),
        (np.zeros((0, 20, 20, 3), np.uint8), np.zeros((1, 4))),
    ],
)
def test_what_does_not_fit_is_refused(frames: np.ndarray, boxes: np.ndarray) -> None:
    with pytest.raises(InputError):
        crop_faces(frames, boxes, FaceCrop(8, 1.0))


def test_smoothing_is_a_median_that_ignores_missing_faces() -> None:
    boxes = np.tile(np.array([0.0, 0, 10, 10]), (7, 1, 1))
    boxes[3, 0] += 50
    boxes[6, 0] = np.nan
    smooth = smooth_boxes(boxes, 3)
    assert (smooth[:6, 0] == [0, 0, 10, 10]).all()
    assert not present(smooth)[6, 0]
    assert smooth_boxes(boxes, 1) is boxes
