"""Lip sync of the finished clips: whoever speaks in a clip says it with their lips, and nobody else does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from anytalker.curation.config import SyncConfig
from anytalker.curation.footage import FPS
from anytalker.curation.piece import Dropped, Face, Piece
from anytalker.curation.spans import total
from anytalker.curation.stages.speakers import judge_voice

_LEAST_SECONDS = 1.0
"""Of speech that can be judged in a clip; less is taken for right, since the shot as a whole was."""


class SyncStage:
    """Drops clips in which lips don't say what is heard, or another face's lips say it better."""

    name = "sync"

    def __init__(self, config: SyncConfig) -> None:
        self._config = config

    def __call__(self, piece: Piece) -> Iterator[Piece | Dropped]:
        """The clip with everybody's confidence, or dropped."""
        piece, motion = piece.followed()
        faces: list[Face] = []
        late = piece.delay / FPS
        for index, face in enumerate(piece.faces):
            if total(face.speaking) < _LEAST_SECONDS:
                faces.append(face)
                continue
            spans = [(a + late, b + late) for a, b in face.speaking]
            others = [(a + late, b + late) for one in piece.faces if one is not face for a, b in one.speaking]
            every = range(len(piece.faces))
            judged = [judge_voice(piece, motion, other, spans, others, piece.delay) for other in every]
            own = judged[index]
            if own is None:
                faces.append(face)
                continue
            piece = piece.measured(**{f"sync.confidence_{index}": own.confidence})
            if own.confidence < self._config.min_confidence:
                yield piece.drop(self.name, "lips and voice don't go together")
                return
            if any(one.confidence > own.confidence for one in judged if one is not None):
                yield piece.drop(self.name, "another face's lips say it better")
                return
            faces.append(replace(face, sync_confidence=own.confidence))
        yield replace(piece, faces=tuple(faces))
