"""Whether a picture is drawn or a photograph, told by how much of it is flat."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

_SIDE = 256
_FLAT = 0.5
_TEXTURE = (0.7, 4.0)
DRAWN_SCORE = 0.28
"""Pictures below it are taken for photographs; docs/measurements/quality.md tells how often that is wrong."""


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


def looks_photographed(image: Image.Image) -> bool:
    """Whether a picture looks like a photograph rather than like the drawn people that the miniature knows."""
    return flatness(image) < DRAWN_SCORE
