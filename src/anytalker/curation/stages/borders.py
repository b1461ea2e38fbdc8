"""Black bars: found, and left out of the clips."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np

from anytalker.curation.piece import Dropped, Piece

_BLACK = 20
"""Brightness, of 255, that a bar stays below."""
_LEAST_SIDE = 64
"""Pixels of the shorter side of a picture without its bars."""
_EVERY = 10
"""Frames between two looks; bars stay."""


class BordersStage:
    """Finds the part of the picture that is not black in all frames."""

    name = "borders"

    def __call__(self, piece: Piece) -> Iterator[Piece | Dropped]:
        """The piece with its `crop`, or dropped if it is black throughout, or tiny."""
        brightest = np.zeros((0, 0), np.uint8)
        for frame in piece.frames(_EVERY):
            red, green, blue = cv2.split(frame)
            largest = cv2.max(red, cv2.max(green, blue))  # many times faster than NumPy's
            brightest = largest if not brightest.size else cv2.max(brightest, largest)
        if not brightest.size:
            yield piece.drop(self.name, "no frame of it can be decoded")
            return
        if min(brightest.shape) < _LEAST_SIDE:
            yield piece.drop(self.name, f"the picture has less than {_LEAST_SIDE} pixels on a side")
            return
        rows = np.flatnonzero(np.quantile(brightest, 0.95, axis=1) > _BLACK)
        columns = np.flatnonzero(np.quantile(brightest, 0.95, axis=0) > _BLACK)
        if len(rows) < _LEAST_SIDE or len(columns) < _LEAST_SIDE:
            yield piece.drop(self.name, "the picture is black")
            return
        height, width = brightest.shape
        top, bottom = _even(rows[0]), height - _even(height - 1 - rows[-1])
        left, right = _even(columns[0]), width - _even(width - 1 - columns[-1])
        whole = (left, top, right, bottom) == (0, 0, width, height)
        yield piece if whole else replace(piece, crop=(left, top, right, bottom))


def _even(value: int) -> int:
    """Bars as wide as they are, up to a pixel; a few dark rows at an edge are no bar."""
    return 0 if value < 4 else int(value) + int(value) % 2
