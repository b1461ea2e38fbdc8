"""Pictures: reading them safely, and the video size that fits a model."""

from __future__ import annotations

import math
import struct
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from anytalker.errors import InputError
from anytalker.media.color import HLG, PQ, eight_bit, profile_of, profile_transfer, to_srgb, tone_mapped
from anytalker.media.containers import check_readable
from anytalker.media.still import stream_transfer, video_still

if TYPE_CHECKING:
    import torch

MIN_SIDE = 32
MAX_SIDE = 16384
MAX_PIXELS = 120_000_000
_HEAD = 2**16


_FORMATS = (
    *("PNG", "JPEG", "MPO", "WEBP", "GIF", "TIFF", "BMP", "DIB", "AVIF", "HEIF", "JPEG2000", "PPM", "QOI"),
    *("ICO", "PSD", "DDS", "SGI", "PCX", "TGA"),
)
"""Pillow's names of what is read; others are left out, some of which run programs (EPS) or read other files."""
_RAW = [".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".srw"]
_DNG_VERSION = 50706
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")


def load_image(source: str | Path | Image.Image, at: float | None = None, background: str = "white") -> Image.Image:
    """Read a picture as RGB in sRGB, upright, transparency on a colour; of an animation the first frame.

    Grey of 16 bits is brought to 8, colour profiles are followed where they can be, and high dynamic range (PQ, HLG) is
    brought to what an ordinary screen shows; of pictures with a gain map the ordinary one is taken.

    Args:
        source: a file, or the picture itself. Of a video its first frame that isn't black.
        at: of a video the frame at that many seconds.
        background: colour behind what is transparent.

    Raises:
        InputError: if the file is missing, is no picture or is damaged, or a side is under 32 or over 16,384 pixels; if
            `at` is given for a picture, or is beyond the end of a video.
    """
    if at is not None and not 0 <= at < math.inf:
        raise InputError(f"The moment in the video is {at:g} s; it must be 0 or more.")
    if isinstance(source, Image.Image):
        _no_time(at, "The picture")
        _check_size(source.size, "The picture")
        return _flattened(source, background)
    path = Path(source)
    check_readable(path, f"There is no picture {path}. Check the path.")
    with path.open("rb") as file:
        head = file.read(_HEAD)
    _refuse_unread(path, head)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN]) as image:
                if image.format == "TIFF" and (
                    path.suffix.lower() in _RAW or _DNG_VERSION in getattr(image, "tag_v2", ())
                ):
                    raise InputError(_raw_message(path))
                _no_time(at, str(path))
                _check_size(image.size, str(path))
                return _flattened(image, background, _transfer(path, head, image))
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path} is far too large ({error}). Make it smaller, at most {MAX_SIDE} pixels a side."
        ) from error
    except UnidentifiedImageError as error:
        return _from_video(path, at, error)
    except (OSError, SyntaxError, ValueError, MemoryError, struct.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"The picture {path} is damaged or cut off ({error}). Save it again, as PNG or JPEG."
        ) from error


def _from_video(path: Path, at: float | None, error: Exception) -> Image.Image:
    if path.suffix.lower() in _RAW:
        raise InputError(_raw_message(path)) from error
    image = video_still(path, at, MAX_PIXELS)
    if image is None:
        raise InputError(
            f"{path} is not a picture that can be read, nor a whole video. Give a PNG, JPEG or WebP file."
        ) from error
    _check_size(image.size, str(path))
    return image


def _no_time(at: float | None, name: str) -> None:
    if at is not None:
        raise InputError(f"{name} is a picture and no video, so there is no frame at {at:g} s. Leave the time out.")


def _raw_message(path: Path) -> str:
    return f"{path} is a camera's raw file, which is not read. Export it as JPEG or PNG."


def _refuse_unread(path: Path, head: bytes) -> None:
    """Name the kinds of pictures that need a plugin, or that there is none for; registers those that are there."""
    Image.init()
    if head.startswith(_JPEG_XL):
        raise InputError(f"{path} is a JPEG XL picture, which is not read. Save it as JPEG or PNG.")
    if head[4:8] != b"ftyp":
        return
    size = int.from_bytes(head[:4], "big")
    brands = {head[index : index + 4] for index in range(8, min(size, len(head)), 4)}
    if brands & {b"avif", b"avis"}:
        if "AVIF" not in Image.OPEN:
            raise InputError(f"{path} is an AVIF picture:  pip install -U pillow  reads it, or save it as JPEG.")
    elif brands & _HEIC_BRANDS and not _register_heif():
        raise InputError(
            f"{path} is a HEIC picture:  pip install 'anytalker[heic]'  reads it, or save it as JPEG "
            "(on an iPhone: Settings, Camera, Formats, Most Compatible)."
        )


