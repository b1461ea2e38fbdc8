"""The speaker embedding of "Generalized End-to-End Loss for Speaker Verification" (Wan et al. 2018): an LSTM."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Protocol

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from torch import nn

from anytalker.conventions import SAMPLE_RATE
from anytalker.errors import InputError
from anytalker.media.sound import Samples

HOP = 160
"""Samples from one spectrum to the next."""
MEL_BINS = 40
WINDOW_SAMPLES = 25600
"""Samples of the speech that it was trained on, 1.6 s."""
_WINDOW = 400
_TARGET_DB = -30.0
_SILENT = 1e-5
_BATCH = 64


class VoiceEmbedder(Protocol):
    """Anything that tells voices apart, such as a network of wespeaker or pyannote.

    Attributes:
        directions: (d, k), the axes by which its embeddings differ between people, scaled so that the variance within
            a person is 1 along each and they don't correlate (linear discriminant analysis).
        variances: (k,) between people, along these.
    """

    directions: np.ndarray
    variances: np.ndarray

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Embeddings (B, d), float32 of norm 1, of speech (B, samples) at 16 kHz; alike for the same voice."""


class VoiceEncoder(nn.Module):
    """Three LSTM layers over mel spectra; what the last one knows at the end is the voice."""

    def __init__(self, hidden_size: int = 256, embedding_size: int = 256) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MEL_BINS, hidden_size, num_layers=3, batch_first=True)
        self.linear = nn.Linear(hidden_size, embedding_size)

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, 256) of norm 1, none of their values negative, of mel power (B, frames, 40)."""
        _, (hidden, _) = self.lstm(mels)
        return nn.functional.normalize(torch.relu(self.linear(hidden[-1])), dim=1)


class GE2EEmbedder:
    """The encoder of Resemblyzer, whose weights the package carries; the axes are from `tools/fit_voice_space.py`."""

    def __init__(self) -> None:
        self.network = _network()
        space = _weights("voice_space")
        self.directions, self.variances = space["directions"].numpy(), space["variances"].numpy()

    @torch.inference_mode()
    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Embeddings (B, 256) of speech (B, samples) at 16 kHz; it was trained on 1.6 s."""
        return self.network(mel_power(torch.as_tensor(windows, dtype=torch.float32))).numpy()


def cut_windows(sound: np.ndarray | Samples, times: np.ndarray) -> np.ndarray:
    """Samples (W, 25600) of windows (W, 2), [start, end) in seconds; one that is too short is repeated."""
    edges = np.round(times * SAMPLE_RATE).astype(int).tolist()
    return np.stack([np.resize(sound[start:end], WINDOW_SAMPLES) for start, end in edges])


def embed_voice(samples: np.ndarray) -> np.ndarray:
    """The voice of one speaker.

    Args:
        samples: float (samples,) at 16 kHz, speech from beginning to end, better of several seconds.

    Returns:
        float32 (256,) of norm 1, the mean over windows of 1.6 s (Wan et al., section 3.2); the dot product of two is
        their likeness.

    Raises:
        InputError: if there is no sound.
    """
    samples = np.asarray(samples, dtype=np.float32)
    if samples.ndim != 1 or not len(samples) or float(np.abs(samples).max()) < _SILENT:
        raise InputError(
            f"A voice of shape {samples.shape} has no sound to know it by. Give speech of one person, (samples,)."
        )
    length = WINDOW_SAMPLES
    starts = range(0, max(1, len(samples) - length // 2), length // 2)
    total, embed = np.zeros(1, np.float32), GE2EEmbedder()
    for first in range(0, len(starts), _BATCH):
        parts = [samples[start : start + length] for start in starts[first : first + _BATCH]]
        total = total + embed(np.stack([np.resize(part, length) for part in parts])).sum(axis=0)
    return total / np.linalg.norm(total)


def mel_power(windows: torch.Tensor) -> torch.Tensor:
    """Mel power (B, samples // 160 + 1, 40) of windows (B, samples), each brought to −30 dB as in Resemblyzer.

    As `librosa.feature.melspectrogram(y, sr=16000, n_fft=400, hop_length=160, n_mels=40)`.
    """
    loudness = windows.square().mean(dim=1, keepdim=True).sqrt().clamp(min=_SILENT)
    return _mel(windows * (10 ** (_TARGET_DB / 20) / loudness))


def _mel(windows: torch.Tensor) -> torch.Tensor:
    spectra = torch.stft(
        windows, _WINDOW, HOP, window=torch.hann_window(_WINDOW), pad_mode="constant", return_complex=True
    )
    return spectra.abs().square().transpose(1, 2) @ _filters()


@cache
def _filters() -> torch.Tensor:
    from transformers.audio_utils import mel_filter_bank

    bank = mel_filter_bank(_WINDOW // 2 + 1, MEL_BINS, 0.0, 8000.0, SAMPLE_RATE, norm="slaney", mel_scale="slaney")
    return torch.from_numpy(np.asarray(bank, dtype=np.float32))


@cache
def _network() -> VoiceEncoder:
    with torch.random.fork_rng(devices=[]):  # weights are drawn before they are loaded
        network = VoiceEncoder()
    network.load_state_dict({name: value.float() for name, value in _weights("ge2e").items()})
    return network.eval().requires_grad_(False)


def _weights(name: str) -> dict[str, torch.Tensor]:
    file = resources.files("anytalker.diarization") / "weights" / f"{name}.safetensors"
    return load_tensors(file.read_bytes())
