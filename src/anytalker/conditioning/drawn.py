"""Whether the people of a picture are drawn or photographed, told by how much of their faces is flat."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from anytalker.conventions import PixelBox

_SIDE = 256
_FLAT = 0.5
_TEXTURE = (0.7, 4.0)
_FACE = 76  # pixels; the miniature's faces
_MARGIN = 0.1
_TOO_SMALL = 40
DRAWN_FACES = -0.09
"""Faces that are less flat are photographs; docs/measurements/quality.md tells how often that is wrong."""
DRAWN_SCORE = 0.28
"""The same for a whole picture, where its faces are too small to tell."""


def flatness(image: Image.Image) -> float:
    """Share of a picture that is flat less the share that has fine texture, from -1 to 1.

    Drawn pictures are areas of even or evenly shaded colour with sharp edges between them; skin, hair and cloth in a
    photograph have texture nearly everywhere. Noise and traces of compression are lost when the picture is made small.

    Args:
        image: of any size; larger ones are looked at with 256 pixels on the shorter side.
    """
    grey = image.convert("RGB").convert("L")
    shrink = _SIDE / min(grey.size)
    if shrink < 1:
        width, height = (max(1, round(side * shrink)) for side in grey.size)
        grey = grey.resize((width, height), Image.Resampling.BOX)
    smooth = cv2.GaussianBlur(np.asarray(grey, dtype=np.float32), (0, 0), 1.0)
    curvature = np.abs(cv2.Laplacian(smooth, cv2.CV_32F, ksize=1))
    low, high = _TEXTURE
    return float((curvature < _FLAT).mean() - ((curvature > low) & (curvature < high)).mean())


def looks_photographed(image: Image.Image, faces: Sequence[PixelBox] = ()) -> bool:
    """Whether people look like photographs rather than like the drawn ones that the miniature knows.

    Skin tells more than what is around it: a studio's wall is as flat as a drawn one.

    Args:
        image: of any size.
        faces: boxes (x, y, width, height) in it; none, or none of 40 pixels or more: the whole picture decides.
    """
    large = [box for box in faces if min(box[2:]) >= _TOO_SMALL]
    if not large:
        return flatness(image) < DRAWN_SCORE
    return float(np.mean([flatness(_face(image, box)) for box in large])) < DRAWN_FACES


def _face(image: Image.Image, box: PixelBox) -> Image.Image:
    """A face with a little around it, as large as the miniature's faces."""
    left, top, width, height = box
    right, bottom = left + (1 + _MARGIN) * width, top + (1 + _MARGIN) * height
    start = int(max(0, left - _MARGIN * width)), int(max(0, top - _MARGIN * height))
    part = image.crop((*start, int(min(image.width, right)), int(min(image.height, bottom))))
    scale = _FACE / min(part.size)
    sides = (max(1, round(part.width * scale)), max(1, round(part.height * scale)))
    return part.resize(sides, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC)
