"""Faces: found in drawn pictures, boxes checked with errors that name the culprit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from anytalker import InputError
from anytalker.conditioning.binding import bind_faces
from anytalker.conditioning.face_detection.detectors import _full_range_network
from anytalker.conditioning.face_mesh.landmarks import mesh_network
from anytalker.conditioning.faces import (
    FullRangeFaceDetector,
    YuNetFaceDetector,
    box_overlap,
    check_boxes,
    clip_pixels,
    crop_face,
    detect_faces,
    parse_box,
    scale_box,
    square_box,
)
from anytalker.miniature.world.scenes import UNSEEN_SEED, Scene

ORIGINAL_SCORES = [[-9.2486, -7.3769, -10.1898], [-13.0158, -2.9432, -2.9842], [-11.3367, -3.694, -3.7722]]
ORIGINAL_BOX = [-2.3974, -2.6163, 32.7709, 32.755]


@pytest.mark.parametrize("persons", [1, 2, 3, 4, 5])
def test_drawn_people_are_all_found_and_nobody_is_invented(persons: int) -> None:
    scene = Scene.random(persons, UNSEEN_SEED + 77)
    found = detect_faces(Image.fromarray(scene.picture(256)))
    assert len(found) == persons
    for box, true in zip(found, scene.boxes(256), strict=True):
        assert box_overlap(box, true) > 0.6


def test_three_voices_find_three_drawn_people_without_a_remark() -> None:
    scene, told = Scene.random(3, 1_000_007), []
    people = bind_faces(Image.fromarray(scene.picture(512)), None, 3, told.append)
    assert len(people) == 3
    assert told == []
    for box, true in zip(people, scene.boxes(512), strict=True):
        assert box_overlap(box, true) > 0.6


def test_where_nobody_is_nobody_is_found() -> None:
    rng = np.random.default_rng(3)
    blobs = np.kron(rng.integers(0, 256, (12, 16, 3)), np.ones((20, 20, 1)))
    stripes = np.broadcast_to(127 + 120 * np.sin(np.arange(320) / 5)[None, :, None], (240, 320, 3))
    for pixels in (np.full((200, 200, 3), 130), rng.integers(0, 256, (240, 320, 3)), blobs, stripes):
        assert detect_faces(Image.fromarray(pixels.astype(np.uint8)), 2) == []


def test_the_network_gives_what_the_original_gave() -> None:
    """Outputs of the original file, run by TensorFlow Lite on the same picture."""
    network = _full_range_network(str(FullRangeFaceDetector.WEIGHTS))
    rows, columns = np.mgrid[:192, :192] / 191
    pixels = np.stack([rows, columns, np.sin(9 * rows * columns)]).astype(np.float32)
    with torch.inference_mode():
        scores, boxes = network(torch.from_numpy(pixels)[None])
    np.testing.assert_allclose(scores[0, 0, ::16, ::16].numpy(), ORIGINAL_SCORES, atol=2e-3)
    np.testing.assert_allclose(boxes[0, :4, 24, 24].numpy(), ORIGINAL_BOX, atol=2e-2)


def test_without_weights_the_cascades_look_and_say_so(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(FullRangeFaceDetector, "WEIGHTS", tmp_path / "none.safetensors")
    with pytest.warns(UserWarning, match="cascades"):
        assert detect_faces(Image.new("RGB", (64, 64)), 1) == []


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


def test_large_pictures_are_searched_small_and_large(tmp_path, monkeypatch) -> None:
    close, far = np.array([900, 700, 1000, 1200, 0.9]), np.array([3600, 100, 60, 70, 0.8])

    class Network:
        """Finds faces of 10 to 300 pixels, as YuNet does."""

        def __init__(self, size) -> None:
            self.scale = size[0] / 4032

        def detect(self, pixels):
            found = [face for face in (close, far) if 10 < face[2] * self.scale < 300]
            return 1, np.stack([np.append(face[:4] * self.scale, face[4]) for face in found])

    monkeypatch.setattr("cv2.FaceDetectorYN.create", lambda weights, config, size, confidence: Network(size))
    (tmp_path / "yunet.onnx").write_bytes(b"network")
    found = YuNetFaceDetector(tmp_path / "yunet.onnx")(Image.new("RGB", (4032, 3024)))
    assert found == [((900, 700, 1000, 1200), 0.9), ((3600, 100, 60, 70), 0.8)]


def test_the_surest_faces_win_and_doubles_are_dropped() -> None:
    def detector(image: Image.Image) -> list:
        return [((60, 10, 30, 30), 2.0), ((5, 10, 30, 30), 1.9), ((8, 12, 28, 28), 1.0), ((40, 60, 20, 20), 0.2)]

    image = Image.new("RGB", (100, 100))
    assert detect_faces(image, 2, detector) == [(5, 10, 30, 30), (60, 10, 30, 30)]
    assert detect_faces(image, None, detector) == [(5, 10, 30, 30), (60, 10, 30, 30)]
    assert detect_faces(image, 1, detector) == [(60, 10, 30, 30)]


def test_the_networks_are_in_float32_while_another_thread_has_changed_the_default_type() -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        networks = [_full_range_network.__wrapped__(str(FullRangeFaceDetector.WEIGHTS)), mesh_network.__wrapped__()]
    finally:
        torch.set_default_dtype(torch.float32)
    assert {parameter.dtype for network in networks for parameter in network.parameters()} == {torch.float32}
