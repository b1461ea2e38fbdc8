"""Training of a small video autoencoder with the 4×8×8 contract of Wan 2.1's."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import ModelMixin
from torch import nn


@dataclass(frozen=True)
class AutoencoderTraining:
    """How an autoencoder is trained.

    `learning_rate` is the peak of a warm-up and cosine schedule; `latent_noise` the deviation of the noise added to the
    latents, which start with deviation 1, so that small errors of a diffusion model do little harm; `edge_weight` the
    weight of the loss on image gradients; `motion_weight` how much more a pixel counts while it moves,
    without which four frames come out as one and lips have a quarter of the frame rate.
    """

    steps: int = 1500
    learning_rate: float = 2e-3
    warmup_steps: int = 50
    latent_noise: float = 0.05
    edge_weight: float = 0.5
    motion_weight: float = 20.0
    log_every: int = 20
    save_every: int = 200


def train_autoencoder(
    vae: ModelMixin,
    batches: Iterator[torch.Tensor],
    config: AutoencoderTraining,
    folder: Path,
    log: Callable[[str], None] = print,
) -> ModelMixin:
    """Train `vae` in place and save it to `folder`, also along the way.

    Args:
        vae: the autoencoder; all its parameters are trained.
        batches: endless clips (batch, 3, frames = 4n+1, height, width), float32 in [-1, 1].
        config: steps, rates and weights of the loss (L1 and L1 of the image gradients).
        folder: where `save_pretrained` writes.
        log: receives a line of progress every `log_every` steps.
    """
    optimizer = torch.optim.AdamW(vae.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
    started = time.monotonic()
    vae.train()
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * warmup_cosine(step, config.warmup_steps, config.steps)
        clip = next(batches)
        latents = vae.encode(clip).latent_dist.sample()
        decoded = vae.decode(latents + config.latent_noise * torch.randn_like(latents)).sample
        loss = reconstruction_loss(decoded, clip, config.motion_weight, config.edge_weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if step % config.log_every == 0 or step + 1 == config.steps:
            log(progress_line(step, config.steps, started, loss, decoded, clip))
        if (step + 1) % config.save_every == 0:
            vae.save_pretrained(folder)
    vae.save_pretrained(folder)
    return vae.eval()


def reconstruction_loss(
    decoded: torch.Tensor, clip: torch.Tensor, motion_weight: float, edge_weight: float, change_weight: float = 0.0
) -> torch.Tensor:
    """L1 between pixels (B, 3, T, H, W) in [-1, 1], weighted by `motion_weights`, and L1 of the image gradients."""
    error = decoded - clip
    edges = (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2
    return (error.abs() * motion_weights(clip, motion_weight, change_weight)).mean() + edge_weight * edges


@torch.no_grad()
def progress_line(
    step: int, steps: int, started: float, loss: torch.Tensor, decoded: torch.Tensor, clip: torch.Tensor
) -> str:
    """Step, loss, PSNR of pixels in [-1, 1], and seconds left; `started` is on the clock of `time.monotonic`."""
    quality = -10 * math.log10((decoded - clip).square().mean().item() / 4)
    left = (time.monotonic() - started) / (step + 1) * (steps - step - 1)
    return f"step {step + 1}/{steps}  loss {loss.item():.4f}  PSNR {quality:.2f} dB  left {left:.0f} s"


def motion_weights(clip: torch.Tensor, weight: float, change_weight: float = 0.0) -> torch.Tensor:
    """How much pixels (B, 3, T, H, W) count, (B, 1, T, H, W): 1 where they are always the same.

    Up to 1 + `weight` where they move, and up to 1 + `change_weight` where they differ from those of the first frame,
    as eyes do that have long come to rest on somebody; the larger of the two.
    """
    moving = clip[:, :, 1:].mean(dim=2, keepdim=True) if clip.shape[2] > 1 else clip
    motion = weight * _difference(clip, moving)
    if not change_weight:
        return 1 + motion
    return 1 + torch.maximum(motion, change_weight * _difference(clip, clip[:, :, :1]))


def _difference(clip: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Between 0 and 1: a quarter of the range of pixels or more."""
    return (2 * (clip - other).abs().amax(dim=1, keepdim=True)).clamp(max=1)


def warmup_cosine(step: int, warmup_steps: int, steps: int, floor: float = 0.03) -> float:
    """Factor on the learning rate: linear warm-up, then a cosine down to `floor`."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
