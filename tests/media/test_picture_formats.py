"""Pictures as phones and cameras make them: the table of docs/inputs.md, row by row."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, features

from anytalker import InputError
from anytalker.media import pictures as image_module
from anytalker.media.color import HLG, PQ, tone_mapped
from anytalker.media.pictures import load_image

SKIN = (200, 140, 110)


def ramp() -> np.ndarray:
    """uint16 (64, 64), from black at the left to white at the right."""
    return np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))


def near(image: Image.Image, place: tuple[int, int], color: tuple[int, int, int], within: int = 3) -> bool:
    found = image.getpixel(place)
    return max(abs(a - b) for a, b in zip(found, color, strict=True)) <= within


def _deep(path: Path, kind: str) -> None:
    grey = ramp()
    if kind == "I;16":
        Image.fromarray(grey).save(path)
    elif kind == "I;16B":
        Image.frombytes("I;16B", (64, 64), grey.astype(">u2").tobytes()).save(path)
    elif kind == "I":
        Image.fromarray(grey.astype(np.int32)).save(path)
    elif kind == "F":
        Image.fromarray(grey.astype(np.float32) / 65535).save(path)
    else:
        channels = {"RGB": 3, "RGBA": 4}[kind]
        values = np.stack([grey] * 3 + [np.full_like(grey, 65535)], axis=-1)[..., :channels]
        cv2.imwrite(str(path), values)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("grey.png", "I;16"),
        ("grey.tiff", "I;16"),
        ("motorola.tiff", "I;16B"),
        ("whole.tiff", "I"),
        ("real.tiff", "F"),
        ("color.png", "RGB"),
        ("color.tiff", "RGB"),
        ("alpha.png", "RGBA"),
    ],
)
def test_sixteen_bits_become_eight(tmp_path, name, kind) -> None:
    _deep(tmp_path / name, kind)
    loaded = np.asarray(load_image(tmp_path / name))
    expected = np.round(ramp() / 257)[..., None]
    assert loaded.shape == (64, 64, 3)
    assert np.abs(loaded - expected).max() <= 1


def test_deep_pictures_with_numbers_beyond_are_spanned(tmp_path) -> None:
    for top in (255.0, 65535.0, 1e6):
        Image.fromarray((ramp() / 65535 * top).astype(np.float32)).save(tmp_path / "beyond.tiff")
        loaded = load_image(tmp_path / "beyond.tiff")
        assert near(loaded, (63, 0), (255,) * 3)
        assert near(loaded, (32, 0), (130,) * 3, 2)
    Image.fromarray(np.full((64, 64), np.nan, np.float32)).save(tmp_path / "none.tiff")
    with pytest.raises(InputError, match="not numbers"):
        load_image(tmp_path / "none.tiff")


def _plain() -> Image.Image:
    return Image.new("RGB", (64, 48), SKIN)


def _palette(path: Path) -> None:
    image = Image.new("P", (64, 48), 0)
    image.putpalette([*SKIN, 0, 0, 0])
    image.paste(1, (0, 0, 20, 48))
    image.save(path, transparency=1)


def _animation(path: Path) -> None:
    _plain().save(path, save_all=True, append_images=[Image.new("RGB", (64, 48), "blue")], duration=100)


def _gain_map(path: Path) -> None:
    """A JPEG with another behind it, as Ultra HDR has it: what is not told of the second one is left alone."""
    second = io.BytesIO()
    Image.new("L", (16, 12), 255).save(second, "JPEG")
    _plain().save(path, quality=95)
    path.write_bytes(path.read_bytes() + second.getvalue())


def _turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new("RGB", (48, 64), SKIN).save(path, exif=exif)


def _broken_exif(path: Path) -> None:
    _plain().save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(7))


PICTURES = {
    "photo.jpg": lambda path: _plain().save(path, quality=95),
    "small.webp": lambda path: _plain().save(path, lossless=True),
    "print.jpg": lambda path: _plain().convert("CMYK").save(path, quality=95),
    "print.tiff": lambda path: _plain().convert("CMYK").save(path),
    "video colors.jpg": lambda path: _plain().convert("YCbCr").save(path, quality=95),
    "lab.tiff": lambda path: ImageCms.profileToProfile(
        _plain(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    ).save(path),
    "alpha.webp": lambda path: _plain().convert("RGBA").save(path, lossless=True),
    "palette.png": _palette,
    "palette.gif": _palette,
    "moving.gif": _animation,
    "moving.webp": lambda path: _plain().save(
        path, save_all=True, append_images=[Image.new("RGB", (64, 48), "blue")], lossless=True
    ),
    "moving.png": _animation,
    "several.mpo": lambda path: _plain().save(
        path, "MPO", save_all=True, append_images=[Image.new("RGB", (64, 48), "blue")], quality=95
    ),
    "gain map.jpg": _gain_map,
    "turned.jpg": _turned,
    "broken exif.jpg": _broken_exif,
    "phone.avif": lambda path: _plain().save(path, quality=95),
    "scan.jp2": lambda path: _plain().save(path),
    "plain.bmp": lambda path: _plain().save(path),
    "wrong extension.png": lambda path: _plain().save(path, "JPEG", quality=95),
    "日本 [x] 'q': %03d.jpg": lambda path: _plain().save(path, quality=95),
}


@pytest.mark.parametrize("name", PICTURES)
def test_it_is_read(tmp_path, name) -> None:
    if name.endswith("avif") and not features.check("avif"):
        pytest.skip("this build of Pillow has no AVIF")
    path = tmp_path / name
    PICTURES[name](path)
    loaded = load_image(path)
    assert (loaded.mode, loaded.size) == ("RGB", (64, 48))
    assert near(loaded, (40, 24), SKIN, 6)
    if "palette" in name:
        assert near(loaded, (5, 24), (255, 255, 255))


def wide_gamut() -> bytes:
    """A profile of a wider gamut: sRGB's with the primaries of Display P3 in their places."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    primaries = {
        b"rXYZ": (0.5151, 0.2412, -0.0011),
        b"gXYZ": (0.2920, 0.6922, 0.0419),
        b"bXYZ": (0.1571, 0.0666, 0.7841),
    }
    for index in range(struct.unpack(">I", profile[128:132])[0]):
        name, offset, size = struct.unpack(">4sII", profile[132 + 12 * index : 144 + 12 * index])
        if bytes(name) in primaries:
            values = [round(value * 65536) for value in primaries[name]]
            profile[offset + 8 : offset + 20] = struct.pack(">3i", *values)
        elif name == b"desc":
            profile[offset : offset + size] = bytes(profile[offset : offset + size]).replace(
                "sRGB".encode("utf-16-be"), "Wide".encode("utf-16-be")
            )
    return bytes(profile)


