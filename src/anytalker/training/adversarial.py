"""Training against a patch discriminator, as in the training of VQGAN and of most video autoencoders."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn


class PatchDiscriminator(nn.Module):
    """Scores (B, 1, H/8, W/8) for patches of pixels (B, channels, H, W): high where they look real."""

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        sizes = [channels, width, 2 * width, 4 * width]
        self.layers = nn.ModuleList(
            nn.utils.parametrizations.spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1))
            for before, after in pairwise(sizes)
        )
        self.score = nn.utils.parametrizations.spectral_norm(nn.Conv2d(sizes[-1], 1, 3, padding=1))

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Scores of pixels (B, channels, H, W) in [-1, 1], and every layer's features, (B, 32, H/2, W/2) and on."""
        features = []
        for layer in self.layers:
            frames = nn.functional.leaky_relu(layer(frames), 0.2)
            features.append(frames)
        return self.score(frames), features


def discriminator_step(
    discriminator: nn.Module, optimizer: torch.optim.Optimizer, real: torch.Tensor, decoded: torch.Tensor
) -> float:
    """One step of the discriminator; returns its hinge loss, which is 2 as long as it can't tell them apart."""
    loss = torch.relu(1 - discriminator(real)[0]).mean() + torch.relu(1 + discriminator(decoded)[0]).mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.item()


def adversarial_loss(
    discriminator: nn.Module, real: torch.Tensor, decoded: torch.Tensor, feature_weight: float
) -> torch.Tensor:
    """The loss from the discriminator: hinge loss of the scores, and feature matching with real frames."""
    with torch.no_grad():
        _, real_features = discriminator(real)
    scores, features = discriminator(decoded)
    distances = [(ours - theirs).abs().mean() for ours, theirs in zip(features, real_features, strict=True)]
    return feature_weight * torch.stack(distances).mean() - scores.mean()


def adaptive_weight(
    loss: torch.Tensor, adversarial: torch.Tensor, last_weight: torch.Tensor, share: float
) -> torch.Tensor:
    """The factor that makes the adversarial gradient at the last layer `share` of the loss's own (VQGAN)."""
    norm, adversarial_norm = (
        torch.autograd.grad(one, last_weight, retain_graph=True)[0].norm() for one in (loss, adversarial)
    )
    return (share * norm / adversarial_norm.clamp_min(1e-8)).clamp(max=10)
