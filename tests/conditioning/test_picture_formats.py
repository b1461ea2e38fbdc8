"""Pictures as phones and cameras make them: the table of docs/inputs.md, row by row."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageCms

from anytalker import InputError
from anytalker.conditioning.image import load_image

COLORS = np.array([[[200, 60, 40], [60, 160, 80]], [[40, 70, 190], [180, 180, 180]]], dtype=np.uint8)


def patches(size: int = 48) -> np.ndarray:
    """Four patches of colour, uint8 (2·size, 2·size, 3)."""
    return COLORS.repeat(size, axis=0).repeat(size, axis=1)


def assert_patches(image: Image.Image, tolerance: float = 6, colors: np.ndarray = COLORS) -> None:
    """The middle of every quarter has its colour."""
    assert image.mode == "RGB"
    pixels = np.asarray(image).astype(float)
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    for row in range(2):
        for column in range(2):
            middle = pixels[row * height + height // 2, column * width + width // 2]
            assert np.abs(middle - colors[row, column]).max() <= tolerance, (row, column, middle)


def grey_colors() -> np.ndarray:
    return np.asarray(Image.fromarray(COLORS).convert("L"))[..., None].repeat(3, axis=2)


def png(pixels: np.ndarray, depth: int, kind: int) -> bytes:
    """A PNG of any bit depth: pixels (H, W, channels), colour type as in its standard."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    values = pixels.astype(">u2" if depth == 16 else np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


SAVED = [
    ("phone.jpg", "RGB", {"quality": 95}),
    ("print.jpg", "CMYK", {"quality": 95}),
    ("grey.jpg", "L", {"quality": 95}),
    ("web.webp", "RGB", {"quality": 95}),
    ("new.avif", "RGB", {"quality": 95}),
    ("screen.png", "RGBA", {}),
    ("few colours.png", "P", {}),
    ("scan.tif", "RGB", {"compression": "tiff_lzw"}),
    ("old.bmp", "RGB", {}),
    ("still.gif", "P", {}),
    ("two pictures.mpo", "RGB", {"quality": 95}),
]


@pytest.mark.parametrize(("name", "mode", "options"), SAVED, ids=[row[0] for row in SAVED])
def test_its_colours_are_right(tmp_path, name, mode, options) -> None:
    image = Image.fromarray(patches())
    (image.quantize(4) if mode == "P" else image.convert(mode)).save(tmp_path / name, **options)
    assert_patches(load_image(tmp_path / name), 12 if mode == "CMYK" else 8, grey_colors() if mode == "L" else COLORS)


def test_heic_needs_its_extra(tmp_path, monkeypatch) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.fromarray(patches())).save(tmp_path / "iphone.heic", quality=95)
    assert_patches(load_image(tmp_path / "iphone.heic"), 8)
    monkeypatch.setattr("anytalker.conditioning.image._register_heif", lambda: False)
    with pytest.raises(InputError, match=r"pip install 'anytalker\[heic\]'.*save it as JPEG"):
        load_image(tmp_path / "iphone.heic")


@pytest.mark.parametrize("kind", ["grey", "grey with alpha", "colour", "colour with alpha", "tiff", "float tiff"])
def test_sixteen_bits_become_eight(tmp_path, kind) -> None:
    deep = patches().astype(np.uint16) * 257
    grey = np.asarray(Image.fromarray(patches()).convert("L")).astype(np.uint16)[..., None] * 257
    opaque = np.full((*grey.shape[:2], 1), 65535, np.uint16)
    path = tmp_path / "deep.png"
    if kind == "grey":
        path.write_bytes(png(grey, 16, 0))
    elif kind == "grey with alpha":
        path.write_bytes(png(np.concatenate([grey, opaque], 2), 16, 4))
    elif kind == "colour":
        path.write_bytes(png(deep, 16, 2))
    elif kind == "colour with alpha":
        path.write_bytes(png(np.concatenate([deep, opaque], 2), 16, 6))
    else:
        path = tmp_path / "deep.tif"
        values = grey[..., 0] if kind == "tiff" else grey[..., 0].astype(np.float32) / 65535
        Image.fromarray(values).save(path)
    assert_patches(load_image(path), 3, COLORS if kind.startswith("colour") else grey_colors())


