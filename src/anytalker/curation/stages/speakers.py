"""Who speaks: every voice belongs to a face whose lips say what is heard, or to nobody in the picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import maximum_filter1d, minimum_filter1d

from anytalker.conditioning.face_mesh.mouths import FaceMotion
from anytalker.curation.config import SpeechConfig, SyncConfig
from anytalker.curation.footage import FPS
from anytalker.curation.lip_sync import SyncJudgement, judge_sync, pool
from anytalker.curation.piece import Dropped, Piece
from anytalker.curation.spans import Span, clipped, common, joined, left_over, total
from anytalker.diarization.turns import spans_of
from anytalker.errors import NoScoreError

_SHORTEST_TURN = 0.2
_KNOWN = 1.0
"""Seconds that a voice must be heard in a piece to be held against lips."""
_AROUND = 0.3
"""Seconds around speech in which lips are looked at, too: they open before it and close after it."""
MOVING = 0.025
"""Gap between the lips, in distances of the eyes, that it changes by in speech."""
_STILL = 7
"""Frames in which lips that say something move; their longest closures are shorter."""
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
        piece = replace(measured, delay=delay)
        yield from self._parts(piece, motion, self._judged(piece, motion, _heard(piece), delay))

    def _judged(self, piece: Piece, motion: FaceMotion, voices: Sequence[_Voice], delay: int | None) -> list[_Voice]:
        """Voices held against every face, where they are heard long enough."""
        judged = []
        for voice in voices:
            others = [span for other in voices if other is not voice for span in other.spans]
            faces = range(len(piece.faces)) if voice.seconds >= _KNOWN else ()
            judgements = tuple(judge_voice(piece, motion, face, voice.spans, others, delay) for face in faces)
            judged.append(replace(voice, judgements=judgements))
        return judged

    def _parts(self, piece: Piece, motion: FaceMotion, voices: Sequence[_Voice]) -> Iterator[Piece | Dropped]:
        least = self._sync.min_confidence
        owned = [voice for voice in voices if voice.judgement is not None and voice.judgement.confidence >= least]
        late = piece.delay / FPS
        start, end = (piece.start + _EDGE) / FPS, (piece.end - _EDGE) / FPS
        several, silent = _at_once(piece, motion, {voice.number: voice.best for voice in owned})
        overlaps = clipped(spans_of(several, 1 / FPS, piece.start), start, end)
        strange = [span for voice in voices if voice not in owned for span in _earlier(voice.spans, late)]
        faces = []
        for index, face in enumerate(piece.faces):
            own = [voice for voice in owned if voice.best == index]
            spans = joined(span for voice in own for span in _earlier(voice.spans, late))
            unsaid = spans_of(silent[:, index], 1 / FPS, piece.start)
            spans = [part for a, b in spans for part in left_over(a, b, unsaid)]
            main = max(own, key=lambda voice: voice.seconds, default=None)
            judged = [voice.judgement for voice in own if voice.judgement]
            face = replace(face, speaking=tuple(spans), voice=main.number if main else None)
            faces.append(replace(face, agreement=pool(judged, 0) if judged else None))
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


def _at_once(piece: Piece, motion: FaceMotion, owners: Mapping[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """When several speak at once (T,), and when a face (T, P) only seemed to be one of them.

    Sound alone doesn't tell to the frame when one voice begins and another ends. Lips do: whoever is visible and keeps
    them still says nothing. Doubts about voices that are hardly heard otherwise in the piece don't count: of 5.9 s of
    them, in 80 minutes of drawn episodes, somebody else spoke in 0.2 s.

    Args:
        piece: the piece, whose delay is known.
        motion: of its faces.
        owners: the face of each voice that has one.
    """
    times = (np.arange(piece.start, piece.end) + 0.5) / FPS
    still = still_lips(motion)
    spans: dict[int, list[Span]] = {}
    for turn in piece.turns:
        spans.setdefault(turn.speaker, []).append((turn.start, turn.end))
    heard = {voice: inside(times, _earlier(own, piece.delay / FPS)) for voice, own in spans.items()}
    heard = {voice: frames for voice, frames in heard.items() if frames.any()}
    count = sum(heard.values(), np.zeros(len(times), int))
    quiet = {voice: heard[voice] & still[:, owners[voice]] for voice in heard if voice in owners}
    one_of_two = (count == 2) & (sum(quiet.values(), np.zeros(len(times), int)) == 1)
    several = (count > 1) & ~one_of_two
    for turn in piece.doubts:
        if turn.speaker not in heard or heard[turn.speaker].sum() < _KNOWN * FPS:
            continue
        doubted = inside(times, _earlier([(turn.start, turn.end)], piece.delay / FPS)) & (count < 2)
        several |= doubted & ~still[:, owners[turn.speaker]] if turn.speaker in owners else doubted
    silent = np.zeros_like(still)
    for voice, frames in quiet.items():
        silent[:, owners[voice]] |= frames & one_of_two
    return several, silent


def still_lips(motion: FaceMotion) -> np.ndarray:
    """When the lips of each face don't move as in speech: boolean (T, P)."""
    seen = minimum_filter1d(np.isfinite(motion.opening).astype(np.uint8), _STILL, axis=0) > 0
    gap = np.nan_to_num(motion.opening)
    moved = maximum_filter1d(gap, _STILL, axis=0) - minimum_filter1d(gap, _STILL, axis=0)
    return seen & (moved < MOVING)


def inside(times: np.ndarray, spans: Sequence[Span], margin: float = 0.0) -> np.ndarray:
    """Which moments (T,) lie in spans, or up to `margin` seconds around them."""
    within = np.zeros(len(times), bool)
    for start, end in spans:
        within |= (times >= start - margin) & (times < end + margin)
    return within


def _heard(piece: Piece) -> list[_Voice]:
    """The voices of a piece, by its delay, without what is too short to be anything."""
    late = piece.delay / FPS
    spans: dict[int, list[Span]] = {}
    for turn in piece.turns:
        inner = clipped([(turn.start, turn.end)], piece.start / FPS + late, piece.end / FPS + late, _SHORTEST_TURN)
        spans.setdefault(turn.speaker, []).extend(inner)
    return [_Voice(number, tuple(joined(own))) for number, own in sorted(spans.items()) if own]


def _earlier(spans: Sequence[Span], seconds: float) -> list[Span]:
    return [(a - seconds, b - seconds) for a, b in spans]