@pytest.mark.parametrize("name", ["wide.jpg", "wide.png", "wide.webp", "wide.avif", "alpha.png"])
def test_wide_gamuts_become_srgb(tmp_path, name) -> None:
    image = _plain().convert("RGBA") if name == "alpha.png" else _plain()
    image.save(tmp_path / name, icc_profile=wide_gamut(), **({} if name.endswith("png") else {"quality": 100}))
    loaded = load_image(tmp_path / name)
    assert near(loaded, (30, 20), (210, 137, 105), 5)  # P3's (200, 140, 110) is redder on an ordinary screen
    assert not near(loaded, (30, 20), SKIN, 5)


def test_profiles_that_can_not_be_followed_are_left_alone(tmp_path) -> None:
    whole = wide_gamut()
    grey = Image.new("L", (64, 48), 120)
    for profile in (b"nonsense", whole[:100], whole[:300], whole[:128] + bytes(len(whole) - 128)):
        _plain().save(tmp_path / "odd.png", icc_profile=profile)
        assert near(load_image(tmp_path / "odd.png"), (30, 20), SKIN)
    grey.save(tmp_path / "other.png", icc_profile=whole)  # a profile for colours on a grey picture
    assert near(load_image(tmp_path / "other.png"), (30, 20), (120, 120, 120))


