"""The path of a full-size model at a tiny size: Wan's autoencoder, UMT5, CLIP and wav2vec2, in both precisions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anytalker import AnyTalkerPipeline
from tests.loading.full_size import save_small_model


@pytest.fixture(scope="module", params=["A", "B"])
def model(request, tmp_path_factory) -> Path:
    """A small model of each layout, saved."""
    return save_small_model(tmp_path_factory.mktemp("small"), request.param)


def generate(model: Path, dtype: torch.dtype = torch.float32, **options) -> np.ndarray:
    pipeline = AnyTalkerPipeline.from_pretrained(model, torch_dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    rng = np.random.default_rng(0)
    video = pipeline(
        Image.fromarray(rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)),
        [rng.normal(0, 0.1, 16000).astype(np.float32), None],
        faces=[(8, 16, 30, 30), (56, 16, 30, 30)],
        prompt="two people",
        max_frames=9,
        generator=torch.Generator().manual_seed(0),
        **options,
    )
    return video.frames


def test_half_precision_gives_the_same_video_but_for_rounding(model) -> None:
    exact, half = generate(model), generate(model, torch.bfloat16)
    assert exact.shape == (9, 32, 48, 3)
    assert exact.std() > 0.005
    assert np.abs(exact - half).mean() < 0.05 * exact.std()
    assert np.abs(exact - half).max() > 0


def test_branches_in_one_batch_give_the_same_video(model) -> None:
    scales = {"guidance_scale": 3.0, "audio_guidance_scale": 2.0}
    apart, together = generate(model, **scales), generate(model, **scales, batch_guidance=True)
    assert np.abs(apart - together).max() < 1e-4
    assert np.abs(apart - generate(model)).max() > 1e-3
