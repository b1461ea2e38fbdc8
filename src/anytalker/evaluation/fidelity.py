"""How real videos look: PSNR and SSIM frame by frame, Fréchet distances (FID, FVD) over many.

Distances and similarities are `torchmetrics`'. The networks of FID, FVD and LPIPS come with weights of their own; they
are used where their files are given, and left out, never replaced, where not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anytalker.errors import InputError, NoScoreError, first_line

_VIDEO_FRAMES = 16
_IMAGES_A_CLIP = 8


@dataclass(frozen=True)
class FrameFidelity:
    """Likeness of a video to its real counterpart: mean `psnr` in dB and mean `ssim`, 1 for the same, over `frames`."""

    psnr: float
    ssim: float
    frames: int


class FrameComparison:
    """Compares two videos frame by frame as they are decoded.

    Args:
        every: only every so many-th frame is compared.
    """

    def __init__(self, every: int = 4) -> None:
        self.every, self.seen = every, 0
        self._psnr: list[float] = []
        self._ssim: list[float] = []

    def add(self, frame: np.ndarray, real: np.ndarray) -> None:
        """Compare two frames, uint8 RGB (H, W, 3); the real one is scaled to the size of the other."""
        self.seen += 1
        if (self.seen - 1) % self.every:
            return
        import cv2
        from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

        if real.shape != frame.shape:
            real = cv2.resize(real, (frame.shape[1], frame.shape[0]), interpolation=cv2.INTER_AREA)
        made, true = _pixels(frame), _pixels(real)
        self._psnr.append(min(100.0, float(peak_signal_noise_ratio(made, true, data_range=1.0))))
        self._ssim.append(float(structural_similarity_index_measure(made, true, data_range=1.0)))

    def result(self) -> FrameFidelity:
        """Means over all frames compared; PSNR of equal frames counts as 100 dB.

        Raises:
            NoScoreError: if there was none.
        """
        if not self._psnr:
            raise NoScoreError("There are no frames to compare with the real video.")
        return FrameFidelity(float(np.mean(self._psnr)), float(np.mean(self._ssim)), len(self._psnr))


class ClipSample:
    """Keeps evenly spaced frames of a video of unknown length, at most twice as many as asked for, in one pass.

    Args:
        count: frames wanted.
        size: side in pixels of the squares they are scaled to.
    """

    def __init__(self, count: int = _VIDEO_FRAMES, size: int = 224) -> None:
        self.count, self.size, self.seen, self._every = count, size, 0, 1
        self._kept: list[np.ndarray] = []

    def add(self, frame: np.ndarray) -> None:
        """Keep or skip the next frame, uint8 RGB (H, W, 3)."""
        import cv2

        if self.seen % self._every == 0:
            self._kept.append(cv2.resize(frame, (self.size, self.size), interpolation=cv2.INTER_AREA))
            if len(self._kept) == 2 * self.count:
                self._kept, self._every = self._kept[::2], 2 * self._every
        self.seen += 1

    def frames(self) -> np.ndarray:
        """The frames kept, uint8 (n, size, size, 3); n is `count` where the video is as long."""
        wanted = np.linspace(0, len(self._kept) - 1, min(self.count, len(self._kept))).round().astype(int)
        return np.stack([self._kept[i] for i in wanted])


class FeatureNetwork(torch.nn.Module):
    """A network that turns pictures or videos into features, for Fréchet distances.

    Args:
        network: called with float pictures (n, 3, H, W) or videos (n, 3, T, H, W) in [-1, 1]; gives (n, features).
        video: which of the two.
        num_features: features it gives.
    """

    def __init__(self, network: Any, video: bool, num_features: int) -> None:
        super().__init__()
        self.network, self.video, self.num_features = network, video, num_features

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Features (n, num_features) of uint8 pictures (n, 3, H, W) or videos (n, 3, T, H, W)."""
        features = self.network(values.float() / 127.5 - 1)
        return features.flatten(1) if isinstance(features, torch.Tensor) else features[0].flatten(1)


def load_torchscript_features(path: str | Path, video: bool) -> FeatureNetwork:
    """A feature network from a TorchScript file, such as I3D's for FVD or Inception's for FID.

    Raises:
        InputError: if it can't be read, or doesn't take pictures (videos) of 224 × 224.
    """
    try:
        network = torch.jit.load(str(path), map_location="cpu").eval()
        sample = torch.zeros(1, 3, _VIDEO_FRAMES, 224, 224) if video else torch.zeros(1, 3, 224, 224)
        with torch.no_grad():
            features = network(sample).flatten(1).shape[1]
    except (RuntimeError, ValueError, OSError, AttributeError) as error:
        kind = "videos" if video else "pictures"
        raise InputError(f"{path} is no TorchScript network of {kind}: {first_line(error)}") from error
    return FeatureNetwork(network, video, features)


def load_videomae_features(folder: str | Path) -> FeatureNetwork:
    """VideoMAE's mean token from a folder of `transformers`, for FVD.

    Raises:
        InputError: if the folder holds no VideoMAE.
    """
    from transformers import VideoMAEModel

    try:
        model = VideoMAEModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} holds no VideoMAE model: {error}") from error

    def features(videos: torch.Tensor) -> torch.Tensor:
        frames = videos.transpose(1, 2)[:, : model.config.num_frames].flatten(0, 1)
        side = model.config.image_size
        scaled = torch.nn.functional.interpolate(frames, (side, side), mode="bilinear", antialias=True)
        return model(scaled.unflatten(0, (len(videos), -1))).last_hidden_state.mean(1)

    return FeatureNetwork(features, True, model.config.hidden_size)


@torch.no_grad()
def clip_features(network: FeatureNetwork, clip: np.ndarray) -> np.ndarray:
    """Features of a clip, uint8 (T, 224, 224, 3): float32 (1, features), or (8, features) of a network of pictures."""
    values = torch.from_numpy(np.ascontiguousarray(clip))
    if network.video:
        return network(values.permute(3, 0, 1, 2)[None]).float().numpy()
    chosen = np.linspace(0, len(clip) - 1, min(_IMAGES_A_CLIP, len(clip))).round().astype(int)
    return network(values[chosen].permute(0, 3, 1, 2)).float().numpy()


class _Features(torch.nn.Module):
    """Passes features on, where torchmetrics would compute them."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


class FrechetDistance:
    """Fréchet distance between the features of generated and real clips; memory does not grow with their number."""

    def __init__(self, num_features: int) -> None:
        from torchmetrics.image.fid import FrechetInceptionDistance

        self._metric = FrechetInceptionDistance(feature=_Features(num_features))

    def add(self, features: np.ndarray, real: bool) -> None:
        """Count features (n, features) of a generated or a real clip."""
        self._metric.update(torch.from_numpy(np.ascontiguousarray(features)), real=real)

    def compute(self) -> float:
        """The distance, 0 for the same distribution.

        Raises:
            NoScoreError: with fewer than two samples on either side.
        """
        counts = int(self._metric.real_features_num_samples), int(self._metric.fake_features_num_samples)
        if min(counts) < 2:
            raise NoScoreError(f"A Fréchet distance needs two clips or more on both sides, not {counts}.")
        return float(self._metric.compute())


def _pixels(frame: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float() / 255
