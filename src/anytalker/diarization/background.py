"""Music and noise behind voices: they change embeddings more than voices do, so nobody is told apart by them."""

from __future__ import annotations

import numpy as np

from anytalker.conventions import SAMPLE_RATE
from anytalker.media.recordings import frame_loudness
from anytalker.media.sound import Samples

CLEAR = 12.0
"""Decibels between loud and quiet moments from which a voice counts as clear: speech pauses, music and noise don't."""
_STEPS_A_SECOND = 50
_SILENCE = 1e-4
_SMOOTH = 2
"""Windows before and after one that have a say in whose it is."""


def loud_to_quiet(samples: np.ndarray) -> float:
    """How many decibels the loud moments of a stretch of speech are above the quietest ones.

    Args:
        samples: float (samples,) at 16 kHz.
    """
    steps = max(1, len(samples) * _STEPS_A_SECOND // SAMPLE_RATE)
    loudness = np.maximum(frame_loudness(samples, steps, _STEPS_A_SECOND), _SILENCE)
    return float(20 * np.log10(np.quantile(loudness, 0.9) / np.quantile(loudness, 0.05)))


def clear_windows(sound: np.ndarray | Samples, times: np.ndarray) -> np.ndarray:
    """Which windows (W, 2), [start, end) in seconds, are free of loud music and noise: boolean (W,)."""
    edges = np.round(times * SAMPLE_RATE).astype(int).tolist()
    return np.array([loud_to_quiet(sound[start:end]) >= CLEAR for start, end in edges], dtype=bool)


def give_to_nearest(points: np.ndarray, clear: np.ndarray, belief: np.ndarray) -> np.ndarray:
    """Probabilities (W, speakers) of all windows, where those that aren't clear go to the voice they are nearest to.

    Args:
        points: (W, d) in order of time.
        clear: boolean (W,).
        belief: probabilities of the clear ones (clear, speakers).
    """
    centres = (belief.T @ points[clear]) / belief.sum(axis=0)[:, None]
    likeness = _unit(points) @ _unit(centres).T
    whole = np.zeros((len(points), belief.shape[1]))
    whole[clear] = belief
    for index in np.flatnonzero(~clear):
        around = slice(max(0, index - _SMOOTH), index + _SMOOTH + 1)
        whole[index, likeness[around][~clear[around]].mean(axis=0).argmax()] = 1
    return whole


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
