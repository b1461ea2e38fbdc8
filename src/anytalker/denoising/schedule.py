"""The noise levels of a run: as the release sets them, for any flow-matching scheduler of diffusers that lets us."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from anytalker.errors import InputError

_INITIAL_SHIFT = 5.0
_TRAIN_STEPS = 1000


def unshifted_sigmas(num_inference_steps: int) -> np.ndarray:
    """Noise levels (steps,) before the shift: evenly down to 0 from the largest that the release was built with."""
    largest = 1 - 1 / _TRAIN_STEPS
    largest = _INITIAL_SHIFT * largest / (1 + (_INITIAL_SHIFT - 1) * largest)
    return np.linspace(largest, 0.0, num_inference_steps + 1)[:-1]


def set_timesteps(scheduler: Any, num_inference_steps: int, device=None) -> None:
    """Prepare a scheduler for a run of that many steps, with the release's noise levels unless it has only its own.

    Raises:
        InputError: if it is not for flow matching.
    """
    check_scheduler(scheduler)
    if "sigmas" in inspect.signature(scheduler.set_timesteps).parameters:
        scheduler.set_timesteps(num_inference_steps, device=device, sigmas=unshifted_sigmas(num_inference_steps))
    else:
        scheduler.set_timesteps(num_inference_steps, device=device)
    # Else every step looks up where it is, and copies noise levels to the device; either waits for it.
    scheduler.set_begin_index(0)
    scheduler.sigmas = scheduler.sigmas.to(device)


def check_scheduler(scheduler: Any) -> None:
    """Make sure that a scheduler is for flow matching, as the model is.

    Raises:
        InputError: if not.
    """
    name, config = type(scheduler).__name__, scheduler.config
    if name.startswith("FlowMatch") or config.get("prediction_type") == "flow_prediction":
        return
    raise InputError(
        f"{name} as it is set up is not for flow matching. Take a FlowMatch… scheduler of diffusers, or make it from "
        "ours: its from_config(pipe.scheduler.config, use_flow_sigmas=True, prediction_type='flow_prediction')."
    )
