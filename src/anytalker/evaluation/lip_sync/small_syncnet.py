"""A small SyncNet, trained on the miniature's drawn world: the offline judge of lip sync.

The two towers and the idea are SyncNet's (Chung & Zisserman, "Out of time: automated lip sync in the wild", 2016): five
frames of the mouth and the 0.2 s of sound that go with them land close together. Here every frame passes its
convolutions once and windows are formed afterwards, embeddings have length 1, and training was contrastive; see
`anytalker.miniature.sync_recipe`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from anytalker.conditioning.log_mel import LogMelFeatures
from anytalker.evaluation.lip_sync.crops import FaceCrop

WEIGHTS = Path(__file__).parent / "weights" / "syncnet_small.safetensors"
WINDOW = 5
MEL_BINS = 40
SUBSTEPS = 4
_BATCH = 512


def _conv2d(channels_in: int, channels_out: int, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.ReLU())


def _conv1d(channels_in: int, channels_out: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Sequential:
    conv = nn.Conv1d(channels_in, channels_out, kernel, stride, padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm1d(channels_out), nn.ReLU())


class SmallSyncNet(nn.Module):
    """Two towers that map five frames of a mouth, and the sound of the same time, to unit vectors.

    Args:
        width: channels of the layers over time.
        channels: length of an embedding.
    """

    def __init__(self, width: int = 128, channels: int = 128) -> None:
        super().__init__()
        self.channels = channels
        self.mouth = nn.Sequential(
            _conv2d(2, 24, 5, 2),
            _conv2d(24, 48, 3, 2),
            _conv2d(48, 64, 3, 2),
            _conv2d(64, 64, 3, 1),
            _conv2d(64, 96, 3, 2),
            nn.Flatten(),
            nn.Linear(96 * 9, width),
        )
        self.motion = nn.Sequential(_conv1d(width, width, 3), _conv1d(width, width, 3), nn.Conv1d(width, channels, 1))
        self.voice = nn.Sequential(
            _conv1d(MEL_BINS, 96, 3, padding=1),
            _conv1d(96, width, SUBSTEPS, stride=SUBSTEPS),
            _conv1d(width, width, 3),
            _conv1d(width, width, 3),
            nn.Conv1d(width, channels, 1),
        )

    def encode_mouths(self, pixels: torch.Tensor) -> torch.Tensor:
        """Describe single frames (..., 2, 48, 48), see `normalize_tracks`: (..., width)."""
        return self.mouth(pixels.flatten(0, -4)).unflatten(0, pixels.shape[:-3])

    def embed_mouths(self, described: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, T-4, channels) of described frames (B, T, width); entry i is of frames i to i+4."""
        return nn.functional.normalize(self.motion(described.transpose(1, 2)), dim=1).transpose(1, 2)

    def embed_voices(self, spectra: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, T-4, channels) of log-mel spectra (B, T, SUBSTEPS·MEL_BINS), one row a video frame."""
        steps = spectra.unflatten(2, (SUBSTEPS, MEL_BINS)).flatten(1, 2)
        return nn.functional.normalize(self.voice(steps.transpose(1, 2)), dim=1).transpose(1, 2)


def normalize_tracks(crops: torch.Tensor, found: torch.Tensor | None = None) -> torch.Tensor:
    """Make skin and light alike, and show what moves.

    Args:
        crops: float (B, T, H, W), any range.
        found: boolean (B, T), the frames that count; None: all.

    Returns:
        (B, T, 2, H, W): each track with mean 0 and deviation 1, and its difference from the track's mean picture.
    """
    weights = crops.new_ones(crops.shape[:2]) if found is None else found.to(crops.dtype)
    weights = (weights / weights.sum(dim=1, keepdim=True).clamp_min(1))[:, :, None, None]
    picture = (crops * weights).sum(dim=1, keepdim=True)
    mean = picture.mean(dim=(2, 3), keepdim=True)
    variance = ((crops - mean).square() * weights).sum(dim=1, keepdim=True).mean(dim=(2, 3), keepdim=True)
    scale = 1 / (variance.sqrt() + 1)
    return torch.stack([(crops - mean) * scale, (crops - picture) * scale * 2], dim=2)


class SmallSyncModel:
    """The small SyncNet as a `SyncModel`, at the video's own frame rate between 23 and 26 fps, else at 24 or 25.

    Its embeddings have `channels` values.
    """

    name = "small"
    crop = FaceCrop(size=48, side=0.64, shift=(0.0, 0.26))
    window = WINDOW
    zero_padding = False

    def __init__(self, network: SmallSyncNet, device: str | torch.device = "cpu") -> None:
        self.network = network.eval().requires_grad_(False).to(device)
        self.channels = network.channels
        self.device = torch.device(device)
        self.features = LogMelFeatures(mel_bins=MEL_BINS, substeps=SUBSTEPS, window=1)

    @classmethod
    def from_pretrained(cls, device: str | torch.device = "cpu") -> SmallSyncModel:
        """Load the weights in the package."""
        from safetensors.torch import load_file

        network = SmallSyncNet()
        network.load_state_dict({name: tensor.float() for name, tensor in load_file(WEIGHTS).items()}, strict=False)
        return cls(network, device)

    def frame_rate(self, fps: float) -> float:
        """Frames a second that a video of `fps` is judged at."""
        if 23 <= fps <= 26:
            return fps
        return 24.0 if abs(fps / 24 - round(fps / 24)) < 1e-6 else 25.0

    @torch.no_grad()
    def embed_video(self, crops: np.ndarray, found: np.ndarray | None = None) -> np.ndarray:
        """See `SyncModel`; crops are grey (T, 48, 48), embeddings (T-4, channels)."""
        there = np.ones(len(crops), bool) if found is None else found
        pixels = torch.from_numpy(crops.astype(np.float32)).to(self.device)
        tracks = normalize_tracks(pixels[None], torch.from_numpy(there).to(self.device)[None])[0]
        described = torch.cat([self.network.encode_mouths(part) for part in tracks.split(_BATCH)])
        embeddings = self.network.embed_mouths(described[None])[0].cpu().numpy()
        whole = np.lib.stride_tricks.sliding_window_view(there, WINDOW).all(axis=1, keepdims=True)
        return np.where(whole, embeddings, np.nan).astype(np.float32)

    @torch.no_grad()
    def embed_audio(self, waveform: np.ndarray, num_frames: int, fps: float) -> np.ndarray:
        """See `SyncModel`; embeddings (num_frames-4, channels)."""
        spectra = self.features(waveform, num_frames, fps)[:, 0, 0].to(self.device)
        return self.network.embed_voices(spectra[None])[0].cpu().numpy()
