"""Mel-frequency cepstra as SyncNet's authors compute them, with the defaults of `python_speech_features`."""

from __future__ import annotations

import numpy as np
from scipy import fft

from anytalker.conventions import SAMPLE_RATE

FRAME = 400
STEP = 160
TRANSFORM = 512
FILTERS = 26
CEPSTRA = 13
LIFTER = 22
PREEMPHASIS = 0.97


def mfcc(samples: np.ndarray) -> np.ndarray:
    """Cepstra (rows, 13), float64, of a 16 kHz waveform (samples,); the first is the logarithm of the energy.

    Windows of 25 ms without a taper, one every 10 ms, the last one filled up with zeros: 1 + ⌈(samples − 400)/160⌉
    rows, at least 1. Pre-emphasis 0.97, 512-point power spectrum, 26 triangular filters from 0 to 8 kHz, orthonormal
    DCT-II, sine lifter 22. The level matters: SyncNet's authors give samples from −32768 to 32767.
    """
    waveform = np.asarray(samples, dtype=np.float64)
    emphasized = np.concatenate([waveform[:1], waveform[1:] - PREEMPHASIS * waveform[:-1]])
    rows = 1 + max(0, -(-(len(emphasized) - FRAME) // STEP))
    padded = np.pad(emphasized, (0, max(0, (rows - 1) * STEP + FRAME - len(emphasized))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::STEP][:rows]
    power = np.square(np.abs(fft.rfft(frames, TRANSFORM))) / TRANSFORM
    energy = _nonzero(power.sum(axis=1))
    cepstra = fft.dct(np.log(_nonzero(power @ mel_filters().T)), type=2, axis=1, norm="ortho")[:, :CEPSTRA]
    cepstra *= 1 + LIFTER / 2 * np.sin(np.pi * np.arange(CEPSTRA) / LIFTER)
    cepstra[:, 0] = np.log(energy)
    return cepstra


def mel_filters() -> np.ndarray:
    """Triangles (26, 257) over the bins of the power spectrum: even on the mel scale, corners on whole bins."""
    highest = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, highest, FILTERS + 2) / 2595) - 1)
    corners = np.floor((TRANSFORM + 1) * hertz / SAMPLE_RATE)
    bins = np.arange(TRANSFORM // 2 + 1)
    low, peak, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (bins - low) / (peak - low), (high - bins) / (high - peak)
    inside = (bins >= low) & (bins < high)
    return np.where(inside, np.where(bins < peak, rising, falling), 0.0)


def _nonzero(values: np.ndarray) -> np.ndarray:
    return np.where(values == 0, np.finfo(float).eps, values)
