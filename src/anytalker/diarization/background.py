"""Music and noise behind voices: they change embeddings more than voices do, so nobody is told apart by them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.signal import fftconvolve, stft

from anytalker.conventions import SAMPLE_RATE
from anytalker.diarization.voice_encoder import WINDOW_SAMPLES, VoiceEmbedder, cut_windows
from anytalker.media.recordings import frame_loudness
from anytalker.media.sound import Samples

CLEAR = 14.0
"""Decibels of a voice above its background from which it counts as clear."""
_NO_LOUDER = 3.0
"""Decibels by which quiet moments may exceed those of clear windows: noise that everybody is heard in is no reason."""
_STEPS_A_SECOND = 50
_SILENCE = 1e-4
_SMOOTH = 2
"""Windows before and after one that have a say in whose it is."""
_APART, _LEAST_NOISE = 1.0, 2.0
"""Seconds between stretches, and of one whose noise can be known."""
_EXAMPLES = 8
"""Windows of each voice that are heard in the noise of a stretch."""
_FRAME, _FLOOR, _AVERAGED, _FLOOR_OF_NOISE = 512, 0.2, 5, 0.61
"""Of spectra: samples, the quantile over time that is the noise, frames averaged before, and what that is of noise."""
_BANDS, _LOWEST, _HIGHEST, _QUIETEST = 20, 100.0, 7000.0, 0.05
"""Bands of a voice, where they begin and end in Hz, and the share of a window in which each holds only background."""


def loud_to_quiet(samples: np.ndarray) -> float:
    """How many decibels the loud moments of a stretch of speech are above the quietest ones.

    Args:
        samples: float (samples,) at 16 kHz.
    """
    quiet, loud = _levels(samples)
    return loud - quiet


def voice_to_background(samples: np.ndarray) -> float:
    """How many decibels a voice is above what is behind it, even if it never pauses.

    No sound of a language fills all frequencies, so each band is quiet for a moment, unless there is music or noise
    (minimum statistics, Martin 2001).

    Args:
        samples: float (samples,) of speech at 16 kHz, best of more than a second.
    """
    samples = np.pad(samples, (0, max(0, _FRAME - len(samples))))
    frequencies, _, spectra = stft(samples, SAMPLE_RATE, nperseg=_FRAME)
    edges = np.searchsorted(frequencies, np.geomspace(_LOWEST, _HIGHEST, _BANDS + 1))
    power = np.add.reduceat(np.abs(spectra[: edges[-1]]) ** 2, edges[:-1], axis=0)
    power = uniform_filter1d(power, 3, axis=1) + _SILENCE**2 / _BANDS
    return float(10 * np.log10(power.mean(axis=1).sum() / np.quantile(power, _QUIETEST, axis=1).sum()))


def clear_windows(sound: np.ndarray | Samples, times: np.ndarray) -> np.ndarray:
    """Which windows (W, 2), [start, end) in seconds, are free of loud music and noise: boolean (W,).

    Where the quiet moments are no louder than those of clear windows, too, somebody only speaks in a low voice.
    """
    edges = np.round(times * SAMPLE_RATE).astype(int).tolist()
    clear = np.array([voice_to_background(sound[start:end]) >= CLEAR for start, end in edges], dtype=bool)
    if clear.any():
        quiet = np.array([_levels(sound[start:end])[0] for start, end in edges])
        clear |= quiet <= np.median(quiet[clear]) + _NO_LOUDER
    return clear


def _levels(samples: np.ndarray) -> tuple[float, float]:
    """Decibels of the quietest and of the loud moments."""
    steps = max(1, len(samples) * _STEPS_A_SECOND // SAMPLE_RATE)
    loudness = np.maximum(frame_loudness(samples, steps, _STEPS_A_SECOND), _SILENCE)
    quiet, loud = 20 * np.log10(np.quantile(loudness, [0.05, 0.9]))
    return float(quiet), float(loud)


def give_to_nearest(
    sound: np.ndarray | Samples,
    times: np.ndarray,
    embeddings: np.ndarray,
    clear: np.ndarray,
    belief: np.ndarray,
    embedder: VoiceEmbedder,
) -> np.ndarray:
    """Probabilities (W, speakers) of all windows, where those that aren't clear go to the voice they are nearest to.

    A stretch of them is held against the voices as they are, and as they would sound in its noise: the noise is
    estimated, added to clear speech of each voice, and embedded. Whichever fits better decides.

    Args:
        sound: the recording.
        times: windows (W, 2), [start, end) in seconds, in order.
        embeddings: of them (W, d).
        clear: boolean (W,).
        belief: probabilities of the clear ones (clear, speakers).
        embedder: what made the embeddings.
    """
    points = embeddings @ embedder.directions
    centres = (belief.T @ points[clear]) / belief.sum(axis=0)[:, None]
    whole = np.zeros((len(points), belief.shape[1]))
    whole[clear] = belief
    examples = [times[clear][_some(belief[:, speaker])] for speaker in range(belief.shape[1])]
    for stretch in _stretches(times, clear):
        start, end = times[stretch[0], 0], times[stretch].max()
        candidates = [centres]
        if end - start >= _LEAST_NOISE:
            heard = sound[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
            candidates.append(_in_noise(sound, heard, examples, embedder))
        distances = [((points[stretch][:, None] - voices) ** 2).sum(axis=2) for voices in candidates]
        distance = min(distances, key=lambda one: one.min(axis=1).mean())
        smooth = uniform_filter1d(distance, 2 * _SMOOTH + 1, axis=0, mode="nearest")
        whole[stretch, smooth.argmin(axis=1)] = 1
    return whole


def _some(belief: np.ndarray) -> np.ndarray:
    """Indices of windows of a speaker, evenly over the recording."""
    own = np.flatnonzero(belief >= min(0.9, belief.max()))
    return own[np.unique(np.linspace(0, len(own) - 1, _EXAMPLES).astype(int))]


def _stretches(times: np.ndarray, clear: np.ndarray) -> Iterator[np.ndarray]:
    """Indices of windows that aren't clear, by stretches of sound."""
    murky = np.flatnonzero(~clear)
    breaks = np.flatnonzero(times[murky[1:], 0] - times[murky[:-1], 1] > _APART) + 1
    yield from (stretch for stretch in np.split(murky, breaks) if len(stretch))


