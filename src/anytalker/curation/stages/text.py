"""Text on screen: subtitles and captions must not lie over a mouth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from anytalker.curation.config import TextConfig
from anytalker.curation.piece import Dropped, Piece

TextFinder = Callable[[np.ndarray], np.ndarray]
"""Finds text in a picture, uint8 RGB (H, W, 3): boxes (N, 4), left, top, right, bottom in pixels."""

_EVERY = 25
_LARGEST_PICTURE = 960
"""Longer side in pixels of the pictures that text is looked for in."""
_MOUTH = (0.2, 0.6, 0.8, 1.0)
"""Where a mouth is in a face's box, brows to chin: left, top, right, bottom as shares of it."""
_TOUCH = 0.1
"""Share of that part which text must cover."""


class TextStage:
    """Drops clips in which text lies over a mouth."""

    name = "text"

    def __init__(self, config: TextConfig, finder: TextFinder | None = None) -> None:
        self._config, self._finder = config, finder

    def __call__(self, piece: Piece) -> Iterator[Piece | Dropped]:
        """The clip with the share of looks in which text covers a mouth, or dropped; as it is if none is looked for."""
        if self._config.max_share is None:
            yield piece
            return
        finder = self._finder or find_text
        covered = []
        for number, frame in enumerate(piece.frames(_EVERY)):
            texts = finder(frame)
            covered.append(any(_covered(face.boxes[number * _EVERY], text) for face in piece.faces for text in texts))
        share = float(np.mean(covered)) if covered else 0.0
        measured = piece.measured(**{"text.covered": share})
        if share > self._config.max_share:
            yield measured.drop(self.name, "text covers a mouth")
        else:
            yield measured


def _covered(face: np.ndarray, text: np.ndarray) -> bool:
    corner, size = face[[0, 1, 0, 1]], (face[2:] - face[:2])[[0, 1, 0, 1]]
    mouth = corner + size * np.array(_MOUTH)
    sides = np.minimum(mouth[2:], text[2:]) - np.maximum(mouth[:2], text[:2])
    return bool(np.prod(np.maximum(sides, 0)) > _TOUCH * np.prod(mouth[2:] - mouth[:2]))


def find_text(picture: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) of the text in a picture, uint8 RGB (H, W, 3), by the detector of the package `rapidocr`.

    Raises:
        ModuleNotFoundError: if the extra `quality` is not installed.
    """
    found = _rapidocr()(np.ascontiguousarray(picture[..., ::-1]), use_det=True, use_cls=False, use_rec=False)
    if found.boxes is None:
        return np.zeros((0, 4))
    corners = np.asarray(found.boxes, dtype=float)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


@lru_cache(maxsize=1)
def _rapidocr() -> Any:
    from rapidocr import RapidOCR

    return RapidOCR(
        params={
            "Global.log_level": "error",
            "Det.limit_type": "max",
            "Det.limit_side_len": _LARGEST_PICTURE,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        }
    )
