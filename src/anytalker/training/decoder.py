"""Fine-tuning of a small model's decoder on latents that the model predicts, which are softer than true latents.

The encoder, and with it the space of latents, stays as it is, so that the transformer fits as before. The loss is the
pixels' reconstruction error plus, for sharpness, an adversarial loss of a patch discriminator over the frames of a
latent frame, as in the training of VQGAN and of most video autoencoders.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import nn

from anytalker.errors import AnyTalkerError
from anytalker.hardware.acceleration import processor_has_bfloat16
from anytalker.models.latents import latent_statistics
from anytalker.training.adversarial import PatchDiscriminator, adaptive_weight, adversarial_loss, discriminator_step
from anytalker.training.autoencoder import progress_line, reconstruction_loss, warmup_cosine

FRAMES = 4


@dataclass(frozen=True)
class DecoderTraining:
    """How a decoder is fine-tuned; for what is not listed here, see `AutoencoderTraining`.

    Attributes:
        discriminator_learning_rate: of the discriminator.
        adversarial_weight: gradient norm of the adversarial loss at the decoder's last layer, relative to that of the
            reconstruction loss; 0: no discriminator.
        adversarial_start: step from which the decoder is trained against the discriminator, which starts to learn at
            half of it.
        feature_weight: weight of the feature matching loss within the adversarial loss.
        change_weight: how much more a pixel counts where it differs from the picture, as in eyes that look elsewhere.
        true_share: share of the samples whose latents are true instead of predicted.
        average: decay of the exponential moving average of the weights, which is the result.
        bf16: run convolutions in bfloat16; None: where a processor does so in hardware.
    """

    steps: int = 2400
    learning_rate: float = 4e-4
    discriminator_learning_rate: float = 1e-3
    warmup_steps: int = 50
    edge_weight: float = 0.5
    motion_weight: float = 20.0
    change_weight: float = 10.0
    adversarial_weight: float = 0.4
    adversarial_start: int = 200
    feature_weight: float = 0.5
    true_share: float = 0.2
    average: float = 0.995
    bf16: bool | None = None
    log_every: int = 20
    save_every: int = 200


# Long because a step of two networks against each other is read as a whole.
def train_decoder(
    vae: Any,
    batches: Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    config: DecoderTraining,
    log: Callable[[str], None] = print,
    save: Callable[[Any], None] = lambda averaged: None,
) -> Any:
    """Fine-tune what `vae.decode` uses and leave the rest alone; returns the autoencoder with averaged weights.

    Args:
        vae: an autoencoder with Wan's contract that decodes latent frames apart, float32.
        batches: endless (predicted latents, true latents, pixels): normalised latents (B, channels, f, h, w), both of
            the clip whose pixels are (B, 3, 4(f-1)+1, 8h, 8w) in [-1, 1].
        config: steps, learning rates and weights.
        log: receives a line of progress every `log_every` steps.
        save: called with the averaged autoencoder every `save_every` steps.

    Raises:
        AnyTalkerError: if a gradient is not finite.
    """
    batch = next(batches)
    parameters = decoding_parameters(vae, batch[0])
    last_weight = parameters[-2]  # of the last convolution; its bias comes after it
    discriminator = PatchDiscriminator(3 * FRAMES).to(batch[0].device)
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    discriminator_optimizer = torch.optim.AdamW(
        discriminator.parameters(), lr=config.discriminator_learning_rate, betas=(0.5, 0.9), weight_decay=0.0
    )
    averaged = copy.deepcopy(vae)
    averaged_parameters = decoding_parameters(averaged, batch[0])
    average = EMAModel(parameters, decay=config.average)
    half = config.bf16 if config.bf16 is not None else _multiplies_bfloat16(batch[0].device)
    started = time.monotonic()
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * warmup_cosine(step, config.warmup_steps, config.steps)
        predicted, true, pixels = batch if step == 0 else next(batches)
        mixed_precision = torch.autocast(pixels.device.type, torch.bfloat16, enabled=half)
        takes_true = torch.rand(len(predicted), 1, 1, 1, 1, device=predicted.device) < config.true_share
        with mixed_precision:
            decoded = _decode(vae, torch.where(takes_true, true, predicted)).float()
        loss = reconstruction_loss(decoded, pixels, config.motion_weight, config.edge_weight, config.change_weight)

        discriminator_loss = float("nan")
        if config.adversarial_weight and step >= config.adversarial_start // 2:
            with mixed_precision:
                discriminator_loss = discriminator_step(
                    discriminator, discriminator_optimizer, _groups(pixels), _groups(decoded.detach())
                )
        if config.adversarial_weight and step >= config.adversarial_start:
            with mixed_precision:
                adversarial = adversarial_loss(discriminator, _groups(pixels), _groups(decoded), config.feature_weight)
            loss = loss + adaptive_weight(loss, adversarial, last_weight, config.adversarial_weight) * adversarial

        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if not torch.isfinite(nn.utils.clip_grad_norm_(parameters, 1.0)):
            raise AnyTalkerError(
                f"The gradient is not finite at step {step + 1} (loss {loss.item():.3g}); lower learning_rate. "
                "What was saved before is whole."
            )
        optimizer.step()
        average.step(parameters)
        if step % config.log_every == 0 or step + 1 == config.steps:
            progress = progress_line(step, config.steps, started, loss, decoded, pixels)
            log(f"{progress}  discriminator {discriminator_loss:.3f}")
        if (step + 1) % config.save_every == 0:
            average.copy_to(averaged_parameters)
            save(averaged)
    average.copy_to(averaged_parameters)
    return averaged.eval()


def _multiplies_bfloat16(device: torch.device) -> bool:
    return device.type != "cpu" or processor_has_bfloat16()


def decoding_parameters(vae: Any, latents: torch.Tensor) -> list[nn.Parameter]:
    """The parameters that `vae.decode` uses, found by decoding `latents` (B, channels, f, h, w), in their order."""
    with torch.enable_grad():
        gradients = torch.autograd.grad(
            vae.decode(latents[:1, :, :2]).sample.sum(), list(vae.parameters()), allow_unused=True
        )
    return [one for one, gradient in zip(vae.parameters(), gradients, strict=True) if gradient is not None]


def _decode(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    mean, deviation = latent_statistics(vae, latents)
    return vae.decode(latents * deviation + mean).sample


def _groups(pixels: torch.Tensor) -> torch.Tensor:
    """Frames (B·(f-1), 12, H, W) of each latent frame but the first."""
    return pixels[:, :, 1:].transpose(1, 2).unflatten(1, (-1, FRAMES)).flatten(0, 1).flatten(1, 2)
