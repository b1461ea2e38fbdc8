"""Near-duplicates: the same pictures and the same words, though cut, scaled or encoded in another way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anytalker.curation.export import KeptClip
from anytalker.curation.footage import FPS

_LEAST_SECONDS = 1.5
_ALIKE = 0.95
"""Correlation of two clips' loudness, frame by frame, above which they are the same recording."""


def find_duplicates(clips: Sequence[KeptClip], max_distance: int) -> dict[str, str]:
    """Names of clips that are much like an earlier one, and that one's name.

    Clips of one shot look alike, so what is heard must be alike, too, at some shift.

    Args:
        clips: in their order.
        max_distance: bits of 64 that the hashes of two clips' pictures may differ in.
    """
    hashes = np.array([int(clip.picture_hash, 16) for clip in clips], dtype=np.uint64)
    found: dict[str, str] = {}
    for index, clip in enumerate(clips):
        apart = np.unpackbits((hashes[:index] ^ hashes[index]).view(np.uint8)).reshape(-1, 64).sum(axis=1)
        for earlier in np.flatnonzero(apart <= max_distance):
            other = clips[int(earlier)]
            same_length = len(other.persons) == len(clip.persons)
            if other.name not in found and same_length and sound_alike(other.loudness, clip.loudness):
                found[clip.name] = other.name
                break
    return found


def sound_alike(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether two clips are the same recording, by the loudness of their frames, wherever they begin in it."""
    a, b = (np.log(np.maximum(np.asarray(one, dtype=float), 1e-3)) for one in (first, second))
    least = int(_LEAST_SECONDS * FPS)
    for shift in range(least - len(b), len(a) - least + 1):
        x = a[max(0, shift) : len(b) + shift]
        y = b[max(0, -shift) : max(0, -shift) + len(x)]
        x = x[: len(y)]
        if x.std() > 0.2 and y.std() > 0.2 and float(np.corrcoef(x, y)[0, 1]) > _ALIKE:
            return True
    return False
