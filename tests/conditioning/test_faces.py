"""Faces: found in drawn pictures, boxes checked with errors that name the culprit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from anytalker import InputError
from anytalker.conditioning.faces import (
    YuNetFaceDetector,
    check_boxes,
    clip_pixels,
    crop_face,
    detect_faces,
    parse_box,
    scale_box,
    square_box,
)
from anytalker.miniature.scenes import UNSEEN_SEED, Scene


def test_drawn_people_are_found_from_left_to_right() -> None:
    hits = total = 0
    for seed in range(4):
        scene = Scene.random(2, UNSEEN_SEED + seed)
        found = detect_faces(Image.fromarray(scene.picture(256)), 2)
        assert [box[0] for box in found] == sorted(box[0] for box in found)
        for box in scene.boxes(256):
            total += 1
            middle = box[0] + box[2] / 2, box[1] + box[3] / 2
            hits += any(x < middle[0] < x + w and y < middle[1] < y + h for x, y, w, h in found)
    assert hits >= total - 1


def test_an_empty_wall_has_no_faces() -> None:
    assert detect_faces(Image.new("RGB", (200, 200), (120, 140, 160)), 2) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1,2,3", "malformed"),
        ("a,b,c,d", "malformed"),
        ("", "malformed"),
        ("1,2,nan,4", "not a number"),
        ("10,10,0,20", "no size"),
        ("10,10,20,-5", "no size"),
    ],
)
def test_malformed_boxes_are_named(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        parse_box(text)
    assert text in str(caught.value)


def test_boxes_outside_or_of_the_same_person_are_refused() -> None:
    assert check_boxes([(10, 10, 40, 40), (55, 10, 40, 40)], (100, 100)) == [(10, 10, 40, 40), (55, 10, 40, 40)]
    for box in ((70, 10, 40, 40), (-5, 0, 20, 20), (0, 90, 20, 20), (500, 500, 20, 20)):
        with pytest.raises(InputError, match="outside the picture"):
            check_boxes([box], (100, 100))
    with pytest.raises(InputError, match="same person"):
        check_boxes([(10, 10, 40, 40), (14, 12, 40, 40)], (100, 100))


def test_squares_stay_inside() -> None:
    assert square_box((10, 20, 30, 50), (200, 200)) == (0, 20, 50, 50)
    assert square_box((170, 180, 30, 20), (200, 200)) == (170, 170, 30, 30)
    assert square_box((0, 0, 90, 40), (90, 60)) == (15, 0, 60, 60)


def test_boxes_scale_with_the_picture() -> None:
    assert scale_box((100, 50, 40, 20), (400, 200), (200, 200)) == (50, 50, 20, 20)


def test_clip_pixels_squash_and_normalise() -> None:
    image = Image.fromarray(np.full((50, 90, 3), 255, np.uint8))
    pixels = clip_pixels([image, crop_face(image, (10, 10, 20, 20))], 32)
    assert pixels.shape == (2, 3, 32, 32)
    expected = (1 - torch.tensor([0.48145466, 0.4578275, 0.40821073])) / torch.tensor(
        [0.26862954, 0.26130258, 0.27577711]
    )
    torch.testing.assert_close(pixels[0, :, 5, 5], expected)


def test_a_missing_detector_file_is_named(tmp_path) -> None:
    with pytest.raises(InputError, match=r"yunet\.onnx"):
        YuNetFaceDetector(tmp_path / "yunet.onnx")


def test_a_downloaded_detector_is_used_and_a_damaged_one_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ANYTALKER_HOME", str(tmp_path))
    image = Image.new("RGB", (64, 64))
    assert detect_faces(image, 1) == []
    (tmp_path / "face_detection_yunet_2023mar.onnx").write_bytes(b"no network")
    with pytest.raises(InputError, match=r"yunet_2023mar\.onnx is no YuNet"):
        detect_faces(image, 1)


def test_the_surest_faces_win_and_doubles_are_dropped() -> None:
    def detector(image: Image.Image) -> list:
        return [((60, 10, 30, 30), 2.0), ((5, 10, 30, 30), 1.9), ((8, 12, 28, 28), 1.0), ((40, 60, 20, 20), 0.2)]

    image = Image.new("RGB", (100, 100))
    assert detect_faces(image, 2, detector) == [(5, 10, 30, 30), (60, 10, 30, 30)]
    assert detect_faces(image, None, detector) == [(5, 10, 30, 30), (60, 10, 30, 30)]
    assert detect_faces(image, 1, detector) == [(60, 10, 30, 30)]
