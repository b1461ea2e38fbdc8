"""The mouth that a voice makes one expect: a small network, trained on synthetic speech with its mouth shapes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from anytalker.conditioning.log_mel import LogMelFeatures

WEIGHTS = Path(__file__).parent / "weights" / "voice_mouth.safetensors"
MEL_BINS = 32
RATE = 100
"""Rows a second of the network's input and output."""
NAMES = ("loud_opening", "width", "teeth", "opening", "closure")
"""What is expected: how far the mouth opens, more for loud sounds; how much it is spread (above 0) or rounded (below);
whether teeth show; how open the sound itself is; whether lips close."""

_ROWS_A_FRAME = 4


class VoiceMouth(nn.Module):
    """Convolutions over 0.4 s around each moment.

    Args:
        channels: width.
    """

    DILATIONS = (1, 2, 4, 8, 4, 2)

    def __init__(self, channels: int = 48) -> None:
        super().__init__()
        self.first = nn.Conv1d(MEL_BINS, channels, 5, padding=2)
        self.layers = nn.ModuleList(
            nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation) for dilation in self.DILATIONS
        )
        self.last = nn.Conv1d(channels, len(NAMES), 1)

    def forward(self, spectra: torch.Tensor) -> torch.Tensor:
        """Expected mouths (B, rows, 5), see `NAMES`, of log-mel spectra (B, rows, 32), 100 rows a second."""
        x = functional.gelu(self.first(spectra.transpose(1, 2)))
        for layer in self.layers:
            x = x + functional.gelu(layer(x))
        return self.last(x).transpose(1, 2)


def voice_spectra(samples: np.ndarray) -> torch.Tensor:
    """Log-mel spectra (rows, 32), 100 a second, of a 16 kHz waveform (samples,)."""
    features = LogMelFeatures(mel_bins=MEL_BINS, substeps=_ROWS_A_FRAME, window=1)
    fps = RATE / _ROWS_A_FRAME
    count = max(1, int(np.ceil(len(samples) / 16000 * fps)))
    return features(samples, count, fps)[:, 0, 0].reshape(-1, MEL_BINS)


def expect_mouth(samples: np.ndarray, num_frames: int, fps: float) -> np.ndarray:
    """The mouth that a voice makes one expect in each video frame.

    Args:
        samples: 16 kHz (samples,) in [-1, 1], from the start of the first frame on; what is missing is silent.
        num_frames: frames T.
        fps: frames a second.

    Returns:
        (T, 5), see `NAMES`.
    """
    with torch.inference_mode():
        rows = _network()(voice_spectra(samples)[None])[0].numpy()
    # Averaged over a frame's time.
    total = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0, dtype=np.float64)])
    edges = np.arange(num_frames + 1) / fps * RATE
    inside = np.minimum(edges, len(rows))
    sums = np.stack([np.interp(inside, np.arange(len(total)), column) for column in total.T], axis=1)
    lengths = np.maximum(np.diff(inside), 1e-9)[:, None]
    return np.where(lengths > 1e-6, np.diff(sums, axis=0) / lengths, 0.0)


@lru_cache(maxsize=1)
def _network() -> VoiceMouth:
    from safetensors.torch import load_file

    network = VoiceMouth().eval().requires_grad_(False)
    network.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return network
