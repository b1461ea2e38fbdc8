"""Training of the upscaler: the true frames at twice the size, from what the model makes of them and the picture.

The loss counts pixels more where a frame differs from its picture, which are mouths and eyes: nearly all others are the
picture's. A patch discriminator keeps what the picture doesn't show from becoming the mean of all that might be seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from diffusers.training_utils import EMAModel
from torch import nn

from anytalker.errors import AnyTalkerError
from anytalker.models.upscaler import PictureUpscaler
from anytalker.training.adversarial import PatchDiscriminator, adaptive_weight, adversarial_loss, discriminator_step
from anytalker.training.autoencoder import progress_line, warmup_cosine


@dataclass(frozen=True)
class UpscalerTraining:
    """How an upscaler is trained; for what is not listed here, see `DecoderTraining`.

    Attributes:
        batch_size: squares a step.
        change_weight: how much more a pixel counts where it differs from the picture.
        adversarial_start: step from which the discriminator's opinion counts; it learns from half of it on.
    """

    steps: int = 4000
    batch_size: int = 12
    learning_rate: float = 1e-3
    discriminator_learning_rate: float = 5e-4
    warmup_steps: int = 50
    edge_weight: float = 1.0
    change_weight: float = 20.0
    adversarial_weight: float = 0.1
    adversarial_start: int = 1500
    feature_weight: float = 1.0
    average: float = 0.998
    log_every: int = 50


# Long because a step of two networks against each other is read as a whole.
def train_upscaler(
    upscaler: PictureUpscaler,
    batches: Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]],
    config: UpscalerTraining,
    log: Callable[[str], None] = print,
) -> None:
    """Train `upscaler` in place; in the end it has averaged weights.

    Args:
        upscaler: to train, float32.
        batches: endless (decoded (B, 3, h, w), picture, warped picture, truth (B, 3, 2h, 2w)), in [-1, 1].
        config: steps, learning rates and weights.
        log: receives a line of progress every `log_every` steps.

    Raises:
        AnyTalkerError: if a gradient is not finite.
    """
    discriminator = PatchDiscriminator(6)
    optimizer = torch.optim.AdamW(upscaler.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    discriminator_optimizer = torch.optim.AdamW(
        discriminator.parameters(), lr=config.discriminator_learning_rate, betas=(0.5, 0.9), weight_decay=0.0
    )
    average = EMAModel(list(upscaler.parameters()), decay=config.average)
    started = time.monotonic()
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * warmup_cosine(step, config.warmup_steps, config.steps)
        decoded, picture, warped, truth = next(batches)
        enlarged = upscaler(decoded, picture, warped)
        error = enlarged - truth
        changed = 1 + config.change_weight * (truth - warped).abs().amax(dim=1, keepdim=True).clamp(max=1)
        edges = (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2
        loss = (error.abs() * changed).mean() + config.edge_weight * edges

        discriminator_loss = float("nan")
        # The discriminator sees the picture beside, so that it judges what is new in a frame.
        if config.adversarial_weight and step >= config.adversarial_start // 2:
            real, made = torch.cat([truth, warped], dim=1), torch.cat([enlarged.detach(), warped], dim=1)
            discriminator_loss = discriminator_step(discriminator, discriminator_optimizer, real, made)
        if config.adversarial_weight and step >= config.adversarial_start:
            real, made = torch.cat([truth, warped], dim=1), torch.cat([enlarged, warped], dim=1)
            adversarial = adversarial_loss(discriminator, real, made, config.feature_weight)
            last = upscaler.leave.weight
            loss = loss + adaptive_weight(loss, adversarial, last, config.adversarial_weight) * adversarial

        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if not torch.isfinite(nn.utils.clip_grad_norm_(upscaler.parameters(), 1.0)):
            raise AnyTalkerError(
                f"The gradient is not finite at step {step + 1} (loss {loss.item():.3g}); lower learning_rate."
            )
        optimizer.step()
        average.step(upscaler.parameters())
        if step % config.log_every == 0 or step + 1 == config.steps:
            progress = progress_line(step, config.steps, started, loss, enlarged, truth)
            log(f"{progress}  discriminator {discriminator_loss:.3f}")
    average.copy_to(upscaler.parameters())
    upscaler.eval()
