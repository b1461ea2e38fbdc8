"""Background music: chords, an arpeggio and a bass, made from sines."""

from __future__ import annotations

import numpy as np

from anytalker.miniature.voices.speech import SAMPLE_RATE

_PROGRESSIONS = ((0, 5, 7, 0), (0, 9, 5, 7), (9, 5, 0, 7), (0, 7, 9, 5))
_MINOR = {2, 4, 9}


def play_music(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Play chords in a random key and tempo: float32 (samples,) at 16 kHz, of unit RMS."""
    beat = 60 / float(rng.uniform(70, 130))
    key = int(rng.integers(45, 57))
    chords = _PROGRESSIONS[int(rng.integers(len(_PROGRESSIONS)))]
    brightness = float(rng.uniform(0.2, 0.7))
    total = np.zeros(samples)
    count = int(np.ceil(samples / SAMPLE_RATE / beat))
    for index in range(count):
        degree = chords[index // 4 % len(chords)]
        third = 3 if degree in _MINOR else 4
        tones = (0, third, 7, 12)
        start = int(index * beat * SAMPLE_RATE)
        if index % 4 == 0:
            for tone in tones[:3]:
                _add(total, start, _tone(key + degree + tone, 4 * beat, 0.5, brightness))
            _add(total, start, _tone(key + degree - 12, 4 * beat, 0.8, brightness))
        for half in range(2):
            note = key + degree + 12 + tones[int(rng.integers(len(tones)))]
            _add(total, start + int(half * beat / 2 * SAMPLE_RATE), _tone(note, beat / 2, 0.7, brightness))
    return (total / max(1e-9, float(np.sqrt(np.mean(total**2))))).astype(np.float32)


def _tone(note: int, seconds: float, loudness: float, brightness: float) -> np.ndarray:
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    frequency = 440 * 2 ** ((note - 69) / 12)
    wave = sum(brightness**harmonic * np.sin(2 * np.pi * frequency * (harmonic + 1) * times) for harmonic in range(5))
    shape = np.clip(times / 0.02, 0, 1) * np.exp(-1.2 * times / seconds) * np.clip((seconds - times) / 0.03, 0, 1)
    return loudness * wave * shape


def _add(total: np.ndarray, start: int, part: np.ndarray) -> None:
    length = min(len(part), len(total) - start)
    if length > 0:
        total[start : start + length] += part[:length]
