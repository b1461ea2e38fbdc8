"""The last step of a small model: its decoder learns from the model's own guesses, which are softer than true latents.

The encoder, and with it the space of latents, stays as it is, so that the transformer fits as before. Beside the
pixels' own error there is a judge of sharpness, a patch discriminator over the frames of a latent frame, as in the
training of VQGAN and of most video autoencoders.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import nn

from anytalker.errors import AnyTalkerError
from anytalker.models.latents import latent_statistics
from anytalker.training.autoencoder import progress_line, reconstruction_loss, warmup_cosine

FRAMES = 4


@dataclass(frozen=True)
class DecoderTraining:
    """How a decoder is tuned.

    `judge_rate` is the discriminator's learning rate; `adversarial_weight` how much its gradient weighs against that of
    the pixels' error, 0 for none; `adversarial_start` the step from which it has a say; `feature_weight` the weight of
    the likeness of its features; `true_share` the share of the latents that are true ones; `average` the decay of the
    average of the weights that is kept in the end; `bf16` computes convolutions in bfloat16. The others: see
    `AutoencoderTraining`.
    """

    steps: int = 2400
    learning_rate: float = 4e-4
    judge_rate: float = 1e-3
    warmup_steps: int = 50
    edge_weight: float = 0.5
    motion_weight: float = 20.0
    adversarial_weight: float = 0.4
    adversarial_start: int = 200
    feature_weight: float = 0.5
    true_share: float = 0.2
    average: float = 0.995
    bf16: bool = True
    log_every: int = 20
    save_every: int = 200


class PatchDiscriminator(nn.Module):
    """Scores (B, 1, H/8, W/8) for patches of four frames (B, 12, H, W): high where they look real."""

    def __init__(self, channels: int = 3 * FRAMES, width: int = 32) -> None:
        super().__init__()
        sizes = [channels, width, 2 * width, 4 * width]
        self.layers = nn.ModuleList(
            nn.utils.parametrizations.spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1))
            for before, after in pairwise(sizes)
        )
        self.score = nn.utils.parametrizations.spectral_norm(nn.Conv2d(sizes[-1], 1, 3, padding=1))

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Scores of frames (B, 12, H, W) in [-1, 1], and the features of every layer, (B, 32, H/2, W/2) and on."""
        features = []
        for layer in self.layers:
            frames = nn.functional.leaky_relu(layer(frames), 0.2)
            features.append(frames)
        return self.score(frames), features


# Long because a step of two networks against each other is read as a whole.
def train_decoder(
    vae: Any,
    batches: Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    config: DecoderTraining,
    log: Callable[[str], None] = print,
    save: Callable[[Any], None] = lambda averaged: None,
) -> Any:
    """Tune what `vae.decode` uses and leave the rest alone; returns the autoencoder with averaged weights.

    Args:
        vae: an autoencoder with Wan's contract that decodes latent frames apart, float32.
        batches: endless (guesses, true latents, pixels): normalised latents (B, channels, f, h, w), both of the clip
            whose pixels are (B, 3, 4(f-1)+1, 8h, 8w) in [-1, 1].
        config: steps, rates and weights.
        log: receives a line of progress every `log_every` steps.
        save: called with the averaged autoencoder every `save_every` steps.

    Raises:
        AnyTalkerError: if a gradient is no number.
    """
    batch = next(batches)
    used = decoding_parameters(vae, batch[0])
    last = used[-2]  # the weight of the last convolution
    judge = PatchDiscriminator().to(batch[0].device)
    optimizer = torch.optim.AdamW(used, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    critic = torch.optim.AdamW(judge.parameters(), lr=config.judge_rate, betas=(0.5, 0.9), weight_decay=0.0)
    averaged = copy.deepcopy(vae)
    kept = decoding_parameters(averaged, batch[0])
    average = EMAModel(used, decay=config.average)
    started = time.monotonic()
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * warmup_cosine(step, config.warmup_steps, config.steps)
        guesses, latents, pixels = batch if step == 0 else next(batches)
        mixed = torch.autocast(pixels.device.type, torch.bfloat16, enabled=config.bf16)
        true = torch.rand(len(guesses), 1, 1, 1, 1, device=guesses.device) < config.true_share
        with mixed:
            decoded = _decode(vae, torch.where(true, latents, guesses)).float()
        loss = reconstruction_loss(decoded, pixels, config.motion_weight, config.edge_weight)
        verdict = float("nan")
        if config.adversarial_weight and step >= config.adversarial_start // 2:
            with mixed:
                verdict = _teach(judge, critic, _groups(pixels), _groups(decoded.detach()))
        if config.adversarial_weight and step >= config.adversarial_start:
            with mixed:
                objection = _objection(judge, _groups(pixels), _groups(decoded), config.feature_weight)
            loss = loss + _balance(loss, objection, last, config.adversarial_weight) * objection
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if not torch.isfinite(nn.utils.clip_grad_norm_(used, 1.0)):
            raise AnyTalkerError(
                f"The gradient is no number at step {step + 1} (loss {loss.item():.3g}); lower learning_rate. "
                "What was saved before is whole."
            )
        optimizer.step()
        average.step(used)
        if step % config.log_every == 0 or step + 1 == config.steps:
            log(f"{progress_line(step, config.steps, started, loss, decoded, pixels)}  judge {verdict:.3f}")
        if (step + 1) % config.save_every == 0:
            average.copy_to(kept)
            save(averaged)
    average.copy_to(kept)
    return averaged.eval()


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


def _teach(judge: nn.Module, critic: torch.optim.Optimizer, real: torch.Tensor, made: torch.Tensor) -> float:
    """One step of the discriminator with the hinge loss, which is 2 as long as it can't tell."""
    loss = torch.relu(1 - judge(real)[0]).mean() + torch.relu(1 + judge(made)[0]).mean()
    critic.zero_grad(set_to_none=True)
    loss.backward()
    critic.step()
    return loss.item()


def _objection(judge: nn.Module, real: torch.Tensor, made: torch.Tensor, feature_weight: float) -> torch.Tensor:
    """What the judge holds against the frames: its scores, and that its features are others than of the real ones."""
    with torch.no_grad():
        _, wanted = judge(real)
    scores, features = judge(made)
    unlike = [(have - want).abs().mean() for have, want in zip(features, wanted, strict=True)]
    return feature_weight * torch.stack(unlike).mean() - scores.mean()


def _balance(loss: torch.Tensor, objection: torch.Tensor, last: torch.Tensor, share: float) -> torch.Tensor:
    """The factor that makes the objection's gradient at the last layer `share` of the loss's own (VQGAN's)."""
    ours, theirs = (torch.autograd.grad(one, last, retain_graph=True)[0].norm() for one in (loss, objection))
    return (share * ours / theirs.clamp_min(1e-8)).clamp(max=10)