def _register_heif() -> bool:
    """Let Pillow read HEIC; whether there is a plugin for it."""
    if "HEIF" not in Image.OPEN:
        try:
            import pillow_heif
        except ImportError:
            return False
        pillow_heif.register_heif_opener()
    return True


def _transfer(path: Path, head: bytes, image: Image.Image) -> tuple[int, int] | None:
    """Transfer and primaries (ITU-T H.273) that a picture's own format names, profiles aside."""
    if image.format == "AVIF":
        return stream_transfer(path)
    if image.format == "HEIF":
        named = image.info.get("nclx_profile") or {}
        return int(named.get("transfer_characteristics", 2)), int(named.get("color_primaries", 2))
    found = head[: max(0, head.find(b"IDAT"))].find(b"\0\0\0\4cICP") if image.format == "PNG" else -1
    return (head[found + 9], head[found + 8]) if found >= 0 else None


def _check_size(size: tuple[int, int], name: str) -> None:
    if min(size) < MIN_SIDE:
        raise InputError(
            f"{name} is {size[0]}×{size[1]} pixels; each side needs at least {MIN_SIDE}. Give a larger picture."
        )
    if max(size) > MAX_SIDE or size[0] * size[1] > MAX_PIXELS:
        raise InputError(
            f"{name} is {size[0]}×{size[1]} pixels; at most {MAX_SIDE} a side and {MAX_PIXELS // 10**6} million "
            "in all are allowed. Make it smaller."
        )


def _flattened(image: Image.Image, background: str, transfer: tuple[int, int] | None = None) -> Image.Image:
    image.load()
    profile = profile_of(image)
    try:
        upright = ImageOps.exif_transpose(image)
    except Exception:  # of its many ways to be damaged none is worth refusing a picture for
        upright = image
    deep = upright.mode.startswith(("I", "F"))
    colors, alpha = eight_bit(upright), None
    if not deep and (colors.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in colors.info):
        whole = colors.convert("RGBA")
        alpha = whole.getchannel("A")
        colors = colors.convert("L") if colors.mode == "LA" else whole.convert("RGB")
    named = profile_transfer(profile)
    high, primaries = (named, 9) if named is not None else transfer or (None, 9)
    if high in (PQ, HLG):
        colors = Image.fromarray(tone_mapped(np.asarray(colors.convert("RGB")), high, primaries))
    else:
        if colors.mode in ("P", "PA", "1"):
            colors = colors.convert("RGB")
        colors = to_srgb(colors, profile)
    if alpha is None:
        return colors
    behind = Image.new("RGB", colors.size, background)
    behind.paste(colors, mask=alpha)
    return behind


def frame_size(height: int, width: int, max_area: int, multiple: int = 32) -> tuple[int, int]:
    """Height and width of the video: about `max_area`, the picture's shape, multiples of `multiple` (release)."""
    ratio = height / width
    tall = math.sqrt(max_area * ratio)
    wide = math.sqrt(max_area / ratio)
    return max(multiple, int(tall // multiple) * multiple), max(multiple, int(wide // multiple) * multiple)


def resize_image(image: Image.Image, height: int, width: int) -> Image.Image:
    """The picture at another size, with antialiasing."""
    return image.resize((width, height), Image.Resampling.LANCZOS)


def resized_video_tensor(image: Image.Image, height: int, width: int) -> torch.Tensor:
    """A picture as one video frame of another size, bicubic without antialiasing (release).

    Returns:
        float32 (1, 3, 1, height, width), about [-1, 1]: sharp edges may go beyond it.
    """
    import torch

    pixels = to_video_tensor(image)[:, :, 0]
    return torch.nn.functional.interpolate(pixels, (height, width), mode="bicubic")[:, :, None]


def to_video_tensor(image: Image.Image) -> torch.Tensor:
    """A picture as one video frame: float32 (1, 3, 1, H, W) in [-1, 1]."""
    import torch  # pictures are read, and wrong ones refused, before it is loaded

    pixels = torch.from_numpy(np.array(image.convert("RGB"), dtype=np.float32))
    return (pixels / 127.5 - 1).permute(2, 0, 1)[None, :, None]
