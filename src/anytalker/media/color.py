"""Conversion of pictures to 8-bit sRGB: bit depths, colour profiles, high dynamic range."""

from __future__ import annotations

import io
import re

import numpy as np
from PIL import Image, ImageCms

PQ, HLG = 16, 18
"""Transfer characteristics of high dynamic range (ITU-T H.273)."""
_WHITE_NITS, _PEAK_NITS = 203.0, 1000.0
"""Brightness of paper white and of the brightest light that is told from it (ITU-R BT.2408)."""
_KNEE = 0.6
"""Light, of white, above which it is pressed together."""
_ROWS = 256
"""Rows that are converted at a time, to save memory."""
_BT709 = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_TO_XYZ = {
    9: np.array([[0.6370, 0.1446, 0.1689], [0.2627, 0.6780, 0.0593], [0.0, 0.0281, 1.0610]]),  # BT.2020
    12: np.array([[0.4866, 0.2657, 0.1982], [0.2290, 0.6917, 0.0793], [0.0, 0.0451, 1.0439]]),  # Display P3
}


def eight_bit(image: Image.Image) -> Image.Image:
    """Grey pictures of more than 8 bits, whole or real numbers, as 8 bits; others as they are.

    Numbers of 16 bits span 0 to 65,535 and real ones 0 to 1, unless they go beyond it: then 0 to 255, to 65,535, or
    to the largest.

    Raises:
        ValueError: if values are not numbers.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image).astype(np.float32)
    largest = float(values.max())
    if not np.isfinite(values).all():
        raise ValueError("it holds values that are not numbers")
    spans = {"F": (1.0, 255.0, 65535.0), "I": (255.0, 65535.0)}.get(image.mode, (65535.0,))
    span = next((span for span in spans if largest <= span), largest)
    return Image.fromarray(np.clip(np.round(values * (255 / span)), 0, 255).astype(np.uint8))


def profile_of(image: Image.Image) -> ImageCms.ImageCmsProfile | None:
    """The colour profile that comes with a picture; None without one, or with one that can't be read."""
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
    except (KeyError, TypeError, OSError, ValueError, ImageCms.PyCMSError):
        return None


def profile_transfer(profile: ImageCms.ImageCmsProfile | None) -> int | None:
    """`PQ` or `HLG` if a profile is called so; those of high dynamic range say little else."""
    found = re.search(r"\b(PQ|2084|HLG)\b", _description(profile))
    return None if found is None else HLG if found[1] == "HLG" else PQ


def to_srgb(image: Image.Image, profile: ImageCms.ImageCmsProfile | None) -> Image.Image:
    """A picture (RGB, L, CMYK or LAB) in sRGB; without a profile, or with one for other colours, merely converted."""
    if image.mode == "LAB":
        return _transformed(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    spaces = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
    if profile is not None and not _description(profile).startswith("sRGB"):
        try:
            if profile.profile.xcolor_space.strip() == spaces.get(image.mode):
                return _transformed(image, profile)
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass  # the colours are off then, which is better than no video
    return image.convert("RGB")


def _transformed(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    converted = ImageCms.profileToProfile(
        image,
        profile,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert converted is not None
    return converted


def _description(profile: ImageCms.ImageCmsProfile | None) -> str:
    if profile is None:
        return ""
    try:
        return ImageCms.getProfileDescription(profile).strip()
    except ImageCms.PyCMSError:
        return ""


def tone_mapped(pixels: np.ndarray, transfer: int, primaries: int = 9) -> np.ndarray:
    """Pictures of high dynamic range for ordinary screens: what is darker than six tenths of white stays, what is
    brighter, up to 1,000 nits, is pressed into the rest.

    Args:
        pixels: uint8 or uint16 (H, W, 3), full range.
        transfer: `PQ` or `HLG`.
        primaries: 9 (BT.2020) or 12 (Display P3); others are taken as sRGB's.

    Returns:
        uint8 (H, W, 3), sRGB.

    Source: curves and the 203 nits of white by ITU-R BT.2100 and BT.2408; the knee is a simple one of our own.
    """
    matrix = np.linalg.inv(_BT709) @ _TO_XYZ.get(primaries, _BT709)
    matrix = (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)  # white stays white, to the last digit
    full = np.float32(np.iinfo(pixels.dtype).max)
    mapped = np.empty(pixels.shape, np.uint8)
    for start in range(0, len(pixels), _ROWS):
        signal = pixels[start : start + _ROWS].astype(np.float32) / full
        light = (_pq_light(signal) if transfer == PQ else _hlg_light(signal)) @ matrix.T
        light = np.maximum(light, 0)
        brightest = light.max(axis=2, keepdims=True)
        light = light * (_knee(brightest) / np.maximum(brightest, 1e-6))
        encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-6) ** (1 / 2.4) - 0.055)
        mapped[start : start + _ROWS] = np.round(np.clip(encoded, 0, 1) * 255)
    return mapped


def _pq_light(signal: np.ndarray) -> np.ndarray:
    """Linear light, 1 for white."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    root = signal ** np.float32(1 / m2)
    return (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1) * (10000 / _WHITE_NITS)


def _hlg_light(signal: np.ndarray) -> np.ndarray:
    """Linear light, 1 for white, on a screen of 1,000 nits."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593], np.float32)
    return scene * luminance[..., None] ** 0.2 * (_PEAK_NITS / _WHITE_NITS)


def _knee(light: np.ndarray) -> np.ndarray:
    room, most = 1 - _KNEE, (_PEAK_NITS / _WHITE_NITS - _KNEE) / (1 - _KNEE)
    over = np.maximum(light - _KNEE, 0) / room
    return np.where(light <= _KNEE, light, _KNEE + room * over * (1 + over / most**2) / (1 + over))
