"""Who speaks: every voice belongs to a face whose lips say what is heard, or to nobody in the picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from anytalker.conditioning.face_mesh.landmarks import find_landmarks
from anytalker.conditioning.face_mesh.mouths import read_motion
from anytalker.curation.config import SpeechConfig, SyncConfig
from anytalker.curation.footage import FPS
from anytalker.curation.piece import Dropped, Piece, Span
from anytalker.curation.spans import clipped, joined, total

_SHORTEST_TURN = 0.2
_KNOWN = 1.0
"""Seconds that a voice must be heard in a piece to be held against lips."""
_EDGE = 2
"""Frames at both ends of a shot that are left out: encoders blur them."""


@dataclass(frozen=True)
class _Voice:
    """A voice in a piece: when it is heard, how well each face goes with it, and how late it is there."""

    number: int
    spans: tuple[Span, ...]
    confidence: tuple[float, ...]
    delay: tuple[int, ...]

    @property
    def seconds(self) -> float:
        return total(self.spans)

    @property
    def best(self) -> int:
        return int(np.argmax(self.confidence))


class SpeakersStage:
    """Gives every face its voice, corrects a constant delay, and leaves out what nobody visible says."""

    name = "speakers"

    def __init__(self, speech: SpeechConfig, sync: SyncConfig) -> None:
        self._speech, self._sync = speech, sync

    def __call__(self, piece: Piece) -> Iterator[Piece | Dropped]:
        """Parts of the piece in which all that is heard is said by somebody visible, and why the rest is dropped."""
        heard = [(turn.speaker, turn.start, turn.end) for turn in piece.turns]
        spans: dict[int, list[Span]] = {}
        for number, start, end in heard:
            spans.setdefault(number, []).extend(clipped([(start, end)], *self._seconds(piece), _SHORTEST_TURN))
        spans = {number: joined(own) for number, own in spans.items() if own}
        if not spans:
            yield piece.drop(self.name, "nobody speaks")
            return
        motion = read_motion(find_landmarks(piece.frames(), np.stack([face.boxes for face in piece.faces], axis=1)))
        voices = [self._judge(piece, motion, number, own) for number, own in sorted(spans.items())]
        yield from self._parts(piece, motion, voices)

    def _seconds(self, piece: Piece) -> tuple[float, float]:
        return piece.start / FPS, piece.end / FPS
