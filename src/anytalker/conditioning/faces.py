"""Faces in a picture: boxes, crops, and the pixels that CLIP sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

Box = tuple[int, int, int, int]
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def crop_face(image: Image.Image, box: Sequence[float]) -> Image.Image:
    """The square of a face box (x, y, width, height), no margin, kept inside the picture."""
    x, y, width, height = (int(round(value)) for value in box)
    return image.crop((max(0, x), max(0, y), min(image.width, x + width), min(image.height, y + height)))


def clip_pixels(images: Sequence[Image.Image], size: int = 224) -> torch.Tensor:
    """Pictures squashed to (n, 3, size, size), bicubic without antialiasing, normalised for CLIP (release)."""
    rows = []
    for image in images:
        pixels = torch.from_numpy(np.array(image.convert("RGB"), dtype=np.float32)).permute(2, 0, 1)[None] / 255
        resized = torch.nn.functional.interpolate(pixels, (size, size), mode="bicubic", align_corners=False)
        rows.append(resized[0])
    mean, deviation = torch.tensor(CLIP_MEAN)[:, None, None], torch.tensor(CLIP_STD)[:, None, None]
    return (torch.stack(rows) - mean) / deviation
