"""The sampler's schedules and trajectories against the release's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anytalker.denoising.schedule import set_timesteps
from anytalker.loading.scheduler import make_scheduler


@pytest.mark.parametrize("index", range(6))
def test_schedules_and_trajectories(index: int, recipe, preprocess_cases, preprocess_goldens, error) -> None:
    case = preprocess_cases["schedules"][index]
    sampler = make_scheduler(case["shift"])
    set_timesteps(sampler, case["steps"])
    assert sampler.timesteps.tolist() == case["timesteps"]
    np.testing.assert_allclose(sampler.sigmas.numpy(), case["sigmas"], rtol=1e-5, atol=1e-7)
    sample = recipe.tensor("sampler.x0", (1, 4, 3, 5, 7))
    for timestep in sampler.timesteps:
        velocity = 0.7 * torch.tanh(sample) + 0.3 * timestep / 1000
        sample = sampler.step(velocity, timestep, sample, return_dict=False)[0]
    golden = preprocess_goldens[f"unipc_shift{int(case['shift'])}_steps{case['steps']}"]
    assert error(sample, golden) <= 1e-5
