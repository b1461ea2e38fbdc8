"""Near-duplicates: the same pictures and the same words, though cut, scaled or encoded in another way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anytalker.curation.export import KeptClip
from anytalker.curation.footage import FPS

_LEAST_SECONDS = 1.5
_LEAST_FRAMES = int(_LEAST_SECONDS * FPS)
"""Of an overlap that two clips are compared in."""
_ALIKE = 0.95
"""Correlation of two clips' loudness, frame by frame, above which they are the same recording."""
_LEAST_SPREAD = 0.2
"""Standard deviation of the logarithm of loudness below which nothing can be said."""
_ROUNDING = 1e-6
_AT_ONCE = 256
"""Clips that one is compared with at a time."""


def find_duplicates(clips: Sequence[KeptClip], max_distance: int) -> dict[str, str]:
    """Names of clips that are much like an earlier one, and that one's name.

    Clips of one shot look alike, so what is heard must be alike, too, at some shift.

    Args:
        clips: in their order.
        max_distance: bits of 64 that the hashes of two clips' pictures may differ in.
    """
    hashes = np.array([int(clip.picture_hash, 16) for clip in clips], dtype=np.uint64)
    people = np.array([len(clip.persons) for clip in clips], dtype=int)
    heard = [np.asarray(clip.loudness, dtype=float) for clip in clips]
    found: dict[str, str] = {}
    unique = np.ones(len(clips), bool)
    for index, clip in enumerate(clips):
        apart = np.unpackbits((hashes[:index] ^ hashes[index]).view(np.uint8)).reshape(-1, 64).sum(axis=1)
        alike = np.flatnonzero((apart <= max_distance) & unique[:index] & (people[:index] == people[index]))
        twin = _first_alike(heard, alike, index)
        if twin is not None:
            found[clip.name], unique[index] = clips[twin].name, False
    return found


def _first_alike(heard: Sequence[np.ndarray], earlier: np.ndarray, index: int) -> int | None:
    """The first of some earlier clips that is the same recording."""
    for start in range(0, len(earlier), _AT_ONCE):
        part = earlier[start : start + _AT_ONCE].tolist()
        likely = _may_be_alike([heard[one] for one in part], heard[index])
        for one in np.array(part)[likely].tolist():
            if sound_alike(heard[one], heard[index]):
                return int(one)
    return None


def sound_alike(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two clips are the same recording, by the loudness of their frames, wherever they begin in it."""
    a, b = _levels(first), _levels(second)
    for shift in range(_LEAST_FRAMES - len(b), len(a) - _LEAST_FRAMES + 1):
        x = a[max(0, shift) : len(b) + shift]
        y = b[max(0, -shift) : max(0, -shift) + len(x)]
        x = x[: len(y)]
        if x.std() > _LEAST_SPREAD and y.std() > _LEAST_SPREAD and float(np.corrcoef(x, y)[0, 1]) > _ALIKE:
            return True
    return False


def _levels(loudness: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(loudness, 1e-3))


def _may_be_alike(others: Sequence[np.ndarray], own: np.ndarray) -> np.ndarray:
    """Which of some clips `sound_alike` finds, up to rounding: all shifts of all at once, by Fourier transform.

    Hours of one camera look alike, so that all clips are compared with all.
    """
    others, own = [_levels(one) for one in others], _levels(own)
    lengths = np.array([len(one) for one in others])[:, None]
    longest = int(lengths.max(initial=0))
    padded = np.stack([np.pad(one, (0, longest - len(one))) for one in others])
    size = 2 ** int(longest + len(own)).bit_length()
    products = np.fft.irfft(np.fft.rfft(padded, size) * np.fft.rfft(own, size).conj(), size)
    shifts = np.arange(_LEAST_FRAMES - len(own), longest - _LEAST_FRAMES + 1)
    start, end = np.maximum(0, shifts), np.minimum(lengths, len(own) + shifts)
    wanted = (shifts <= lengths - _LEAST_FRAMES) & (end > start)
    count, end = np.maximum(end - start, 1), np.maximum(end, start)
    sums, own_sums = _running(padded), _running(own[None])
    x, x_squares = (np.take_along_axis(one, end, axis=1) - one[:, start] for one in sums)
    y, y_squares = (one[0, end - shifts] - one[0, start - shifts] for one in own_sums)
    variances = (x_squares / count - (x / count) ** 2, y_squares / count - (y / count) ** 2)
    spread = np.sqrt(np.maximum(np.minimum(*variances), 0))
    together = products[:, shifts] / count - x * y / count**2
    correlation = together / np.sqrt(np.maximum(variances[0] * variances[1], 1e-12))
    return (wanted & (spread > _LEAST_SPREAD - _ROUNDING) & (correlation > _ALIKE - _ROUNDING)).any(axis=1)


def _running(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of values (K, T), and of their squares, before each frame and after the last: (K, T + 1) each."""
    first, second = (np.pad(one.cumsum(axis=1), ((0, 0), (1, 0))) for one in (values, values**2))
    return first, second
