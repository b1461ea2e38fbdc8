"""Music and noise: what is heard where nobody speaks must be much quieter than speech."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from anytalker.curation.config import SoundConfig
from anytalker.curation.piece import Dropped, Piece
from anytalker.media.recordings import frame_loudness

_STEPS_A_SECOND = 50
_FLOOR = 1e-4


class SoundStage:
    """Drops clips with loud music or noise behind the voices."""

    name = "sound"

    def __init__(self, config: SoundConfig) -> None:
        self._config = config

    def __call__(self, piece: Piece) -> Iterator[Piece | Dropped]:
        """The clip with the ratio of its loud to its quiet moments, or dropped."""
        ratio = loud_to_quiet(piece.heard())
        measured = piece.measured(**{"sound.ratio": ratio})
        if ratio < self._config.min_ratio:
            yield measured.drop(self.name, "music or noise behind the voices")
        else:
            yield measured


def loud_to_quiet(samples: np.ndarray) -> float:
    """Loudness of the loud moments over that of the quietest, in dB: speech pauses between syllables, music doesn't.

    Args:
        samples: float32 (samples,) at 16 kHz.
    """
    steps = max(1, len(samples) * _STEPS_A_SECOND // 16000)
    loudness = np.maximum(frame_loudness(samples, steps, _STEPS_A_SECOND), _FLOOR)
    return float(20 * np.log10(np.quantile(loudness, 0.9) / np.quantile(loudness, 0.05)))
