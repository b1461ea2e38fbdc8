"""The sampler, as the release sets it up: UniPC on flow sigmas."""

from __future__ import annotations

from diffusers import UniPCMultistepScheduler

_TRAIN_STEPS = 1000


def make_scheduler(shift: float) -> UniPCMultistepScheduler:
    """UniPC of order 2 for velocity predictions; `shift` moves the noise levels towards noise (3 at 480p, 5 above)."""
    return UniPCMultistepScheduler(
        num_train_timesteps=_TRAIN_STEPS,
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=shift,
        solver_order=2,
    )
