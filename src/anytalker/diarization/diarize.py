"""Who speaks when in a recording, from sound alone."""

from __future__ import annotations

import numpy as np

from anytalker.diarization.clustering import cluster_voices
from anytalker.diarization.turns import Diarization, Turn, spans_of
from anytalker.diarization.voice_activity import SAMPLE_RATE, speech_spans
from anytalker.diarization.voice_encoder import GE2EEmbedder, VoiceEmbedder
from anytalker.errors import InputError
from anytalker.media.sound import Sound

WINDOW, HOP = 1.6, 0.4
"""Seconds of an embedded window, and from one to the next."""
STEP = 0.02
"""Seconds of a frame whose speakers are told."""
_BATCH = 64


def diarize(
    sound: np.ndarray | Sound,
    num_speakers: int | None = None,
    max_speakers: int = 10,
    embedder: VoiceEmbedder | None = None,
) -> Diarization:
    """Find out who speaks when.

    Args:
        sound: float (samples,) at 16 kHz, of any length: what is kept in memory for an hour is some 20 MB.
        num_speakers: how many people there are; None: find out.
        max_speakers: how many there are at most, if that is to be found out.
        embedder: what tells voices apart; the one that the package carries by default.

    Returns:
        Turns, overlaps and voices; all empty where nobody speaks. There may be fewer speakers than asked for, if
        there isn't enough speech.

    Raises:
        InputError: if a number of people is below 1.
    """
    for name, value in (("num_speakers", num_speakers), ("max_speakers", max_speakers)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; it must be at least 1.")
    spans = speech_spans(sound)
    if not spans:
        return Diarization()
    embedder = embedder or GE2EEmbedder()
    times = _windows(spans)
    embeddings = _embed(sound, times, embedder)
    points = (embeddings - embeddings.mean(axis=0)) @ embedder.directions
    belief = cluster_voices(points, embedder.variances, num_speakers, max_speakers)
    active = _frames(belief, times, spans)
    return _told(active, embeddings, belief)


def _windows(spans: list[tuple[float, float]]) -> np.ndarray:
    """[start, end) in seconds of windows (W, 2) that cover the spans; shorter spans are windows themselves."""
    windows: list[tuple[float, float]] = []
    for start, end in spans:
        if end - start <= WINDOW:
            windows.append((start, end))
        else:
            count = int(np.ceil((end - start - WINDOW) / HOP)) + 1
            windows += [(first, first + WINDOW) for first in np.linspace(start, end - WINDOW, count).tolist()]
    return np.array(windows)


def _embed(sound: np.ndarray | Sound, times: np.ndarray, embedder: VoiceEmbedder) -> np.ndarray:
    """Embeddings (W, d); a window that is too short is repeated."""
    size = round(WINDOW * SAMPLE_RATE)
    found = []
    for first in range(0, len(times), _BATCH):
        edges = np.round(times[first : first + _BATCH] * SAMPLE_RATE).astype(int)
        found.append(embedder(np.stack([np.resize(sound[start:end], size) for start, end in edges])))
    return np.concatenate(found)


def _frames(belief: np.ndarray, times: np.ndarray, spans: list[tuple[float, float]]) -> np.ndarray:
    """Whether each speaker speaks in each frame (speakers, T)."""
    count = int(np.ceil(spans[-1][1] / STEP))
    votes = np.zeros((belief.shape[1], count))
    for probabilities, (start, end) in zip(belief, times, strict=True):
        first, last = round(start / STEP), round(end / STEP)
        votes[:, first:last] += probabilities[:, None] * (1.01 - np.abs(np.linspace(-1, 1, last - first)))
    speech = np.zeros(count, dtype=bool)
    for start, end in spans:
        speech[round(start / STEP) : round(end / STEP)] = True
    return (votes == votes.max(axis=0)) & speech


def _told(active: np.ndarray, embeddings: np.ndarray, belief: np.ndarray) -> Diarization:
    """The result, speakers in the order of their first word."""
    heard = [speaker for speaker in range(len(active)) if active[speaker].any()]
    order = sorted(heard, key=lambda speaker: int(active[speaker].argmax()))
    turns = [Turn(i, *span) for i, speaker in enumerate(order) for span in spans_of(active[speaker], STEP)]
    voices = belief[:, order].T @ embeddings
    return Diarization(
        sorted(turns, key=lambda turn: (turn.start, turn.speaker)),
        spans_of(active.sum(axis=0) > 1, STEP),
        (voices / np.linalg.norm(voices, axis=1, keepdims=True)).astype(np.float32),
    )