def pq(nits: float) -> float:
    power = (nits / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


@pytest.mark.parametrize(
    ("transfer", "grey", "shown", "white"),
    [(PQ, pq(203 * 0.18), 118, pq(203)), (HLG, 0.38, 101, 0.75)],  # BT.2408: 26 and 203 nits, sRGB's 101 and white
)
def test_high_dynamic_range_is_not_washed_out(transfer, grey, shown, white) -> None:
    peak = pq(1000) if transfer == PQ else 1.0
    signals = np.array([0, grey, white, peak])
    mapped = tone_mapped(np.round(signals * 65535).astype(np.uint16).reshape(1, 4, 1).repeat(3, axis=2), transfer)[
        0, :, 0
    ]
    assert mapped[0] == 0
    assert abs(int(mapped[1]) - shown) <= 2
    assert 220 < mapped[2] < 245  # white stays near white, with room for what is brighter
    assert mapped[3] == 255


def test_a_png_says_that_it_is_hdr(tmp_path) -> None:
    level = round(pq(203 * 0.18) * 255)
    Image.new("RGB", (64, 48), (level,) * 3).save(tmp_path / "hdr.png")
    data = (tmp_path / "hdr.png").read_bytes()
    chunk = b"cICP" + bytes([9, 16, 0, 1])
    (tmp_path / "hdr.png").write_bytes(
        data[:33] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    )
    assert near(load_image(tmp_path / "hdr.png"), (30, 20), (118,) * 3, 6)


def test_an_avif_says_that_it_is_hdr(tmp_path) -> None:
    if not features.check("avif"):
        pytest.skip("this build of Pillow has no AVIF")
    level = round(pq(203 * 0.18) * 255)
    Image.new("RGB", (64, 48), (level,) * 3).save(tmp_path / "hdr.avif", quality=100)
    data = (tmp_path / "hdr.avif").read_bytes()
    place = data.index(b"colrnclx") + 8
    (tmp_path / "hdr.avif").write_bytes(data[:place] + struct.pack(">HH", 9, 16) + data[place + 4 :])
    assert near(load_image(tmp_path / "hdr.avif"), (30, 20), (118,) * 3, 6)


def film(path: Path, colors: list, seconds: list | None = None, trc: int | None = None, codec: str = "libx264") -> None:
    """A video whose frames (64, 96) have one colour each; HDR if `trc` is given, its colours of 16 bits."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=10)
        stream.width, stream.height = 96, 64
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        stream.pix_fmt = "yuv420p10le" if trc else "yuv420p"
        if trc:
            context = stream.codec_context
            context.color_trc, context.color_primaries, context.colorspace, context.color_range = trc, 9, 9, 1
        for index, color in enumerate(colors):
            pixels = np.full((64, 96, 3), color, np.uint16 if trc else np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, "rgb48le" if trc else "rgb24")
            if trc:
                frame = frame.reformat(format="yuv420p10le", dst_colorspace=9)
            frame.pts = round(1000 * (seconds[index] if seconds else index / 10))
            frame.time_base = Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


RED, GREEN, BLUE, BLACK = (200, 40, 40), (40, 180, 40), (40, 40, 200), (0, 0, 0)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm", "no extension [1]: x.mp4"])
def test_the_first_frame_of_a_video_that_is_not_black_or_the_one_at_a_time(tmp_path, name) -> None:
    path = tmp_path / name
    film(
        tmp_path / "made.mkv" if ":" in name else path,
        [BLACK] * 5 + [RED] * 5 + [BLUE] * 5,
        codec="libvpx" if name.endswith("webm") else "libx264",
    )
    if ":" in name:
        (tmp_path / "made.mkv").rename(path)
    assert load_image(path).size == (96, 64)
    assert near(load_image(path), (48, 32), RED, 12)
    for at, color in ((0, BLACK), (0.75, RED), (0.95, RED), (1.0, BLUE), (1.45, BLUE)):
        assert near(load_image(path, at), (48, 32), color, 12), at
    for at in (1.7, 1000):
        with pytest.raises(InputError, match=r"has no frame at .* it lasts 1\.5"):
            load_image(path, at)


def test_times_of_a_variable_frame_rate_are_its_own(tmp_path) -> None:
    film(tmp_path / "vfr.mp4", [RED, GREEN, BLUE, RED], [0, 0.1, 1.3, 1.4])
    for at, color in ((0.05, RED), (0.2, GREEN), (1.25, GREEN), (1.35, BLUE), (1.41, RED)):
        assert near(load_image(tmp_path / "vfr.mp4", at), (48, 32), color, 12), at


@pytest.mark.parametrize(("degrees", "corner"), [(90, (60, 4)), (180, (92, 60)), (270, (4, 92))])
def test_videos_of_turned_phones_are_upright(tmp_path, degrees, corner) -> None:
    path = tmp_path / "turned.mp4"
    pixels = np.full((64, 96, 3), GREEN, np.uint8)
    pixels[:24, :24] = RED  # the upper left before it is turned clockwise
    film(path, [pixels] * 3)
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    cosine, sine = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    data[place : place + 36] = struct.pack(
        ">9i", cosine << 16, sine << 16, 0, -sine << 16, cosine << 16, 0, 0, 0, 1 << 30
    )
    path.write_bytes(data)
    loaded = load_image(path)
    assert loaded.size == ((96, 64) if degrees == 180 else (64, 96))
    assert near(loaded, corner, RED, 25)


@pytest.mark.parametrize("trc", [PQ, HLG])
def test_hdr_videos_are_brought_to_ordinary_screens(tmp_path, trc) -> None:
    level, shown = (pq(203 * 0.18), 118) if trc == PQ else (0.38, 101)
    film(tmp_path / "hdr.mp4", [(round(level * 65535),) * 3] * 3, trc=trc)
    assert near(load_image(tmp_path / "hdr.mp4"), (48, 32), (shown,) * 3, 4)


def test_pixels_of_a_video_become_square(tmp_path) -> None:
    with av.open(str(tmp_path / "wide.mkv"), "w") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for _ in range(3):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 96, 3), RED, np.uint8), "rgb24")))
        file.mux(stream.encode(None))
    assert load_image(tmp_path / "wide.mkv").size == (128, 64)


def test_videos_that_give_no_picture_are_named(tmp_path) -> None:
    film(tmp_path / "dark.mp4", [BLACK] * 5)
    with pytest.raises(InputError, match=r"dark\.mp4 is black .* --at"):
        load_image(tmp_path / "dark.mp4")
    film(tmp_path / "whole.mp4", [RED] * 5)
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "whole.mp4").read_bytes()[:600])
    for name in ("cut.mp4", "list.ffconcat"):
        if name.startswith("list"):
            (tmp_path / name).write_text("ffconcat version 1.0\nfile whole.mp4\n")
        with pytest.raises(InputError, match="not a picture that can be read, nor a whole video"):
            load_image(tmp_path / name)
    for at in (-1, float("nan")):
        with pytest.raises(InputError, match="must be 0 or more"):
            load_image(tmp_path / "whole.mp4", at)
    _plain().save(tmp_path / "still.png")
    for source in (tmp_path / "still.png", _plain()):
        with pytest.raises(InputError, match="is a picture and no video"):
            load_image(source, 1.0)


def test_frames_too_large_are_refused_before_they_are_decoded(tmp_path, monkeypatch) -> None:
    film(tmp_path / "large.mp4", [RED] * 3)
    monkeypatch.setattr(image_module, "MAX_PIXELS", 6000)
    with pytest.raises(InputError, match="is 96×64 pixels; at most"):
        load_image(tmp_path / "large.mp4")


HEIC = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"heic", 0, b"mif1", b"heic") + bytes(100)


def test_kinds_that_are_not_read_are_named_with_a_remedy(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    _plain().save(tmp_path / "preview.tiff", tiffinfo={50706: b"\1\4\0\0"})
    (tmp_path / "raw.dng").write_bytes((tmp_path / "preview.tiff").read_bytes())
    for name, data, message in (
        ("photo.heic", HEIC, r"pip install 'anytalker\[heic\]'.* or save it as JPEG"),
        ("photo.jxl", b"\xff\x0a" + bytes(100), "is a JPEG XL picture"),
        ("box.jxl", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100), "is a JPEG XL picture"),
        ("raw.cr3", bytes(100), "raw file"),
        ("raw.dng", None, "raw file"),
        ("preview.tiff", None, "raw file"),
        ("drawn.svg", b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>', "not a picture"),
        ("paper.pdf", b"%PDF-1.4\n%%EOF\n", "not a picture"),
        ("paper.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n", "not a picture"),
    ):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=message) as caught:
            load_image(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_heic_is_read_where_the_plugin_is_installed(tmp_path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif, of the extra heic, is not installed")
    heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 8
    for name, profile in (("photo.heic", None), ("wide.heic", wide_gamut())):
        Image.new("RGB", (96, 64), SKIN).save(tmp_path / name, quality=95, icc_profile=profile)
        loaded = load_image(tmp_path / name)
        assert loaded.size == (96, 64)
        assert near(loaded, (40, 24), SKIN if profile is None else (210, 137, 105), 6)
    (tmp_path / "cut.heic").write_bytes((tmp_path / "photo.heic").read_bytes()[:-60])
    with pytest.raises(InputError, match=r"cut\.heic"):
        load_image(tmp_path / "cut.heic")
