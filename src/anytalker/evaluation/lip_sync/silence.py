"""Do mouths rest while they have nothing to say? Their motion next to that of the mouths that speak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anytalker.errors import InputError, NoScoreError
from anytalker.evaluation.lip_sync.crops import FaceCrop
from anytalker.evaluation.lip_sync.scores import MAX_MISSING, MIN_SECONDS, Spans

MOUTH = FaceCrop(size=48, side=0.64, shift=(0.0, 0.26))
"""The lower face: the small SyncNet's view, so that the same crops serve both."""

PAUSE_SECONDS = 0.3
"""So close to a span of speech a mouth may still be on its way."""

_STEPS_AT_ONCE = 64


@dataclass(frozen=True)
class Silence:
    """How still silent mouths are.

    Attributes:
        speaking: mean motion of the mouths while they speak, see `mouth_motions`.
        silent: mean motion of the mouths while they don't.
        ratio: silent / speaking: 0 is perfectly still, 1 as lively as speech.
        per_person: (P,) each person's silent motion / speaking; NaN for who is never silent, or missing.
    """

    speaking: float
    silent: float
    ratio: float
    per_person: np.ndarray


def mouth_motions(crops: np.ndarray, found: np.ndarray) -> np.ndarray:
    """How much each mouth moves from one frame to the next.

    Nods and turns of a head are no speech: what a shift, a scale and a change of light of the whole crop explain (to
    first order, by least squares) is left out.

    Args:
        crops: uint8 (T, P, 48, 48), from `crop_faces` with `MOUTH`.
        found: boolean (T, P).

    Returns:
        float64 (T-1, P): mean absolute difference, in units of the standard deviation of the face's pixels; NaN where
        the face is missing.
    """
    motions = np.full((max(0, len(crops) - 1), crops.shape[1]), np.nan)
    for person in range(crops.shape[1]):
        there = found[:, person]
        if not there.any():
            continue
        contrast = float(crops[there, person].std()) + 1.0
        steps = np.flatnonzero(there[1:] & there[:-1])
        for some in np.split(steps, range(_STEPS_AT_ONCE, len(steps), _STEPS_AT_ONCE)):
            before, after = crops[some, person].astype(np.float32), crops[some + 1, person].astype(np.float32)
            motions[some, person] = np.abs(_unexplained(before, after)).mean(axis=1) / contrast
    return motions


def _unexplained(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Difference of pairs of frames (S, H, W) after shifts and changes of light are removed: (S, H * W)."""
    mean = (before + after) / 2
    down, right = np.gradient(mean, axis=(1, 2))
    rows, columns = np.indices(mean.shape[1:], dtype=mean.dtype) - (mean.shape[1] - 1) / 2
    causes = np.stack([right, down, columns * right + rows * down, mean, np.ones_like(mean)], axis=1)
    causes = causes.reshape(len(mean), 5, -1)
    causes /= np.linalg.norm(causes, axis=2, keepdims=True) + 1e-6
    change = (after - before).reshape(len(mean), -1, 1)
    amounts = np.linalg.pinv(causes @ causes.transpose(0, 2, 1), rcond=1e-6, hermitian=True) @ (causes @ change)
    return (change - causes.transpose(0, 2, 1) @ amounts)[..., 0]


def silence(motions: np.ndarray, speaking: Sequence[Spans], fps: float) -> Silence:
    """Compare mouths that have nothing to say with those that speak.

    Args:
        motions: (T-1, P) from `mouth_motions`.
        speaking: each person's speaking spans (start, end) in seconds; none for people without a voice.
        fps: frames a second.

    Raises:
        InputError: if there isn't one list of spans for each person.
        NoScoreError: if less than a second of speech, or of silence, can be seen.
    """
    steps, people = motions.shape
    if len(speaking) != people:
        raise InputError(f"There are {people} faces, but speaking spans for {len(speaking)} people.")
    moments = (np.arange(steps) + 1) / fps
    loud = np.stack([_within(moments, spans, 0.0) for spans in speaking], axis=1)
    quiet = ~np.stack([_within(moments, spans, PAUSE_SECONDS) for spans in speaking], axis=1)
    seen = np.isfinite(motions)
    seen[:, seen.mean(axis=0) < 1 - MAX_MISSING] = False
    for name, chosen in (("speech", loud & seen), ("silence", quiet & seen)):
        if chosen.sum() < MIN_SECONDS * fps:
            raise NoScoreError(f"Only {chosen.sum() / fps:.2f} s of {name} can be seen; {MIN_SECONDS} s are needed.")
    speech = float(motions[loud & seen].mean())
    if speech == 0:
        raise NoScoreError("The mouths that should speak don't move at all, so that there is nothing to compare with.")
    still = float(motions[quiet & seen].mean())
    counts = (quiet & seen).sum(axis=0)
    sums = np.where(quiet & seen, motions, 0).sum(axis=0)
    per_person = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan) / speech
    return Silence(speech, still, still / speech, per_person)


def _within(moments: np.ndarray, spans: Spans, margin: float) -> np.ndarray:
    inside = np.zeros(len(moments), dtype=bool)
    for start, end in spans:
        inside |= (moments >= start - margin) & (moments < end + margin)
    return inside
