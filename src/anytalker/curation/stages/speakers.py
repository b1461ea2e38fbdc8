"""Who speaks: every voice belongs to a face whose lips say what is heard, or to nobody in the picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from anytalker.conditioning.face_mesh.mouths import FaceMotion
from anytalker.curation.config import SpeechConfig, SyncConfig
from anytalker.curation.footage import FPS
from anytalker.curation.lip_sync import SyncJudgement, judge_sync, pool
from anytalker.curation.piece import Dropped, Piece
from anytalker.curation.spans import Span, clipped, common, joined, left_over, total
from anytalker.errors import NoScoreError

_SHORTEST_TURN = 0.2
_KNOWN = 1.0
"""Seconds that a voice must be heard in a piece to be held against lips."""
_AROUND = 0.3
"""Seconds around speech in which lips are looked at, too: they open before it and close after it."""
_EDGE = 3
"""Frames at both ends of a shot that are left out: encoders blur them, and dissolves begin faintly."""


@dataclass(frozen=True)
class _Voice:
    """A voice in a piece: when it is heard, and how well each face goes with it."""

    number: int
    spans: tuple[Span, ...]
    judgements: tuple[SyncJudgement | None, ...] = ()

    @property
    def seconds(self) -> float:
        return total(self.spans)

    @property
    def best(self) -> int:
        """The face that goes with it best."""
        return int(np.argmax([-np.inf if one is None else one.confidence for one in self.judgements]))

    @property
    def judgement(self) -> SyncJudgement | None:
        """That face's."""
        return self.judgements[self.best] if self.judgements else None


class SpeakersStage:
    """Gives every face its voice, corrects a constant delay, and leaves out what nobody visible says."""

    name = "speakers"

    def __init__(self, speech: SpeechConfig, sync: SyncConfig) -> None:
        self._speech, self._sync = speech, sync

    def __call__(self, piece: Piece) -> Iterator[Piece | Dropped]:
        """Parts of the piece in which all that is heard is said by somebody visible, and why the rest is dropped."""
        heard = _heard(piece)
        if not heard:
            yield piece.drop(self.name, "nobody speaks")
            return
        piece, motion = piece.followed()
        voices = self._judged(piece, motion, heard, None)
        agreeing = [voice for voice in voices if voice.judgement is not None and voice.judgement.agrees]
        if not agreeing:
            best = max((voice.judgement.confidence for voice in voices if voice.judgement), default=0.0)
            yield piece.drop(self.name, "nobody's lips say what is heard", **{"speakers.confidence": best})
            return
        delay = pool([voice.judgement for voice in agreeing if voice.judgement]).offset_frames
        measured = piece.measured(**{"speakers.delay": delay})
        if abs(delay) > self._sync.max_delay:
            yield measured.drop(self.name, f"the sound is {abs(delay)} frames too {'late' if delay > 0 else 'early'}")
            return
        voices = self._judged(piece, motion, heard, delay)
        yield from self._parts(replace(measured, delay=delay), voices)

    def _judged(self, piece: Piece, motion: FaceMotion, voices: Sequence[_Voice], delay: int | None) -> list[_Voice]:
        """Voices held against every face, where they are heard long enough."""
        judged = []
        for voice in voices:
            others = [span for other in voices if other is not voice for span in other.spans]
            faces = range(len(piece.faces)) if voice.seconds >= _KNOWN else ()
            judgements = tuple(judge_voice(piece, motion, face, voice.spans, others, delay) for face in faces)
            judged.append(replace(voice, judgements=judgements))
        return judged

    def _parts(self, piece: Piece, voices: Sequence[_Voice]) -> Iterator[Piece | Dropped]:
        owned = [voice for voice in voices if voice.judgement is not None and voice.judgement.agrees]
        late = piece.delay / FPS
        start, end = (piece.start + _EDGE) / FPS, (piece.end - _EDGE) / FPS
        overlaps = clipped(_earlier(piece.overlaps, late), start, end)
        strange = [span for voice in voices if voice not in owned for span in _earlier(voice.spans, late)]
        faces = []
        for index, face in enumerate(piece.faces):
            own = [voice for voice in owned if voice.best == index]
            spans = joined(span for voice in own for span in _earlier(voice.spans, late))
            main = max(own, key=lambda voice: voice.seconds, default=None)
            faces.append(replace(face, speaking=tuple(spans), voice=main.number if main else None))
        piece = replace(piece, faces=tuple(faces))
        usable = left_over(start, end, [*overlaps, *strange], self._speech.margin)
        for a, b in usable:
            first, last = int(np.ceil(a * FPS - 1e-6)), int(b * FPS + 1e-6)
            if last - first >= 1:
                yield piece.part(first, last)
        for reason, spans in (("voices overlap", overlaps), ("somebody speaks who is not seen", strange)):
            for a, b in common(joined(spans), [(start, end)]):
                yield piece.part(round(a * FPS), max(round(a * FPS) + 1, round(b * FPS))).drop(self.name, reason)


def judge_voice(
    piece: Piece, motion: FaceMotion, face: int, spans: Sequence[Span], others: Sequence[Span], delay: int | None = None
) -> SyncJudgement | None:
    """How well a face's lips say what is heard; None where there is too little of it.

    Args:
        piece: the piece, whose own delay doesn't count.
        motion: of its faces.
        face: index of the face.
        spans: when the voice is heard, in seconds of the footage, by its sound.
        others: when other voices are.
        delay: frames that the sound is known to come late; None: it isn't known.
    """
    late = delay or 0
    spans, others = _earlier(spans, late / FPS), _earlier(others, late / FPS)
    times = (np.arange(piece.start, piece.end) + 0.5) / FPS
    own, taken = (inside(times, one, margin) for one, margin in ((spans, _AROUND), (others, 0.0)))
    mouth = np.stack([motion.opening[:, face], motion.height[:, face], motion.width[:, face]], axis=1)
    mouth[~own | (taken & ~inside(times, spans, 0.0))] = np.nan
    try:
        judged = judge_sync(mouth, FPS, piece.heard(delay=late), None if delay is None else 0)
    except NoScoreError:
        return None
    return replace(judged, offset_frames=judged.offset_frames + late)


def inside(times: np.ndarray, spans: Sequence[Span], margin: float = 0.0) -> np.ndarray:
    """Which moments (T,) lie in spans, or up to `margin` seconds around them."""
    within = np.zeros(len(times), bool)
    for start, end in spans:
        within |= (times >= start - margin) & (times < end + margin)
    return within


def _heard(piece: Piece) -> list[_Voice]:
    """The voices of a piece, without what is too short to be anything."""
    spans: dict[int, list[Span]] = {}
    for turn in piece.turns:
        inner = clipped([(turn.start, turn.end)], piece.start / FPS, piece.end / FPS, _SHORTEST_TURN)
        spans.setdefault(turn.speaker, []).extend(inner)
    return [_Voice(number, tuple(joined(own))) for number, own in sorted(spans.items()) if own]


def _earlier(spans: Sequence[Span], seconds: float) -> list[Span]:
    return [(a - seconds, b - seconds) for a, b in spans]