def _in_noise(
    sound: np.ndarray | Samples, heard: np.ndarray, examples: list[np.ndarray], embedder: VoiceEmbedder
) -> np.ndarray:
    """Where voices lie (speakers, k) in the noise of a stretch.

    Args:
        sound: the recording.
        heard: the stretch (samples,).
        examples: windows of each speaker (windows, 2), [start, end) in seconds.
        embedder: of the voices.
    """
    power = np.abs(stft(heard, SAMPLE_RATE, nperseg=_FRAME, scaling="psd")[2]) ** 2 * SAMPLE_RATE
    floor = np.quantile(uniform_filter1d(power, _AVERAGED, axis=1, mode="nearest"), _FLOOR, axis=1) / _FLOOR_OF_NOISE
    noise = float(floor.mean())
    level = max(float(power.mean()) - noise, 0.1 * noise)
    rng = np.random.default_rng(0)
    shape = np.roll(np.fft.irfft(np.sqrt(floor)), _FRAME // 2) * np.hanning(_FRAME)
    voices = []
    for times in examples:
        windows = cut_windows(sound, times).astype(np.float64)
        windows *= np.sqrt(level / np.maximum((windows**2).mean(axis=1, keepdims=True), 1e-12))
        white = rng.standard_normal((len(windows), WINDOW_SAMPLES + _FRAME - 1))
        noisy = windows + fftconvolve(white, shape[None], "valid", axes=1)
        voices.append((embedder(noisy.astype(np.float32)) @ embedder.directions).mean(axis=0))
    return np.stack(voices)
