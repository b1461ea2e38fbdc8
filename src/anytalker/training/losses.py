"""Flow matching as the release trains it: shifted timesteps, a bell-shaped weight over them, velocity targets."""

from __future__ import annotations

import torch


def sample_sigmas(count: int, shift: float, generator: torch.Generator) -> torch.Tensor:
    """Noise levels (count,) in (0, 1): uniform, then shifted towards noise by `shift` (3 in the release at 480p).

    The draws are stratified over the batch, which keeps the mixture of levels even in small batches.
    """
    order = torch.randperm(count, generator=generator, device=generator.device)
    strata = (order + torch.rand(count, generator=generator, device=generator.device)) / count
    return shift * strata / (1 + (shift - 1) * strata)


def timestep_weights(sigmas: torch.Tensor, shift: float) -> torch.Tensor:
    """Gaussian bump over the timesteps, centred on the middle of the unshifted schedule (release).

    Args:
        sigmas: (count,) noise levels after the shift.
        shift: the schedule's shift.

    Returns:
        (count,) weights, 1 on average over uniform draws.
    """
    uniform = sigmas / (shift - (shift - 1) * sigmas)
    bump = torch.exp(-2 * (uniform - 0.5) ** 2)
    return bump / 0.8556


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
