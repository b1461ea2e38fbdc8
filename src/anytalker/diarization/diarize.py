"""Who speaks when in a recording, from sound alone."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from anytalker.diarization.background import clear_windows, give_to_nearest
from anytalker.diarization.clustering import cluster_voices
from anytalker.diarization.resegmentation import STEP, sharpen
from anytalker.diarization.turns import Diarization, Turn, spans_of
from anytalker.diarization.voice_activity import MAX_GAP, SAMPLE_RATE, speech_spans
from anytalker.diarization.voice_encoder import WINDOW_SAMPLES, GE2EEmbedder, VoiceEmbedder, cut_windows
from anytalker.errors import InputError
from anytalker.media.sound import Samples

WINDOW, HOP = WINDOW_SAMPLES / SAMPLE_RATE, 0.4
"""Seconds of an embedded window, and from one to the next."""
_BATCH = 64
_SHORT_GAP, _LEAST_TURN, _LEAST_DOUBT = 0.1, 0.1, 0.2
"""Seconds of the shortest pause that is cut out, of the shortest turn, and of the shortest doubt."""
_LEAST_CLEAR = 0.5
"""Share of clear windows below which the others count, too, when voices are told apart."""


def diarize(
    sound: np.ndarray | Samples,
    num_speakers: int | None = None,
    max_speakers: int = 10,
    embedder: VoiceEmbedder | None = None,
) -> Diarization:
    """Find out who speaks when.

    Args:
        sound: float (samples,) at 16 kHz, of any length; memory grows by some 50 MB an hour.
        num_speakers: how many people there are; None: find out.
        max_speakers: how many there are at most, if that is to be found out.
        embedder: what tells voices apart; the one that the package carries by default.

    Returns:
        Turns, overlaps and voices; all empty where nobody speaks. There may be fewer speakers than asked for, if
        there isn't enough speech.

    Raises:
        InputError: if a number of people is below 1.
    """
    return assign_speakers(listen(sound, embedder), num_speakers, max_speakers)


@dataclass(frozen=True)
class Heard:
    """What is known of a recording before speakers are counted.

    Attributes:
        sound: the recording.
        spans: where there is speech, [start, end) in seconds, with short pauses cut out.
        times: windows (W, 2), [start, end) in seconds.
        embeddings: their voices (W, d).
        embedder: what made them.
    """

    sound: np.ndarray | Samples
    spans: list[tuple[float, float]]
    times: np.ndarray
    embeddings: np.ndarray
    embedder: VoiceEmbedder


def listen(sound: np.ndarray | Samples, embedder: VoiceEmbedder | None = None) -> Heard:
    """The first part of `diarize`, which doesn't depend on the number of speakers."""
    embedder = embedder or GE2EEmbedder()
    spans = speech_spans(sound, _SHORT_GAP)
    times = _windows(_joined(spans))
    return Heard(sound, spans, times, _embed(sound, times, embedder), embedder)


def assign_speakers(heard: Heard, num_speakers: int | None = None, max_speakers: int = 10) -> Diarization:
    """The second part of `diarize`.

    Raises:
        InputError: if a number of people is below 1.
    """
    for name, value in (("num_speakers", num_speakers), ("max_speakers", max_speakers)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; it must be at least 1.")
    embeddings = heard.embeddings
    if not len(embeddings):
        return Diarization()
    clear = clear_windows(heard.sound, heard.times)
    if clear.mean() < _LEAST_CLEAR:
        clear[:] = True
    points = (embeddings - embeddings[clear].mean(axis=0)) @ heard.embedder.directions
    belief = cluster_voices(points[clear], heard.embedder.variances, num_speakers, max_speakers)
    belief = give_to_nearest(heard.sound, heard.times, embeddings, clear, belief, heard.embedder)
    return _told(list(sharpen(heard.sound, heard.spans, heard.times, belief, clear)), embeddings, belief)


def _windows(spans: list[tuple[float, float]]) -> np.ndarray:
    """[start, end) in seconds of windows (W, 2) that cover the spans; shorter spans are windows themselves."""
    windows: list[tuple[float, float]] = []
    for start, end in spans:
        if end - start <= WINDOW:
            windows.append((start, end))
        else:
            count = int(np.ceil((end - start - WINDOW) / HOP)) + 1
            windows += [(first, first + WINDOW) for first in np.linspace(start, end - WINDOW, count).tolist()]
    return np.array(windows).reshape(-1, 2)


def _embed(sound: np.ndarray | Samples, times: np.ndarray, embedder: VoiceEmbedder) -> np.ndarray:
    """Embeddings (W, d)."""
    found = [embedder(cut_windows(sound, times[first : first + _BATCH])) for first in range(0, len(times), _BATCH)]
    return np.concatenate(found) if found else np.zeros((0, len(embedder.directions)), np.float32)


def _told(pieces: list[tuple[int, np.ndarray, np.ndarray]], embeddings: np.ndarray, belief: np.ndarray) -> Diarization:
    """The result, speakers in the order of their first word."""
    found: dict[int, list[tuple[float, float]]] = {}
    doubtful: list[Turn] = []
    for first, active, maybe in pieces:
        for start, end in spans_of(maybe >= 0, STEP, first):
            if end - start >= _LEAST_DOUBT:
                doubtful += _maybe_turns(maybe, first, round(start / STEP), round(end / STEP))
        for speaker in np.flatnonzero(active.any(axis=1)).tolist():
            found.setdefault(speaker, []).extend(spans_of(active[speaker], STEP, first))
    found = {speaker: joined for speaker, spans in found.items() if (joined := _joined(spans))}
    order = sorted(found, key=lambda speaker: found[speaker][0])
    turns = [Turn(index, *span) for index, speaker in enumerate(order) for span in found[speaker]]
    turns.sort(key=lambda turn: (turn.start, turn.speaker))
    doubtful = [Turn(order.index(one.speaker), one.start, one.end) for one in doubtful if one.speaker in order]
    voices = belief[:, order].T @ embeddings
    return Diarization(
        turns,
        _overlaps(turns),
        (voices / np.linalg.norm(voices, axis=1, keepdims=True)).astype(np.float32),
        doubtful,
    )


def _maybe_turns(maybe: np.ndarray, first: int, start: int, end: int) -> list[Turn]:
    """Who else may speak in frames [start, end), of (T,) that begin at `first`."""
    inner = maybe[start - first : end - first]
    edges = [0, *(np.flatnonzero(np.diff(inner)) + 1).tolist(), len(inner)]
    return [
        Turn(int(inner[a]), round((start + a) * STEP, 3), round((start + b) * STEP, 3))
        for a, b in itertools.pairwise(edges)
    ]


def _joined(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans over pauses that end no turn; what is too short for a word is left out."""
    joined: list[tuple[float, float]] = []
    for start, end in spans:
        start = joined.pop()[0] if joined and start - joined[-1][1] < MAX_GAP else start
        joined.append((start, end))
    return [span for span in joined if span[1] - span[0] >= _LEAST_TURN]


def _overlaps(turns: list[Turn]) -> list[tuple[float, float]]:
    """Where a turn begins before all others have ended."""
    overlaps: list[tuple[float, float]] = []
    latest = 0.0
    for turn in turns:
        if turn.start < latest:
            overlaps.append((max(turn.start, overlaps[-1][1] if overlaps else 0.0), min(turn.end, latest)))
        latest = max(latest, turn.end)
    return [(start, end) for start, end in overlaps if start < end]
