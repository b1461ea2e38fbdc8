"""Losses mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anytalker.training.autoencoder import warmup_cosine
from anytalker.training.losses import add_noise, flow_matching_loss, sample_sigmas, timestep_weights


def test_the_perfect_velocity_has_no_loss_and_places_weigh() -> None:
    latents, noise = torch.randn(2, 4, 3, 4, 4), torch.randn(2, 4, 3, 4, 4)
    ones = torch.ones(2)
    place = torch.ones(2, 1, 1, 4, 4)
    assert flow_matching_loss(noise - latents, latents, noise, ones, place) == 0
    wrong = noise - latents
    wrong[..., 0, 0] += 1
    place[..., 0, 0] = 15
    plain = flow_matching_loss(wrong, latents, noise, ones, torch.ones(2, 1, 1, 4, 4))
    assert flow_matching_loss(wrong, latents, noise, ones, place) == pytest.approx(
        float(plain) * 15 * 16 / 30, rel=1e-5
    )


def test_noise_levels_are_shifted_and_weights_average_to_one() -> None:
    sigmas = sample_sigmas(4000, 3.0, torch.Generator().manual_seed(0))
    assert 0 < sigmas.min() < sigmas.max() < 1
    assert sigmas.median() == pytest.approx(0.75, abs=0.02)
    weights = timestep_weights(sigmas, 3.0, "uniform_bump")
    assert weights.mean() == pytest.approx(1.0, abs=0.01)
    assert weights[sigmas.sub(0.75).abs().argmin()] > weights[sigmas.argmax()]
    point = add_noise(torch.zeros(1, 1, 1, 1, 1), torch.ones(1, 1, 1, 1, 1), torch.tensor([0.3]))
    assert point.item() == pytest.approx(0.3)


SIGMAS = torch.linspace(0, 1, 11, dtype=torch.float64)


def release_table(shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Noise levels of the release's 1000 training steps, and their weights by its formula."""
    levels = np.linspace(1, 0.003 / 1.002, 1000)
    levels = shift * levels / (1 + (shift - 1) * levels)
    bump = np.exp(-2 * ((1000 * levels - 500) / 1000) ** 2)
    return levels, (bump - bump.min()) * 1000 / (bump - bump.min()).sum()


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0])
def test_weights_are_the_releases(shift) -> None:
    levels, weights = release_table(shift)
    chosen = np.linspace(0, 999, 11).round().astype(int)
    ours = timestep_weights(torch.from_numpy(levels), shift, "release")
    assert np.abs(ours.numpy()[chosen] - weights[chosen]).max() < 1e-6
    assert ours.mean().item() == pytest.approx(1, abs=1e-9)
    single = timestep_weights(torch.from_numpy(levels[chosen]).float(), shift, "release")
    assert np.abs(single.numpy() - weights[chosen]).max() < 1e-6
    assert np.abs(timestep_weights(SIGMAS, shift, "uniform_bump") - interpolated(shift)).max() > 0.6


def interpolated(shift: float) -> np.ndarray:
    levels, weights = release_table(shift)
    return np.interp(SIGMAS, levels[::-1], weights[::-1])


def test_weights_at_eleven_noise_levels() -> None:
    bump = np.exp(-2 * ((1000 * SIGMAS.numpy() - 500) / 1000) ** 2)
    levels, _ = release_table(3.0)
    mean = (np.exp(-2 * (levels - 0.5) ** 2) - np.exp(-0.5)).mean()
    expected = (bump - np.exp(-0.5)) / mean
    assert np.abs(timestep_weights(SIGMAS, 3.0, "release").numpy() - expected).max() < 1e-6
    assert expected[[10, 9, 5, 1, 0]] == pytest.approx([0.00, 0.55, 1.79, 0.55, 0.00], abs=0.005)
    old = timestep_weights(SIGMAS, 3.0, "uniform_bump").numpy()
    assert old[[10, 9, 5, 1, 0]] == pytest.approx([0.71, 1.03, 1.03, 0.76, 0.71], abs=0.005)
    drawn = sample_sigmas(4000, 3.0, torch.Generator().manual_seed(0))
    assert timestep_weights(drawn, 3.0, "release").mean() == pytest.approx(1.0, abs=0.01)


def test_the_rate_warms_up_and_falls() -> None:
    rates = [warmup_cosine(step, 10, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == 1
    assert rates[-1] < 0.05
