"""Whose mouth follows whose voice: every face of a video against every voice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anytalker.errors import InputError, NoScoreError
from anytalker.evaluation.lip_sync.scores import REACH, SyncTracks, track_distances


@dataclass(frozen=True)
class Binding:
    """Faces against voices.

    Attributes:
        confidence: (P, V): for each face (row) and voice (column), the median of the mean distances over all delays
            minus the smallest one within a frame of none; NaN for silent voices and for missing faces.
        best: for each face, the voice that fits best; None where the face, or every voice, is missing.
        correct: for each face, whether that is its own voice; None for a silent or missing one.
        accuracy: share of the faces with a voice that are bound to it.
    """

    confidence: np.ndarray
    best: list[int | None]
    correct: list[bool | None]
    accuracy: float


def binding(tracks: SyncTracks, owners: Sequence[int] | None = None, tolerance: int = 1) -> Binding:
    """Compare every face with every voice, and tell how many faces move with their own.

    Args:
        tracks: from `embed_tracks`, with several voices.
        owners: for each voice the index of its person; None: voice i belongs to person i.
        tolerance: largest delay in frames that still counts as in sync.

    Raises:
        InputError: if there isn't one owner for each voice, or one is no person of the video.
        NoScoreError: if fewer than two voices can be heard, or no face with a voice can be judged.
    """
    people, voices = len(tracks.faces), len(tracks.voices)
    owner = list(range(voices)) if owners is None else list(owners)
    if len(owner) != voices or len(set(owner)) != voices or not all(0 <= person < people for person in owner):
        raise InputError(f"There are {voices} voices and {people} people; the owners of the voices are {owner}.")
    if tracks.sounding.sum() < 2:
        raise NoScoreError(f"{int(tracks.sounding.sum())} voices can be heard; telling them apart needs two or more.")
    confidence = confidence_matrix(tracks, tolerance)
    best: list[int | None] = [None if np.isnan(row).all() else int(np.nanargmax(row)) for row in confidence]
    correct: list[bool | None] = [None] * people
    for voice, person in enumerate(owner):
        if np.isfinite(confidence[person, voice]):
            correct[person] = best[person] == voice
    judged = [right for right in correct if right is not None]
    if not judged:
        raise NoScoreError("No face with a voice is there for long enough to be judged.")
    return Binding(confidence, best, correct, float(np.mean(judged)))


def confidence_matrix(tracks: SyncTracks, tolerance: int = 1) -> np.ndarray:
    """Confidence (P, V) of every face with every voice within ±`tolerance` frames, NaN where there is none."""
    matrix = np.full((len(tracks.faces), len(tracks.voices)), np.nan)
    for face, voice in np.ndindex(*matrix.shape):
        try:
            means = track_distances(tracks, face, voice)
        except NoScoreError:
            continue
        matrix[face, voice] = np.median(means) - means[REACH - tolerance : REACH + tolerance + 1].min()
    return matrix
