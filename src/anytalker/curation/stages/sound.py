"""Music and noise: what is heard where nobody speaks must be much quieter than speech."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from anytalker.curation.config import SoundConfig
from anytalker.curation.piece import Dropped, Piece
from anytalker.curation.sound_quality import sound_quality
from anytalker.diarization.background import loud_to_quiet


class SoundStage:
    """Drops clips with loud music or noise behind the voices, or of bad quality."""

    name = "sound"

    def __init__(self, config: SoundConfig, judge: Callable[[np.ndarray], float] = sound_quality) -> None:
        self._config, self._judge = config, judge

    def __call__(self, piece: Piece) -> Iterator[Piece | Dropped]:
        """The clip with the ratio of its loud to its quiet moments, and its quality if that is wanted, or dropped."""
        ratio = loud_to_quiet(piece.heard())
        measured = piece.measured(**{"sound.ratio": ratio})
        if ratio < self._config.min_ratio:
            yield measured.drop(self.name, "music or noise behind the voices")
            return
        if self._config.min_quality is not None:
            quality = self._judge(piece.heard())
            measured = measured.measured(**{"sound.quality": quality})
            if quality < self._config.min_quality:
                yield measured.drop(self.name, "the sound is bad")
                return
        yield measured
