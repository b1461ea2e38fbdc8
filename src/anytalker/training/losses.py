"""Flow matching as the release trains it: shifted noise levels, weights over them, velocity targets."""

from __future__ import annotations

import functools
import math

import torch

from anytalker.training.config import Weighting

_TRAIN_STEPS = 1000
_SMALLEST = 0.003 / 1.002
"""The release's training steps, and the last of their noise levels before the shift (`wan/utils/flow_match.py`)."""


def sample_sigmas(count: int, shift: float, generator: torch.Generator) -> torch.Tensor:
    """Noise levels (count,) in (0, 1): uniform, then shifted towards noise by `shift` (3 in the release at 480p).

    The draws are stratified over the batch, which keeps the mixture of levels even in small batches.
    """
    order = torch.randperm(count, generator=generator, device=generator.device)
    strata = (order + torch.rand(count, generator=generator, device=generator.device)) / count
    return shift * strata / (1 + (shift - 1) * strata)


def timestep_weights(sigmas: torch.Tensor, shift: float, weighting: Weighting) -> torch.Tensor:
    """Weights of noise levels in the loss, 1 on average.

    Args:
        sigmas: (count,) noise levels after the shift, from 0 to 1.
        shift: the schedule's shift.
        weighting: "release", a Gaussian bump about the middle of the shifted levels less its smallest value, so that
            pure noise and clean latents count for nothing (the release's `wan/utils/flow_match.py`, which looks up the
            nearest of its 1000 training steps; between them this is the same curve); or "uniform_bump", a flatter one
            about the middle of the levels before their shift, with which the shipped miniature was trained.

    Returns:
        (count,) weights. "release" averages 1 over the release's training steps, "uniform_bump" over uniform draws.
    """
    if weighting == "release":
        return _bump(sigmas) / _release_mean(shift)
    uniform = sigmas / (shift - (shift - 1) * sigmas)
    return torch.exp(-2 * (uniform - 0.5) ** 2) / 0.8556


def _bump(sigmas: torch.Tensor) -> torch.Tensor:
    """0 at both ends, most in the middle; the smallest value is that of pure noise, the first training step."""
    return torch.exp(-2 * (sigmas - 0.5) ** 2) - math.exp(-0.5)


@functools.cache
def _release_mean(shift: float) -> float:
    uniform = torch.linspace(1.0, _SMALLEST, _TRAIN_STEPS, dtype=torch.float64)
    return float(_bump(shift * uniform / (1 + (shift - 1) * uniform)).mean())


def add_noise(latents: torch.Tensor, noise: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Point on the straight path from latents (sigma 0) to noise (sigma 1); all (B, channels, f, h, w), sigmas (B,)."""
    level = sigmas.view(-1, 1, 1, 1, 1)
    return (1 - level) * latents + level * noise


def flow_matching_loss(
    velocity: torch.Tensor,
    latents: torch.Tensor,
    noise: torch.Tensor,
    sample_weights: torch.Tensor,
    place_weights: torch.Tensor,
) -> torch.Tensor:
    """Weighted mean square error against the velocity target noise − latents; a scalar.

    Args:
        velocity, latents, noise: (B, channels, f, h, w).
        sample_weights: (B,) one weight a sample, see `timestep_weights`.
        place_weights: broadcastable to the latents, larger where errors matter more.
    """
    error = (velocity.float() - (noise - latents)).square() * place_weights
    normaliser = place_weights.expand_as(error).mean(dim=(1, 2, 3, 4))
    return (error.mean(dim=(1, 2, 3, 4)) / normaliser * sample_weights).mean()
