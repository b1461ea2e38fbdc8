"""Who speaks when, as data, and how far one account of it is from another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from anytalker.errors import InputError


class Turn(NamedTuple):
    """A stretch of one person's speech.

    Attributes:
        speaker: whose, counted from 0.
        start: seconds.
        end: seconds.
    """

    speaker: int
    start: float
    end: float


@dataclass(frozen=True)
class Diarization:
    """Who speaks when.

    Attributes:
        turns: by their start; a speaker's own turns don't touch.
        overlaps: [start, end) in seconds where two or more speak.
        embeddings: float32 (speakers, d) of norm 1, the voice of each. Speakers are in the order of their first word.
        doubtful: where a second one may speak, with a probability of 0.1 or more, and who that is, by their start.
    """

    turns: list[Turn] = field(default_factory=list)
    overlaps: list[tuple[float, float]] = field(default_factory=list)
    embeddings: np.ndarray = field(default_factory=lambda: np.zeros((0, 256), np.float32))
    doubtful: list[Turn] = field(default_factory=list)

    @property
    def num_speakers(self) -> int:
        """Different voices."""
        return len(self.embeddings)


@dataclass(frozen=True)
class DiarizationError:
    """Parts of the diarisation error, each a share of all speech in the reference (overlaps count for all in them).

    Attributes:
        missed: speech that was not found.
        false_alarm: speech that is none.
        confusion: speech given to another speaker.
        seconds: speech in the reference.
        mapping: a speaker of the reference for each one found, where there is one.
    """

    missed: float
    false_alarm: float
    confusion: float
    seconds: float
    mapping: dict[int, int]

    @property
    def rate(self) -> float:
        """DER: the sum of the parts."""
        return self.missed + self.false_alarm + self.confusion


def diarization_error(reference: Iterable[Turn], found: Iterable[Turn]) -> DiarizationError:
    """Diarisation error rate as NIST defines it (md-eval), without a collar and with overlapped speech.

    At every moment, with r speakers of the reference, f found and c of them the same, max(0, r - f) are missed,
    max(0, f - r) are false alarms and min(r, f) - c are confused. Speakers are matched one to one, so that they agree
    for as long as possible.

    Args:
        reference: the truth.
        found: what is judged.

    Returns:
        The error.

    Raises:
        InputError: if the reference has no speech.
    """
    true, heard = list(reference), list(found)
    edges = np.unique([moment for turn in (*true, *heard) for moment in (turn.start, turn.end)])
    lengths = np.diff(edges)
    names_true, active_true = _activity(true, edges)
    names_heard, active_heard = _activity(heard, edges)
    spoken = active_true.sum(axis=0) @ lengths if len(lengths) else 0.0
    if spoken <= 0:
        raise InputError("The reference has no speech, so there is no error rate. Give turns that last.")
    agreement = (active_true * lengths) @ active_heard.T
    rows, columns = linear_sum_assignment(-agreement)
    pairs = [(row, column) for row, column in zip(rows, columns, strict=True) if agreement[row, column] > 0]
    correct = sum((active_true[row] * active_heard[column] for row, column in pairs), np.zeros(len(lengths)))
    r, f = active_true.sum(axis=0), active_heard.sum(axis=0)
    return DiarizationError(
        float(np.maximum(r - f, 0) @ lengths / spoken),
        float(np.maximum(f - r, 0) @ lengths / spoken),
        float((np.minimum(r, f) - correct) @ lengths / spoken),
        float(spoken),
        {names_heard[column]: names_true[row] for row, column in pairs},
    )


def _activity(turns: Sequence[Turn], edges: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Speakers, and whether each speaks (speakers, intervals) between the edges."""
    names = sorted({turn.speaker for turn in turns})
    active = np.zeros((len(names), max(0, len(edges) - 1)))
    for turn in turns:
        first, last = np.searchsorted(edges, [turn.start, turn.end])
        active[names.index(turn.speaker), first:last] = 1
    return names, active


def spans_of(active: np.ndarray, step: float, first: int = 0) -> list[tuple[float, float]]:
    """Stretches [start, end) in seconds where frames (T,) of `step` seconds, counted from `first`, are true."""
    edges = first + np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    return [
        (round(a * step, 3), round(b * step, 3)) for a, b in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    ]
