"""What a recording does to a clean voice: filters, rooms, compression, noise and gain."""

from __future__ import annotations

import numpy as np
from scipy import signal

from anytalker.miniature.voices.speech import SAMPLE_RATE


def noise(rng: np.random.Generator, count: int) -> np.ndarray:
    """White, pink or babble-like noise, float64 `(count,)` of unit RMS."""
    kind = int(rng.integers(3))
    white = rng.standard_normal(count)
    if kind == 0:
        return white
    spectrum = np.fft.rfft(white)
    frequencies = np.fft.rfftfreq(count, 1 / SAMPLE_RATE)
    if kind == 1:
        spectrum *= 1 / np.sqrt(np.maximum(frequencies, 20.0))
    else:
        spectrum *= np.minimum(frequencies / 150, 1.0) / (1 + (frequencies / 600) ** 2)
    shaped = np.fft.irfft(spectrum, count)
    if kind == 2:  # several far voices: the spectrum of speech, its strength wandering at the pace of syllables
        knots = max(2, count * 8 // SAMPLE_RATE)
        shaped *= np.interp(np.linspace(0, knots - 1, count), np.arange(knots), rng.uniform(0.3, 1.0, knots))
    return shaped / max(float(np.sqrt(np.mean(shaped**2))), 1e-12)


def _equalize(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A telephone's band, a dull or thin microphone, or a spectral tilt either way."""
    kind = int(rng.integers(3))
    if kind == 0:
        band = [rng.uniform(100, 350), rng.uniform(3000, 6500)]
        return signal.sosfilt(signal.butter(2, band, "bandpass", fs=SAMPLE_RATE, output="sos"), sound)
    if kind == 1:
        type_, edge = ("lowpass", rng.uniform(2500, 7000)) if rng.random() < 0.5 else ("highpass", rng.uniform(60, 250))
        return signal.sosfilt(signal.butter(2, edge, type_, fs=SAMPLE_RATE, output="sos"), sound)
    amount = rng.uniform(-0.7, 0.7)
    return signal.lfilter([1.0, -amount], [1.0], sound) / (1 + abs(amount) / 2)


def _reverberate(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A small room: noise that decays (60 dB in 0.1 to 0.4 s), 4 to 15 dB below the direct sound."""
    decay = rng.uniform(0.1, 0.4)
    times = np.arange(1, round(decay * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(times)) * 10 ** (-3 * times / decay) * (times > 0.003)
    tail *= 10 ** (-rng.uniform(4, 15) / 20) / np.sqrt(np.sum(tail**2))
    return signal.fftconvolve(sound, np.concatenate([[1.0], tail]))[: len(sound)]


def augment(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make a clean voice sound recorded: a random mix of filter, room, compression, noise and gain.

    Lips stay in step: nothing is shifted in time. Takes and gives float32 `(samples,)` at 16 kHz in [-1, 1].
    """
    if not len(waveform):
        return np.zeros(0, np.float32)
    sound = np.asarray(waveform, dtype=np.float64)
    if rng.random() < 0.5:
        sound = _equalize(sound, rng)
    if rng.random() < 0.4:
        sound = _reverberate(sound, rng)
    peak = float(np.abs(sound).max())
    if peak > 0 and rng.random() < 0.3:  # mild compression, or at its strongest a soft clip
        drive = rng.uniform(1.0, 3.0)
        sound = np.tanh(drive * sound / peak) / np.tanh(drive) * peak
    if rng.random() < 0.7:
        squares = sound**2
        active = squares[squares > 1e-4 * squares.max()] if squares.max() > 0 else squares
        level = float(np.sqrt(active.mean())) or 0.05
        sound = sound + noise(rng, len(sound)) * level * 10 ** (-rng.uniform(15, 50) / 20)
    peak = float(np.abs(sound).max())
    gain = 10 ** (rng.uniform(-20, 0) / 20) / max(peak, 1e-3)
    return np.clip(sound * gain, -1.0, 1.0).astype(np.float32)