def test_a_wide_gamut_profile_is_followed_and_a_broken_one_ignored(tmp_path) -> None:
    plain = Image.fromarray(patches())
    grey = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain.save(tmp_path / "srgb.png", icc_profile=grey)
    assert_patches(load_image(tmp_path / "srgb.png"), 2)
    lab = ImageCms.createProfile("LAB")
    plain.save(tmp_path / "foreign.png", icc_profile=ImageCms.ImageCmsProfile(lab).tobytes())
    assert_patches(load_image(tmp_path / "foreign.png"), 2)
    plain.save(tmp_path / "broken.png", icc_profile=b"no profile at all")
    assert_patches(load_image(tmp_path / "broken.png"), 2)
    swapped = _red_and_blue_exchanged(grey)
    plain.save(tmp_path / "wide.png", icc_profile=swapped)
    assert_patches(load_image(tmp_path / "wide.png"), 4, COLORS[..., ::-1])


def _red_and_blue_exchanged(profile: bytes) -> bytes:
    """A profile whose red and blue primaries are exchanged: following it exchanges the channels."""
    profile = profile.replace("sRGB".encode("utf-16-be"), "wide".encode("utf-16-be")).replace(b"sRGB", b"wide")
    return profile.replace(b"rXYZ", b"tmp_").replace(b"bXYZ", b"rXYZ").replace(b"tmp_", b"bXYZ")


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_phones_held_in_any_way_are_upright(tmp_path, orientation) -> None:
    turned = {1: 0, 3: 2, 6: 1, 8: 3}[orientation]
    image = Image.fromarray(np.rot90(patches(), turned))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "phone.jpg", quality=95, exif=exif)
    assert_patches(load_image(tmp_path / "phone.jpg"), 8)


@pytest.mark.parametrize("name", ["moving.gif", "moving.webp", "moving.png"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path, name) -> None:
    first, second = Image.fromarray(patches()), Image.new("RGB", (96, 96), (0, 0, 0))
    first.save(tmp_path / name, save_all=True, append_images=[second], duration=100)
    assert_patches(load_image(tmp_path / name), 12)


def film(path: Path, codec: str, pictures: list[np.ndarray], **options: str) -> Path:
    """Write pictures (H, W, 3) at 10 a second."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=10, options=options)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for place, pixels in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = place, Fraction(1, 10)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mov", "mpeg4"), ("a.webm", "libvpx")])
def test_of_a_video_the_first_frame_that_is_not_black_or_the_one_asked_for(tmp_path, name, codec) -> None:
    black, other = np.zeros_like(patches()), patches()[:, ::-1].copy()
    path = film(tmp_path / name, codec, [black] * 3 + [patches()] * 10 + [other] * 10)
    assert_patches(load_image(path), 16)
    assert_patches(load_image(path, at=1.8), 16, COLORS[:, ::-1])
    with pytest.raises(InputError, match=r"a\.\w+.* 2\.3"):
        load_image(path, at=9.0)
    with pytest.raises(InputError, match="0 or more"):
        load_image(path, at=-1.0)


def test_a_time_in_a_picture_and_a_black_video_are_refused(tmp_path) -> None:
    Image.fromarray(patches()).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="no frame at 1 s"):
        load_image(tmp_path / "a.png", at=1.0)
    with pytest.raises(InputError, match="black"):
        load_image(film(tmp_path / "night.mp4", "libx264", [np.zeros_like(patches())] * 5))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jxl", b"\xff\x0a" + bytes(60), "JPEG XL.*JPEG or PNG"),
        ("a.dng", b"no picture" * 20, "raw file.*Export it"),
        ("a.cr3", b"\0\0\0\x18ftypcrx " + bytes(60), "raw file.*Export it"),
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
        ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n", "not a picture"),
        ("a.pdf", b"%PDF-1.4\n", "not a picture"),
    ],
)
def test_what_is_not_read_says_what_to_do(tmp_path, name, content, reason) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=reason) as caught:
        load_image(tmp_path / name)
    assert "\n" not in str(caught.value)
