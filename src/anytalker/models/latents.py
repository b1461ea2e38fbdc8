"""Between pixels and normalised latents, for every autoencoder with Wan's 4×8×8 contract."""

from __future__ import annotations

from typing import Any

import torch


def latent_statistics(vae: Any, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of the latents, each (1, channels, 1, 1, 1), from the autoencoder's configuration."""
    shape = (1, -1, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean, dtype=latents.dtype, device=latents.device).view(shape)
    deviation = torch.tensor(vae.config.latents_std, dtype=latents.dtype, device=latents.device).view(shape)
    return mean, deviation


@torch.no_grad()
def encode_video(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Encode pixels (B, 3, 4(f-1)+1, H, W) in [-1, 1] to normalised latents (B, channels, f, H/8, W/8)."""
    latents = vae.encode(pixels.to(vae.dtype)).latent_dist.mode().to(pixels.dtype)
    mean, deviation = latent_statistics(vae, latents)
    return (latents - mean) / deviation


@torch.no_grad()
def decode_video(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Decode normalised latents (B, channels, f, h, w) to pixels (B, 3, 4(f-1)+1, 8h, 8w) in [-1, 1]."""
    mean, deviation = latent_statistics(vae, latents)
    return vae.decode((latents * deviation + mean).to(vae.dtype)).sample.to(latents.dtype).clamp(-1, 1)


def picture_latents(vae: Any, picture: torch.Tensor, frames: int) -> torch.Tensor:
    """Condition latents of the release: the picture as first frame, grey (zero) frames after it.

    Args:
        vae: the autoencoder.
        picture: (B, 3, 1, H, W) in [-1, 1].
        frames: number of latent frames f.

    Returns:
        (B, channels, f, H/8, W/8) normalised latents.
    """
    batch, channels, _, height, width = picture.shape
    rest = picture.new_zeros(batch, channels, 4 * (frames - 1), height, width)
    return encode_video(vae, torch.cat([picture, rest], dim=2))


def still_latents(vae: Any, picture: torch.Tensor, frames: int, settled: int = 5) -> torch.Tensor:
    """Condition latents of the miniature: the picture standing still for the whole video.

    A small model need not then learn to carry the picture through time. A causal encoder's answer to a still picture
    stops changing after a few latent frames, so only `settled` of them are computed.

    Args:
        vae: the autoencoder.
        picture: (B, 3, 1, H, W) in [-1, 1].
        frames: number of latent frames f.
        settled: latent frames after which the encoding no longer changes.

    Returns:
        (B, channels, f, H/8, W/8) normalised latents.
    """
    computed = min(frames, settled)
    latents = encode_video(vae, picture.expand(-1, -1, 4 * (computed - 1) + 1, -1, -1))
    last = latents[:, :, -1:].expand(-1, -1, frames - computed, -1, -1)
    return torch.cat([latents, last], dim=2)
