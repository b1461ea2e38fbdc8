"""Pictures: reading them safely, and the video size that fits a model."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from anytalker.errors import InputError

if TYPE_CHECKING:
    import torch

MIN_SIDE = 32
MAX_SIDE = 16384
MAX_PIXELS = 120_000_000


def load_image(source: str | Path | Image.Image) -> Image.Image:
    """Read a picture as RGB, upright, transparency on white.

    Raises:
        InputError: if the file is missing, is no picture or is damaged, or a side is under 32 or over 16,384 pixels.
    """
    if isinstance(source, Image.Image):
        _check_size(source.size, "The picture")
        return _flattened(source)
    path = Path(source)
    if not path.is_file():
        raise InputError(f"There is no picture {path}. Check the path.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                _check_size(image.size, str(path))
                return _flattened(image)
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path} is far too large ({error}). Make it smaller, at most {MAX_SIDE} pixels a side."
        ) from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not a picture that can be read. Give a PNG, JPEG or WebP file.") from error
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"The picture {path} is damaged or cut off ({error}). Save it again, as PNG or JPEG."
        ) from error


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


def _flattened(image: Image.Image) -> Image.Image:
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        colored = upright.convert("RGBA")
        white = Image.new("RGBA", colored.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, colored).convert("RGB")
    return upright.convert("RGB")


def frame_size(height: int, width: int, max_area: int, multiple: int = 32) -> tuple[int, int]:
    """Height and width of the video: about `max_area`, the picture's shape, multiples of `multiple` (release)."""
    ratio = height / width
    tall = math.sqrt(max_area * ratio)
    wide = math.sqrt(max_area / ratio)
    return max(multiple, int(tall // multiple) * multiple), max(multiple, int(wide // multiple) * multiple)


def resize_image(image: Image.Image, height: int, width: int) -> Image.Image:
    """The picture at another size, with antialiasing."""
    return image.resize((width, height), Image.Resampling.LANCZOS)


def to_video_tensor(image: Image.Image) -> torch.Tensor:
    """A picture as one video frame: float32 (1, 3, 1, H, W) in [-1, 1]."""
    import torch  # pictures are read, and bad ones refused, before it is loaded

    pixels = torch.from_numpy(np.array(image.convert("RGB"), dtype=np.float32))
    return (pixels / 127.5 - 1).permute(2, 0, 1)[None, :, None]
