"""Likeness to real videos: exact where it can be computed by hand, refused where weights or clips are missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anytalker.errors import InputError, NoScoreError
from anytalker.evaluation.fidelity import (
    ClipSample,
    FeatureNetwork,
    FrameComparison,
    FrechetDistance,
    clip_features,
    load_torchscript_features,
    load_videomae_features,
)


def noisy(seed: int, frames: int = 20, mean: float = 128, spread: float = 20) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(mean, spread, (frames, 32, 40, 3)), 0, 255).astype(np.uint8)


def compare(made: np.ndarray, real: np.ndarray, every: int = 1):
    comparison = FrameComparison(every)
    for frame, other in zip(made, real, strict=True):
        comparison.add(frame, other)
    return comparison.result()


def test_psnr_and_ssim_of_known_differences() -> None:
    video = noisy(0)
    assert compare(video, video) == type(compare(video, video))(100.0, pytest.approx(1.0), 20)
    shifted = np.clip(video.astype(int) + 10, 0, 255).astype(np.uint8)
    assert compare(video, shifted).psnr == pytest.approx(20 * np.log10(255 / 10), abs=0.05)
    assert compare(video, noisy(1)).ssim < 0.3
    assert compare(video, video, every=7).frames == 3
    with pytest.raises(NoScoreError):
        FrameComparison().result()


@pytest.mark.parametrize("length", [1, 5, 16, 47, 300])
def test_samples_are_spread_over_the_whole_video(length: int) -> None:
    sample = ClipSample(count=16, size=8)
    for frame in range(length):
        sample.add(np.full((10, 12, 3), frame % 256, dtype=np.uint8))
    kept = sample.frames()[:, 0, 0, 0].astype(int)
    assert len(kept) == min(16, length)
    if length <= 255:
        assert kept[0] == 0
        assert kept[-1] >= length - 1 - length / 8
        assert (np.diff(kept) > 0).all()


class Moments(torch.nn.Module):
    """Mean and spread of each channel, a network whose Fréchet distance can be judged."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        flat = values.flatten(2)
        return torch.cat([flat.mean(-1), flat.std(-1)], dim=1)


@pytest.mark.parametrize("video", [False, True])
def test_frechet_distance_grows_with_the_difference(video: bool) -> None:
    def distance(mean: float) -> float:
        measure, network = FrechetDistance(6), FeatureNetwork(Moments(), video, 6)
        for seed in range(6):
            measure.add(clip_features(network, noisy(seed)), real=True)
            measure.add(clip_features(network, noisy(100 + seed, mean=mean)), real=False)
        return measure.compute()

    near, middle, far = distance(128), distance(140), distance(190)
    assert near < 0.01 < middle < far


def test_a_frechet_distance_needs_clips_on_both_sides() -> None:
    measure = FrechetDistance(6)
    measure.add(np.zeros((1, 6), dtype=np.float32), real=True)
    with pytest.raises(NoScoreError, match=r"\(1, 0\)"):
        measure.compute()


def test_feature_networks_from_files(tmp_path) -> None:
    path = tmp_path / "features.pt"
    torch.jit.script(Moments()).save(str(path))
    network = load_torchscript_features(path, video=True)
    assert network.num_features == 6
    assert network(torch.zeros(2, 3, 4, 8, 8, dtype=torch.uint8)).shape == (2, 6)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="TorchScript network of pictures"):
        load_torchscript_features(path, video=False)
    with pytest.raises(InputError, match="holds no VideoMAE"):
        load_videomae_features(tmp_path)


def test_videomae_features(tmp_path) -> None:
    from transformers import VideoMAEConfig, VideoMAEModel

    torch.manual_seed(0)
    config = VideoMAEConfig(
        image_size=32, num_frames=4, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    VideoMAEModel(config).save_pretrained(tmp_path)
    network = load_videomae_features(tmp_path)
    with torch.no_grad():
        assert network(torch.randint(0, 255, (2, 3, 16, 224, 224), dtype=torch.uint8)).shape == (2, 16)
