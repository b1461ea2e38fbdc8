"""Channels of a recording: taking one of them, and noticing that each of two holds another person's voice."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

STEP = 0.1
"""Seconds that one value of an envelope covers."""
_NAMES = {"left": 0, "right": 1}
_ACTIVE_DB, _APART_DB, _BELOW_DB = 30.0, 8.0, 25.0
"""Decibels: below its loud moments where a channel counts as silent, by which one must be louder than the other, and
by which the loud moments of both may differ."""
_MOST_CORRELATED = 0.4
_LEAST_SHARE, _LEAST_SECONDS = 0.1, 0.5
"""How long each channel must be the louder one: share of the speech, and seconds."""


def split_channel(path: str | os.PathLike[str]) -> tuple[Path, int | None]:
    """The file and the channel of "talk.wav:left", ":right" or ":1" to ":N", the channel counted from 0.

    A file that is really called so is meant itself, with the channel None; so is a path whose file is not there.
    """
    path = Path(path)
    name, colon, chosen = path.name.rpartition(":")
    if not colon or not name or os.path.lexists(path):
        return path, None
    number = int(chosen) - 1 if chosen.isascii() and chosen.isdigit() and len(chosen) < 6 else -1
    channel = _NAMES.get(chosen.lower(), number)
    file = path.with_name(name)
    return (file, channel) if channel >= 0 and file.is_file() else (path, None)


def two_voices_remark(path: str | os.PathLike[str]) -> str:
    """The warning about a recording with a different voice on each side."""
    return f"{path} has a different voice on each side; take one with {path}:left or {path}:right. Both are mixed now."


class Envelopes:
    """Energies of the channels of a recording over time, gathered piece by piece.

    Args:
        sample_rate: samples a second.
    """

    def __init__(self, sample_rate: int) -> None:
        self._step = max(1, int(STEP * sample_rate))
        self._rows: list[np.ndarray] = []
        self._open, self._held = np.zeros(1), 0
        self.power = np.zeros(1)
        """Sum of squares of each channel."""

    def add(self, channels: np.ndarray) -> None:
        """Add samples (channels, samples); an incomplete step at their end is continued by the next call."""
        start = 0
        while start < channels.shape[1]:
            piece = channels[:, start : start + self._step - self._held]
            start += piece.shape[1]
            power = np.einsum("ij,ij->i", piece, piece, dtype=np.float64)
            self._open, self._held = self._open + power, self._held + piece.shape[1]
            self.power = self.power + power
            if self._held >= self._step:
                self._rows.append((self._open / self._step).astype(np.float32))
                self._open, self._held = np.zeros(1), 0

    def have_two_voices(self) -> bool:
        """Whether there are two channels with a different voice each, see `two_voices`."""
        return len(self.power) == 2 and len(self._rows) > 0 and two_voices(self._rows)


def two_voices(energies: Sequence[np.ndarray] | np.ndarray) -> bool:
    """Whether two channels hold different voices: each is loud where the other is quiet, and they don't rise together.

    Microphones of an interview hear the other person, too, but quieter. The same voice on both sides, whatever its
    gains, delay or echo, and music, whose instruments keep one beat, rise and fall together.

    Args:
        energies: (steps, 2) mean squares, `STEP` seconds a step.
    """
    levels = 10 * np.log10(np.maximum(np.asarray(energies, dtype=np.float64), 1e-10))
    loud = np.quantile(levels, 0.9, axis=0)
    if loud.min() < -60 or abs(loud[0] - loud[1]) > _BELOW_DB:
        return False
    relative = np.maximum(levels - loud, -_ACTIVE_DB)  # a gain of one channel does not count
    active = relative.max(axis=1) > -_ACTIVE_DB / 2
    difference = (relative[:, 0] - relative[:, 1])[active]
    least = max(_LEAST_SECONDS / STEP, _LEAST_SHARE * len(difference))
    if min((difference > _APART_DB).sum(), (difference < -_APART_DB).sum()) < least:
        return False
    return bool(np.corrcoef(relative[active].T)[0, 1] < _MOST_CORRELATED)
