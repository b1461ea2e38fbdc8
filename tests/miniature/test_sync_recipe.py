"""The training of the small SyncNet: its losses by hand, its batches, and a few real steps."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from anytalker.evaluation.lip_sync.small_syncnet import SmallSyncModel
from anytalker.evaluation.lip_sync.syncnet import load_sync_model
from anytalker.miniature.corpus import CorpusSettings
from anytalker.miniature.sync_recipe import (
    CROP,
    SyncTraining,
    Tracks,
    loud_windows,
    render_tracks,
    sync_batches,
    sync_losses,
    train_sync,
    vary_crops,
)


def unit_vectors(count: int, length: int) -> torch.Tensor:
    """(count, length, count·length): each window its own direction."""
    return torch.eye(count * length).view(count, length, -1)


def test_losses_by_hand() -> None:
    vectors, loud = unit_vectors(3, 6), torch.ones(3, 6, dtype=torch.bool)
    sharp = torch.tensor([2.0, 5.0])
    windows, tracks, hits = sync_losses(vectors, vectors, loud, sharp, reach=2)
    # One similarity of 1 among 18 windows; one mean of 1 among 3 tracks times 5 delays.
    assert windows.item() == pytest.approx(math.log(1 + 17 * math.exp(-2)), rel=1e-5)
    assert tracks.item() == pytest.approx(math.log(1 + 14 * math.exp(-5)), rel=1e-5)
    assert hits == 1
    late, foreign = vectors.roll(1, dims=1), vectors.roll(1, dims=0)
    for wrong in (late, foreign):
        worse = sync_losses(vectors, wrong, loud, sharp, reach=2)
        assert worse[0] > windows
        assert worse[1] > tracks
        assert worse[2] == 0


def test_silent_windows_and_tracks_hardly_count() -> None:
    vectors = unit_vectors(2, 6)
    loud = torch.tensor([[True] * 6, [False] * 6])
    right, sharp = vectors.clone(), torch.tensor([9.0, 9.0])
    right[1] = right[1].flip(0)
    _, tracks, hits = sync_losses(vectors, right, loud, sharp, reach=2)
    assert hits == 1
    assert tracks < 0.1
    assert sync_losses(vectors, right, loud, sharp, reach=2)[0] < sync_losses(vectors, right, ~loud, sharp, reach=2)[0]


def test_loudness_is_relative_to_the_track() -> None:
    spectra = torch.full((1, 20, 160), 0.1)
    spectra[:, 8:14] = 0.8
    loud = loud_windows(spectra)[0]
    assert loud[:4].logical_not().all()
    assert loud[6:12].all()
    assert not loud_windows(torch.full((1, 20, 160), 0.7)).any()


def test_views_are_like_those_of_the_model() -> None:
    """Place, scale and light of a crop change, within limits."""
    rows = torch.arange(CROP.size)[:, None].expand(-1, CROP.size)
    crops = (3 * rows).to(torch.uint8).expand(8, 6, -1, -1)
    varied = vary_crops(crops, torch.Generator().manual_seed(0))
    assert varied.shape == (8, 6, 48, 48)
    assert varied.min() >= 0
    assert varied.max() <= 255
    # Upright, and two thirds of the crop high: about 3 levels a pixel.
    slope = (varied[..., 40, :].mean(-1) - varied[..., 8, :].mean(-1)) / 32
    assert (slope > 1).all()
    assert (slope < 5).all()
    assert not torch.equal(varied[0], varied[1])
    torch.testing.assert_close(vary_crops(crops, torch.Generator().manual_seed(0)), varied)


def test_rendered_tracks_train_the_network(tmp_path: Path) -> None:
    kinds = ((CorpusSettings(clips=3, frames=25), 1), (CorpusSettings(clips=2, persons=2, frames=25), 1))
    path = tmp_path / "runs" / "tracks.safetensors"
    tracks = render_tracks(path, kinds, log=lambda line: None)
    assert tracks.crops.shape[1:] == (25, 72, 72)
    assert 3 <= len(tracks.crops) == len(tracks.voices) <= 7
    assert tracks.voices.any(dim=1).all()
    again = render_tracks(path, kinds, log=lambda line: pytest.fail("rendered twice"))
    assert torch.equal(again.voices, tracks.voices)
    config = SyncTraining(steps=12, batch_size=4, frames=16, reach=4, warmup_steps=2, log_every=4)
    crops, spectra = next(sync_batches(tracks, config))
    assert crops.shape == (min(4, len(tracks.crops)), 16, 48, 48)
    assert spectra.shape == (len(crops), 16, 160)
    lines: list[str] = []
    train_sync(tracks, config, tmp_path / "weights.safetensors", log=lines.append)
    losses = [float(line.split("windows ")[1].split()[0]) for line in lines]
    assert losses[-1] < losses[0]
    assert isinstance(load_sync_model(tmp_path / "weights.safetensors"), SmallSyncModel)


def test_batches_repeat_with_their_seed() -> None:
    rng = np.random.default_rng(0)
    crops = torch.from_numpy(rng.integers(0, 256, (3, 10, 72, 72), dtype=np.uint8))
    voices = torch.from_numpy(rng.integers(-9000, 9000, (3, 6667), dtype=np.int16))
    config = SyncTraining(batch_size=2, frames=8)
    first, second = (next(sync_batches(Tracks(crops, voices, 24.0), config)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
