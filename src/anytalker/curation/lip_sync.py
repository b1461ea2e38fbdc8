"""Do these lips say this sound, and how late is it? Decided from the shape of a mouth, for drawn and for real faces.

A voice makes one expect a mouth (`expect_mouth`). What is expected and what is seen are compared at every delay: gaps
between the lips, their height, and their width. Slow changes (smiles, breath) don't count, and silence counts little,
because a silent mouth may do what it likes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from anytalker.curation.voice_mouth import NAMES, expect_mouth
from anytalker.errors import InputError, NoScoreError

REACH = 15
"""Delays up to so many frames are compared."""
MIN_SECONDS = 1.0
"""Less than this of a mouth, or of speech, is not judged."""
TOLERANCE = 1
"""Frames around a delay that is already known."""
SURE, CONFIRMED = 2.5, 2.0
"""Least confidence of a mouth that says a sound, where the delay is unknown, and where it is known."""

_LEAST_REST = 2.0
"""Seconds of speech that a part can be compared with."""
_SLOW = 0.5
"""Seconds; slower changes don't count."""
_GAP = 0.05
"""A gap between the lips, in distances of the eyes, from which on they are simply open."""
_FLOOR = 0.02
"""Motion that may be noise, in the same unit."""
_SILENT = 0.1
"""How much silence counts."""
_PAIRS: tuple[tuple[str, str, float], ...] = (
    ("gap", "opening", 0.1),
    ("height", "opening", 0.25),
    ("height", "loud_opening", 0.15),
    ("width", "width", 0.3),
    ("height", "width", 0.2),
)
"""What is seen, what is expected, and the share of their correlation. Rounding real lips closes them, too."""
_NOISE = 0.2
"""Spread of the correlation of a real mouth with a foreign voice over one second of speech."""


@dataclass(frozen=True)
class SyncJudgement:
    """How well one mouth goes with one sound.

    Attributes:
        confidence: the correlation in units of its spread for foreign voices, which falls with the length of speech;
            compare with `SURE`, or with `CONFIRMED` where the delay was known. About 0 for a mouth that doesn't move.
        offset_frames: how many frames the voice comes late; negative: early.
        correlation: of what is seen with what the voice makes one expect, at that delay, from −1 to 1.
        curve: (2·15+1,) the same for each delay from −15 to 15 frames.
        seconds: length of the speech that was judged.
        agrees: whether this mouth says this sound.
    """

    confidence: float
    offset_frames: int
    correlation: float
    curve: np.ndarray
    seconds: float
    agrees: bool


def judge_sync(mouth: np.ndarray, fps: float, samples: np.ndarray, delay: int | None = None) -> SyncJudgement:
    """Tell whether a mouth says a sound, and how late the sound is.

    Args:
        mouth: (T, 3) gap between the lips, their height and width, in distances of the eyes (`FaceMotion`), one row a
            frame; or (T,), only the gap; NaN where the face is missing.
        fps: frames a second.
        samples: the sound, 16 kHz (samples,) in [-1, 1], from the start of the first frame on.
        delay: frames that the sound comes late, as the rest of the file has shown; only delays within a frame of it
            count then, and less evidence is needed. None: it isn't known.

    Raises:
        InputError: if the mouth has another shape, or the delay lies beyond `REACH`.
        NoScoreError: if a second of the mouth or of speech isn't there.
    """
    return judge_curve(*_compare(_checked(mouth), expect_mouth(samples, len(mouth), fps), fps), delay)


def judge_curve(curve: np.ndarray, seconds: float, delay: int | None = None) -> SyncJudgement:
    """The judgement of a curve of correlations (2·15+1,) over so many seconds of speech; `delay` as in `judge_sync`."""
    allowed = np.arange(-REACH, REACH + 1)
    if delay is not None:
        if abs(delay) > REACH:
            raise InputError(f"A delay of {delay} frames is given; it may be from {-REACH} to {REACH}.")
        allowed = allowed[abs(allowed - delay) <= TOLERANCE]
    best = int(allowed[np.argmax(curve[allowed + REACH])])
    correlation = float(curve[best + REACH])
    confidence = correlation * np.sqrt(seconds) / _NOISE
    agrees = bool(confidence >= (SURE if delay is None else CONFIRMED))
    return SyncJudgement(float(confidence), best, correlation, curve, seconds, agrees)


def pool(judgements: Sequence[SyncJudgement], delay: int | None = None) -> SyncJudgement:
    """One judgement of several spans with the same delay, such as all clips of a file: they say more together.

    Raises:
        NoScoreError: if there are none.
    """
    if not judgements:
        raise NoScoreError("There is nothing to judge together.")
    seconds = np.array([judgement.seconds for judgement in judgements])
    curve = np.average([judgement.curve for judgement in judgements], axis=0, weights=seconds)
    return judge_curve(curve, float(seconds.sum()), delay)


def rest_of(whole: SyncJudgement, part: SyncJudgement) -> SyncJudgement | None:
    """What is left of a judgement at a known delay without a part of it; None where that is too little to compare."""
    seconds = whole.seconds - part.seconds
    if seconds < _LEAST_REST:
        return None
    return judge_curve((whole.curve * whole.seconds - part.curve * part.seconds) / seconds, seconds, 0)


