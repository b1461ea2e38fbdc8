"""Flow-matching schedulers of diffusers in place of UniPC, in windows, saved half way; others are refused."""

from __future__ import annotations

import diffusers
import pytest
import torch

from anytalker import InputError
from anytalker.denoising.denoiser import Denoiser
from anytalker.denoising.noise import Noise
from anytalker.denoising.schedule import check_scheduler
from anytalker.loading.scheduler import make_scheduler
from tests.denoising.test_wavefront import MODEL, conditioning

FLOW = {"flow_shift": 3.0, "use_flow_sigmas": True, "prediction_type": "flow_prediction"}
SCHEDULERS = {
    "FlowMatchEulerDiscreteScheduler": {"shift": 3.0},
    "FlowMatchLCMScheduler": {"shift": 3.0},
    "FlowMatchHeunDiscreteScheduler": {"shift": 3.0},
    "DPMSolverMultistepScheduler": FLOW,
    "DEISMultistepScheduler": FLOW,
    "UniPCMultistepScheduler": FLOW | {"solver_order": 3},
}


def run_of(scheduler, frames: int = 9, window: int | None = 4, steps: int = 4):
    whole = conditioning(frames)
    noise = Noise(16, 8, 8, whole.condition, torch.Generator().manual_seed(5))
    return Denoiser(MODEL, scheduler, steps, window=window, window_overlap=2).begin(noise, whole), noise


def finish(run) -> torch.Tensor:
    latents = run.finished()
    while run.done < run.total:
        run.advance()
        latents += run.finished()
    return torch.cat(latents, dim=2)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_takes_its_own_steps(name) -> None:
    """One window, against diffusers' own loop."""
    scheduler = getattr(diffusers, name)(**SCHEDULERS[name])
    ours = finish(run_of(scheduler, frames=3, window=None)[0])
    again, plain = run_of(scheduler, frames=3, window=None)[0], getattr(diffusers, name)(**SCHEDULERS[name])
    timesteps, sigmas = again.wavefront.timesteps, again.wavefront._scheduler.sigmas
    plain.set_timesteps(4)
    plain.sigmas, plain.timesteps = sigmas, timesteps
    plain.num_inference_steps = len(timesteps)
    source = torch.Generator().manual_seed(5)
    latents = Noise(16, 8, 8, ours, source)(0, 3)
    draws = {"generator": source} if "LCM" in name else {}
    for step, timestep in enumerate(timesteps):
        velocity = again.denoiser.velocity(
            latents, step, timestep, 0, again.conditioning.window(again.wavefront.windows[0]), again.contexts
        )
        latents = plain.step(velocity, timestep, latents, **draws, return_dict=False)[0]
    assert ours.isfinite().all()
    if draws:  # each stretch draws for itself: the picture's frame first
        assert ours.shape == latents.shape
    else:
        torch.testing.assert_close(ours, latents, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_saved_state_goes_on_with_any_of_them(name) -> None:
    scheduler = getattr(diffusers, name)(**SCHEDULERS[name])
    expected = finish(run_of(scheduler)[0])
    assert torch.equal(finish(run_of(scheduler)[0]), expected)
    run, noise = run_of(scheduler)
    for _ in range(7):
        run.advance()
    before = run.finished()
    state, source = run.state(), noise.state()
    run, noise = run_of(scheduler)
    run.restore(state)
    noise.restore(source)
    assert torch.equal(torch.cat([*before, finish(run)], dim=2), expected)


def test_schedulers_for_other_models_are_refused() -> None:
    with pytest.raises(InputError, match="DDIMScheduler as it is set up is not for flow matching"):
        check_scheduler(diffusers.DDIMScheduler())
    with pytest.raises(InputError, match="use_flow_sigmas=True"):
        run_of(diffusers.DPMSolverMultistepScheduler())
    ours = make_scheduler(3.0).config
    check_scheduler(diffusers.DPMSolverMultistepScheduler.from_config(ours))
    check_scheduler(diffusers.FlowMatchEulerDiscreteScheduler.from_config(ours, shift=ours.flow_shift))
