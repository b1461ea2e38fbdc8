"""Log-mel features of voices, the miniature's light stand-in for wav2vec2.

The spectra are PyTorch's: transformers' `spectrogram` gives the same, but frame by frame, several times slower, and
holds those of the whole recording at once.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from anytalker.conventions import SAMPLE_RATE

_HOP = 160
_WINDOW = 400
_TRANSFORM = 512
_SILENT = 3e-4
_AT_ONCE = 4096


class LogMelFeatures:
    """Turns a voice into one window of log-mel spectra a video frame.

    Levels are relative to the loud parts of the same voice, so that the recording's gain doesn't matter. 0 is the
    floor: silence, like the absence of a voice, is exactly zero, and loud speech is about 1.

    Args:
        mel_bins: bands between 60 and 7600 Hz.
        substeps: spectra a video frame, evenly spaced within it.
        window: video frames a window, centred; edges repeat.
        floor: decades below the loud level that count as silence.
        headroom: decades above the loud level that are kept.
        frame_positions: video frames that share a latent frame; each then says which of them it is, in as many more
            channels, as loud as its loudest band. The transformer attends to the frames of a latent frame as a set, so
            that without this it can't tell their order. 0: no such channels.
    """

    def __init__(
        self,
        mel_bins: int = 32,
        substeps: int = 4,
        window: int = 5,
        floor: float = 3.5,
        headroom: float = 0.7,
        frame_positions: int = 0,
    ) -> None:
        from transformers.audio_utils import mel_filter_bank

        self.mel_bins, self.substeps, self.window = mel_bins, substeps, window
        self.floor, self.headroom, self.frame_positions = floor, headroom, frame_positions
        bank = mel_filter_bank(
            _TRANSFORM // 2 + 1, mel_bins, 60.0, 7600.0, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
        )
        self._bank = torch.from_numpy(np.asarray(bank, dtype=np.float32))

    @property
    def blocks(self) -> int:
        """Feature layers a frame: always 1."""
        return 1

    @property
    def channels(self) -> int:
        """Values a frame: all bands of all substeps, then its position."""
        return self.mel_bins * self.substeps + self.frame_positions

    def __call__(self, waveform: np.ndarray | torch.Tensor, num_frames: int, fps: float) -> torch.Tensor:
        """Features (num_frames, window, 1, channels) of a 16 kHz waveform (samples,).

        Frame k covers k/fps to (k+1)/fps seconds.
        Frames beyond the end of the waveform are silent.
        """
        samples = torch.as_tensor(np.asarray(waveform), dtype=torch.float32)
        spectra = self._levels(samples)
        moments = (torch.arange(num_frames * self.substeps) + 0.5) / (self.substeps * fps)
        positions = (moments * SAMPLE_RATE / _HOP).clamp(0, len(spectra) - 1)
        below = positions.floor().long()
        above = (below + 1).clamp(max=len(spectra) - 1)
        share = (positions - below)[:, None]
        rows = spectra[below] * (1 - share) + spectra[above] * share
        rows[moments > len(samples) / SAMPLE_RATE] = 0
        frames = rows.reshape(num_frames, self.mel_bins * self.substeps)
        if self.frame_positions:
            frames = torch.cat([frames, self._positions(frames)], dim=1)
        return windows(frames[:, None], self.window)

    def _positions(self, frames: torch.Tensor) -> torch.Tensor:
        """Position (F, frame_positions) of each frame in its latent frame; frame 0 is one alone and has none."""
        numbers = (torch.arange(len(frames)) - 1) % self.frame_positions
        marks = torch.nn.functional.one_hot(numbers, self.frame_positions) * frames.amax(dim=1, keepdim=True)
        marks[:1] = 0
        return marks

    def _levels(self, samples: torch.Tensor) -> torch.Tensor:
        count = len(samples) // _HOP + 1
        if len(samples) == 0 or samples.square().mean().sqrt() < _SILENT:
            return torch.zeros(count, self.mel_bins)
        power = torch.cat(
            [self._power(samples, start, min(count, start + _AT_ONCE)) for start in range(0, count, _AT_ONCE)]
        )
        energy = power.sum(dim=1)
        peak = torch.quantile(energy, 0.999)
        loud = torch.quantile(energy[energy >= 1e-3 * peak], 0.8) / self.mel_bins
        decades = torch.log10(power / loud + 1e-9).clamp(-self.floor, self.headroom)
        return (decades + self.floor) / self.floor

    def _power(self, samples: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Mel power (stop − start, mel_bins) of some spectra; those of an hour at once would take gigabytes."""
        first, last = start * _HOP - _TRANSFORM // 2, (stop - 1) * _HOP + _TRANSFORM // 2
        part = samples[max(0, first) : last]
        padded = torch.nn.functional.pad(part, (max(0, -first), last - max(0, first) - len(part)))
        shape = torch.hann_window(_WINDOW)
        spectrum = torch.stft(padded, _TRANSFORM, _HOP, _WINDOW, shape, center=False, return_complex=True)
        return spectrum.abs().square().T @ self._bank

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the settings to `folder`/config.json."""
        names = ("mel_bins", "substeps", "window", "floor", "headroom", "frame_positions")
        values = {"type": "log_mel"} | {name: getattr(self, name) for name in names}
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> LogMelFeatures:
        """Read what `save_pretrained` wrote."""
        values = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        values.pop("type", None)
        return cls(**values)


def windows(frames: torch.Tensor, window: int) -> torch.Tensor:
    """Windows (F, window, ...) centred on each of the frames (F, ...); edges repeat. A view of one padded copy."""
    before, after = window // 2, (window - 1) // 2
    edges = [frames[:1].expand(before, *frames.shape[1:]), frames, frames[-1:].expand(after, *frames.shape[1:])]
    return torch.cat(edges).unfold(0, window, 1).movedim(-1, 1)
