"""Who speaks when."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from anytalker.media.recordings import SAMPLE_RATE, frame_loudness
from anytalker.media.sound import Sound

_STEP = 0.02
_SILENCE = 3e-4
"""Root mean square of a step below which nobody hears anything."""


def speaking_spans(
    waveform: np.ndarray | Sound,
    sample_rate: int = SAMPLE_RATE,
    threshold: float = 0.1,
    max_gap: float = 0.25,
    min_length: float = 0.1,
) -> list[list[float]]:
    """Stretches of a recording in which there is a voice, judged by its own loudness.

    Args:
        waveform: float (samples,).
        sample_rate: samples a second.
        threshold: share of the loud level above which sound counts as speech.
        max_gap: shorter pauses, in seconds, belong to the speech around them.
        min_length: shorter sounds, in seconds, don't count.

    Returns:
        [[start, end], ...] in seconds, in order; empty for silence.
    """
    steps = int(np.ceil(len(waveform) / sample_rate / _STEP))
    if steps == 0:
        return []
    loudness = frame_loudness(waveform, steps, 1 / _STEP, sample_rate)
    loud = float(np.quantile(loudness[loudness >= 0.03 * loudness.max()], 0.8)) if loudness.max() > 0 else 0.0
    if loud < _SILENCE:
        return []
    voiced = np.concatenate([[0], (loudness > threshold * loud).astype(int), [0]])
    starts = np.flatnonzero(np.diff(voiced) == 1) * _STEP
    ends = np.flatnonzero(np.diff(voiced) == -1) * _STEP
    spans: list[list[float]] = []
    for start, end in zip(starts, ends, strict=True):
        if spans and start - spans[-1][1] < max_gap:
            spans[-1][1] = end
        else:
            spans.append([start, end])
    limit = len(waveform) / sample_rate
    kept = [span for span in spans if span[1] - span[0] >= min_length]
    return [[round(float(start), 3), round(min(float(end), limit), 3)] for start, end in kept]


def is_silent(waveform: np.ndarray | Sound, sample_rate: int = SAMPLE_RATE) -> bool:
    """Whether a recording (samples,) is silent from beginning to end."""
    steps = int(np.ceil(len(waveform) / sample_rate / _STEP))
    return bool(frame_loudness(waveform, steps, 1 / _STEP, sample_rate).max(initial=0) < _SILENCE)


def longest_pause(
    waveforms: Iterable[np.ndarray], num_frames: int, fps: float, margin: float = 0.08, least: float = 0.3
) -> range | None:
    """The longest run of video frames in which nobody speaks, not counting frame 0; None if there is none.

    Args:
        waveforms: float (samples,) at 16 kHz, one a person.
        num_frames: video frames.
        fps: video frames a second.
        margin: seconds around speech in which mouths may still or already move.
        least: seconds that a pause must last.
    """
    quiet = np.ones(num_frames, dtype=bool)
    quiet[:1] = False
    for start, end in (span for waveform in waveforms for span in speaking_spans(waveform)):
        quiet[max(0, int((start - margin) * fps)) : int(np.ceil((end + margin) * fps))] = False
    edges = np.flatnonzero(np.diff(np.concatenate([[0], quiet.astype(int), [0]])))
    runs = [range(start, stop) for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)]
    longest = max(runs, key=len, default=range(0))
    return longest if len(longest) >= max(2, least * fps) else None