def likeness(part: SyncJudgement, rest: SyncJudgement) -> float:
    """How well a part agrees, as a share of how well the rest does, from −1 to 1: about 0 for a foreign voice.

    A few seconds of real lips prove little by themselves. But with the same voice and lips around them, it is only left
    to tell whether they are more like these or more like a foreign voice; from 0.5 on, they are more like these.
    """
    return float(np.clip(part.correlation / max(rest.correlation, part.correlation, 1e-6), -1, 1))


def match_voices(
    mouths: Sequence[np.ndarray], voices: Sequence[np.ndarray], fps: float, delay: int | None = None
) -> np.ndarray:
    """Confidence (P, V) that each of P mouths says each of V sounds, see `judge_sync`; NaN where one can't be judged.

    Raises:
        InputError: as `judge_sync` does.
    """
    matrix = np.full((len(mouths), len(voices)), np.nan)
    checked = [_checked(mouth) for mouth in mouths]
    for column, samples in enumerate(voices):
        for row, mouth in enumerate(checked):
            try:
                curve, seconds = _compare(mouth, expect_mouth(samples, len(mouth), fps), fps)
                matrix[row, column] = judge_curve(curve, seconds, delay).confidence
            except NoScoreError:
                continue
    return matrix


def find_speaker(
    mouths: Sequence[np.ndarray], fps: float, samples: np.ndarray, delay: int | None = None
) -> tuple[int | None, np.ndarray]:
    """Which of P mouths says a sound; None if it is none of them, as with voices from off screen and dubbing.

    Returns:
        The index of the mouth, or None; and the confidence (P,) of each.

    Raises:
        InputError: as `judge_sync` does.
    """
    confidence = match_voices(mouths, [samples], fps, delay)[:, 0]
    if np.isnan(confidence).all():
        return None, confidence
    best = int(np.nanargmax(confidence))
    return (best if confidence[best] >= (SURE if delay is None else CONFIRMED) else None), confidence


def _checked(mouth: np.ndarray) -> np.ndarray:
    """A mouth as float64 (T, 3); where only the gap is known, the height is that, and the width is still."""
    values = np.asarray(mouth, dtype=np.float64)
    if values.ndim == 1:
        values = np.stack([values, values, np.zeros_like(values)], axis=1)
    if values.ndim != 2 or values.shape[1] != 3:
        raise InputError(f"A mouth has shape {np.shape(mouth)}; give (frames, 3): gap, height, width; or (frames,).")
    return values


def _compare(mouth: np.ndarray, expected: np.ndarray, fps: float) -> tuple[np.ndarray, float]:
    """The curve of correlations (2·15+1,) of a mouth (T, 3) with an expected one (T, 5), and the seconds of speech."""
    known = np.isfinite(mouth).all(axis=1)
    loud = _speech(expected, fps)
    seconds = float((loud * known).sum() / fps)
    if known.sum() / fps < MIN_SECONDS or seconds < MIN_SECONDS:
        raise NoScoreError(f"There are {seconds:.2f} s of speech with a mouth; lip sync needs {MIN_SECONDS} s.")
    seen = _seen(mouth, known, fps)
    heard = {name: _quick(expected[:, index], fps) for index, name in enumerate(NAMES)}
    curve = np.zeros(2 * REACH + 1)
    for delay in range(-REACH, REACH + 1):
        early = slice(max(0, -delay), max(0, len(mouth) - delay))
        late = slice(max(0, delay), max(0, len(mouth) + delay))
        weight = (_SILENT + (1 - _SILENT) * loud[late]) * known[early]
        curve[delay + REACH] = sum(
            share * _correlation(seen[one][early], heard[other][late], weight) for one, other, share in _PAIRS
        )
    return curve, seconds


def _seen(mouth: np.ndarray, known: np.ndarray, fps: float) -> dict[str, np.ndarray]:
    frames = np.arange(len(mouth))
    whole = np.stack([np.interp(frames, frames[known], column[known]) for column in mouth.T], axis=1)
    gap, height, width = whole.T
    seen = {"gap": _GAP * np.tanh(gap / _GAP), "height": height, "width": width}
    return {name: _quick(values, fps) for name, values in seen.items()}


def _quick(values: np.ndarray, fps: float) -> np.ndarray:
    return values - gaussian_filter1d(values, _SLOW * fps, mode="nearest")


def _speech(expected: np.ndarray, fps: float) -> np.ndarray:
    """Where there is speech (T,): 1, and 0 in silence."""
    level = gaussian_filter1d(expected[:, 0], 0.1 * fps, mode="nearest")
    level = level / max(0.1, float(np.percentile(level, 90)))
    return np.clip((level - 0.15) / 0.3, 0, 1)


def _correlation(seen: np.ndarray, heard: np.ndarray, weight: np.ndarray) -> float:
    weight = weight / max(float(weight.sum()), 1e-9)
    one, other = seen - weight @ seen, heard - weight @ heard
    power = (weight @ one**2 + _FLOOR**2) * (weight @ other**2 + 1e-6)
    return float(weight @ (one * other) / np.sqrt(power))
