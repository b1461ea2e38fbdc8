"""The noise levels of a run, as the release sets them."""

from __future__ import annotations

import numpy as np
from diffusers import UniPCMultistepScheduler

_INITIAL_SHIFT = 5.0
_TRAIN_STEPS = 1000


def unshifted_sigmas(num_inference_steps: int) -> np.ndarray:
    """Noise levels (steps,) before the shift: evenly down to 0 from the largest that the release was built with."""
    largest = 1 - 1 / _TRAIN_STEPS
    largest = _INITIAL_SHIFT * largest / (1 + (_INITIAL_SHIFT - 1) * largest)
    return np.linspace(largest, 0.0, num_inference_steps + 1)[:-1]


def set_timesteps(scheduler: UniPCMultistepScheduler, num_inference_steps: int, device=None) -> None:
    """Prepare the scheduler for a run of that many steps with the release's noise levels."""
    scheduler.set_timesteps(num_inference_steps, device=device, sigmas=unshifted_sigmas(num_inference_steps))
    # Else every step looks up where it is, and copies noise levels to the device; either waits for it.
    scheduler.set_begin_index(0)
    scheduler.sigmas = scheduler.sigmas.to(device)
