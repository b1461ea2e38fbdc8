"""Lip sync of the finished clips: whoever speaks in a clip says it with their lips, and nobody else does.

That a face and a voice belong together is known from the whole shot. A clip of it proves little by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter1d

from anytalker.conditioning.face_mesh.mouths import FaceMotion
from anytalker.curation.config import SyncConfig
from anytalker.curation.footage import FPS
from anytalker.curation.lip_sync import likeness, rest_of
from anytalker.curation.piece import Dropped, Face, Piece
from anytalker.curation.spans import total
from anytalker.curation.stages.speakers import MOVING, inside, judge_voice

_LEAST_SECONDS = 1.0
"""Of speech that can be judged in a clip; less is taken for right, since the shot as a whole was."""
_SLOW, _SMOOTH = 0.32, 0.2
"""Seconds: slower changes of a mouth are no speech; and over how long its motion is averaged."""
_AROUND = 0.2
"""Seconds around somebody's speech in which the lips may move."""


class SyncStage:
    """Drops clips in which lips don't say what is heard, or another face's lips say it better."""

    name = "sync"

    def __init__(self, config: SyncConfig) -> None:
        self._config = config

    def __call__(self, piece: Piece) -> Iterator[Piece | Dropped]:
        """The clip with everybody's confidence, or dropped."""
        piece, motion = piece.followed()
        muttering = max(speaking_unheard(piece, motion, index) for index in range(len(piece.faces)))
        piece = piece.measured(**{"sync.unheard": muttering})
        if muttering > self._config.max_unheard:
            yield piece.drop(self.name, "somebody speaks while another is heard")
            return
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
            if face.agreement is not None:
                piece = piece.measured(**{f"sync.shot_{index}": face.agreement.confidence})
                rest = rest_of(face.agreement, own)
                alike = 1.0 if rest is None else likeness(own, rest)
                piece = piece.measured(**{f"sync.likeness_{index}": alike})
                if alike < self._config.min_likeness:
                    yield piece.drop(self.name, "lips and voice don't go together")
                    return
            if any(one.confidence > own.confidence for one in judged if one is not None):
                yield piece.drop(self.name, "another face's lips say it better")
                return
            faces.append(replace(face, sync_confidence=own.confidence))
        yield replace(piece, faces=tuple(faces))


def speaking_unheard(piece: Piece, motion: FaceMotion, face: int) -> float:
    """Seconds in which lips move as in speech while somebody else is heard, and not this person: overlaps sound so."""
    gap = motion.opening[:, face]
    gap = np.nan_to_num(gap, nan=float(np.nanmedian(gap)) if np.isfinite(gap).any() else 0.0)
    moved = np.abs(gap - gaussian_filter1d(gap, _SLOW * FPS, mode="nearest"))
    moves = gaussian_filter1d(moved, _SMOOTH * FPS, mode="nearest") > MOVING
    times = (np.arange(piece.start, piece.end) + 0.5) / FPS
    others = [span for index, one in enumerate(piece.faces) if index != face for span in one.speaking]
    heard, own = inside(times, others), inside(times, piece.faces[face].speaking, _AROUND)
    return float((moves & heard & ~own).sum() / FPS)
