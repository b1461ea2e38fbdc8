"""Pictures: sizes as in the release, and refusals that name what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from anytalker import InputError
from anytalker.media.pictures import frame_size, load_image, to_video_tensor


def test_frame_sizes_equal_the_release(preprocess_cases) -> None:
    for case in preprocess_cases["frame_sizes"]:
        assert list(frame_size(*case["input"], case["max_area"])) == case["output"], case


def test_a_turned_transparent_picture_becomes_upright_on_white(tmp_path) -> None:
    pixels = np.zeros((40, 60, 4), dtype=np.uint8)
    pixels[:, :30] = (255, 0, 0, 255)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    loaded = load_image(tmp_path / "turned.png")
    assert loaded.size == (40, 60)
    assert loaded.getpixel((20, 5)) == (255, 0, 0)
    assert loaded.getpixel((20, 55)) == (255, 255, 255)


def test_the_video_tensor_spans_minus_one_to_one() -> None:
    image = Image.fromarray(np.array([[[0, 128, 255]]], dtype=np.uint8)).resize((32, 32), 0)
    tensor = to_video_tensor(image)
    assert tensor.shape == (1, 3, 1, 32, 32)
    assert tensor[0, 0].max() == -1
    assert tensor[0, 2].min() == 1


def test_bad_pictures_are_named(tmp_path) -> None:
    rng = np.random.default_rng(0)
    good = tmp_path / "good.png"
    Image.fromarray(rng.integers(0, 255, (200, 200, 3), dtype=np.uint8)).save(good)
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:20000])
    (tmp_path / "text.png").write_text("this is no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    Image.new("1", (20000, 40)).save(tmp_path / "wide.png")
    Image.new("1", (16000, 16000)).save(tmp_path / "bomb.png")
    for name, reason in {
        "missing.png": "There is no picture",
        "cut.png": "damaged or cut off",
        "text.png": "not a picture",
        "empty.png": "not a picture",
        "dot.png": "1×1",
        "wide.png": "20000×40",
        "bomb.png": "16000×16000|far too large",
    }.items():
        with pytest.raises(InputError, match=reason) as caught:
            load_image(tmp_path / name)
        assert name in str(caught.value)


def test_a_jpeg_cut_in_the_middle_is_refused(tmp_path) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(InputError, match="damaged or cut off"):
        load_image(path)
