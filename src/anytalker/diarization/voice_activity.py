"""Where there is speech: silero-vad says about where, loudness says exactly where."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch

from anytalker.conventions import SAMPLE_RATE
from anytalker.media.sound import Samples

HOP = 160
"""Samples of a loudness frame."""
_FRAMES_A_SECOND = SAMPLE_RATE // HOP
_CHUNK = 512
_PIECE = 1000 * _CHUNK  # a multiple of HOP, too
_ENTER, _LEAVE = 0.2, 0.1
"""Probabilities from which on speech begins, and below which it ends."""
_PAD_MS, _LEAST_MS, _SILENCE_MS = 60, 100, 100
"""Milliseconds: added at both ends, of the shortest speech, and of the shortest pause."""
MAX_GAP = 0.25
"""Seconds of the shortest pause that ends a turn."""
_LOUD_SHARE = 0.08
"""Share of the loudness of loud parts above which there is speech."""
_ABOVE_NOISE = 1.5
"""How many times louder than the noise speech is."""
_NOISE_QUANTILE, _NOISE_SECONDS = 0.02, 15
"""Which quantile of the loudness is the noise, and seconds before and after that it is taken from."""


def speech_spans(sound: np.ndarray | Samples, max_gap: float = MAX_GAP) -> list[tuple[float, float]]:
    """Where somebody speaks.

    silero-vad finds speech in whatever noise, some 0.1 s too wide. Within what it finds, borders are where the
    loudness exceeds a share of that of the loud parts, and the noise around.

    Args:
        sound: float (samples,) at 16 kHz. It is read in pieces of half a minute.
        max_gap: shorter pauses, in seconds, belong to the speech around them.

    Returns:
        [start, end) in seconds, in order.
    """
    probabilities, loudness = _listen(sound)
    from silero_vad import get_speech_timestamps_from_probs

    found = get_speech_timestamps_from_probs(
        probabilities.tolist(),
        threshold=_ENTER,
        neg_threshold=_LEAVE,
        min_speech_duration_ms=_LEAST_MS,
        min_silence_duration_ms=_SILENCE_MS,
        speech_pad_ms=_PAD_MS,
        audio_length_samples=len(sound),
    )
    spans: list[tuple[float, float]] = []
    for span in found:
        for start, end in _loud_parts(loudness, span["start"] // HOP, -(-span["end"] // HOP), max_gap):
            if spans and start / _FRAMES_A_SECOND - spans[-1][1] < max_gap:
                start = round(spans.pop()[0] * _FRAMES_A_SECOND)
            spans.append((start / _FRAMES_A_SECOND, min(end / _FRAMES_A_SECOND, len(sound) / SAMPLE_RATE)))
    return spans


def _loud_parts(loudness: np.ndarray, start: int, end: int, max_gap: float) -> Iterator[tuple[int, int]]:
    """Frames [start, end) cut down to their loud parts."""
    inner = loudness[start:end]
    around = loudness[max(0, start - _NOISE_SECONDS * _FRAMES_A_SECOND) : end + _NOISE_SECONDS * _FRAMES_A_SECOND]
    if not len(inner) or not inner.max() > 0:
        return
    loud = np.quantile(inner[inner >= 0.03 * inner.max()], 0.8)
    heard = np.flatnonzero(inner > max(_LOUD_SHARE * loud, _ABOVE_NOISE * np.quantile(around, _NOISE_QUANTILE)))
    if len(heard):
        breaks = np.flatnonzero(np.diff(heard) >= max_gap * _FRAMES_A_SECOND)
        starts, ends = [heard[0], *heard[breaks + 1]], [*heard[breaks], heard[-1]]
        for first, last in zip(starts, ends, strict=True):
            yield start + int(first), start + int(last) + 1


@torch.inference_mode()
def _listen(sound: np.ndarray | Samples) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of speech, one for 512 samples, and smoothed loudness (RMS), one for 160."""
    model = _model()
    model.reset_states()
    probabilities: list[np.ndarray] = []
    powers: list[np.ndarray] = []
    for start in range(0, len(sound), _PIECE):
        piece = np.asarray(sound[start : start + _PIECE], dtype=np.float32)
        piece = np.pad(piece, (0, -len(piece) % _CHUNK))
        chunks = torch.from_numpy(piece).reshape(-1, _CHUNK)
        probabilities.append(torch.cat([model(chunk[None], SAMPLE_RATE) for chunk in chunks]).numpy().ravel())
        frames = piece[: len(piece) // HOP * HOP].reshape(-1, HOP)
        powers.append(np.einsum("ij,ij->i", frames, frames) / HOP)
    if not powers:
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    power = np.convolve(np.concatenate(powers), [0.25, 0.5, 0.25], "same")
    return np.concatenate(probabilities), np.sqrt(power)


@cache
def _model() -> Any:
    threads = torch.get_num_threads()
    from silero_vad import load_silero_vad

    torch.set_num_threads(threads)  # importing silero_vad sets one thread for the whole process
    return load_silero_vad()
