"""Losses mean what they say."""

from __future__ import annotations

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
    weights = timestep_weights(sigmas, 3.0)
    assert weights.mean() == pytest.approx(1.0, abs=0.01)
    assert weights[sigmas.sub(0.75).abs().argmin()] > weights[sigmas.argmax()]
    point = add_noise(torch.zeros(1, 1, 1, 1, 1), torch.ones(1, 1, 1, 1, 1), torch.tensor([0.3]))
    assert point.item() == pytest.approx(0.3)


def test_the_rate_warms_up_and_falls() -> None:
    rates = [warmup_cosine(step, 10, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == 1
    assert rates[-1] < 0.05
