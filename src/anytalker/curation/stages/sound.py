"""Music and noise: what is heard where nobody speaks must be much quieter than speech."""

from __future__ import annotations

from collections.abc import Iterator

from anytalker.curation.config import SoundConfig
from anytalker.curation.piece import Dropped, Piece
from anytalker.diarization.background import loud_to_quiet


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
