"""What is trained: the transformer, its image encoder if wanted, and the loss of one group of clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from anytalker.models.transformer import AnyTalkerTransformer3DModel
from anytalker.training.batches import Batch
from anytalker.training.config import Weighting
from anytalker.training.losses import add_noise, flow_matching_loss, sample_sigmas, timestep_weights


class TrainedModel(nn.Module):
    """Transformer and image encoder as one module, so that they can be wrapped for many processes together.

    Args:
        transformer: predicts velocities.
        image_encoder: CLIP vision tower; its hidden states before the last layer are used.
        train_image_encoder: whether gradients flow into it.
    """

    def __init__(
        self, transformer: AnyTalkerTransformer3DModel, image_encoder: nn.Module, train_image_encoder: bool
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.image_encoder = image_encoder.requires_grad_(False)
        self.train_image_encoder = train_image_encoder
        if train_image_encoder:
            self.image_encoder.requires_grad_(True)
            for unused in _unused_parameters(image_encoder):
                unused.requires_grad_(False)

    def forward(
        self, noisy: torch.Tensor, sigmas: torch.Tensor, prompt_embeds: torch.Tensor, batch: Batch
    ) -> torch.Tensor:
        """Velocity (B, 16, f, h, w) at noise levels `sigmas` (B,) of noisy latents, given the rest of a batch."""
        count, people = batch.faces.shape[:2]
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.train_image_encoder):
            pixels = torch.cat([batch.pictures, batch.faces.flatten(0, 1)])
            states = self.image_encoder(pixels, output_hidden_states=True).hidden_states[-2]
        return self.transformer(
            torch.cat([noisy, batch.mask, batch.condition], dim=1),
            sigmas * 1000,
            prompt_embeds,
            states[:count],
            states[count:].unflatten(0, (count, people)),
            batch.audio,
            batch.face_masks,
            return_dict=False,
        )[0]


def _unused_parameters(image_encoder: nn.Module) -> list[nn.Parameter]:
    """The last layer and what follows it, which the hidden states before the last layer do not depend on."""
    layers = [module for module in image_encoder.modules() if isinstance(module, nn.ModuleList)][-1]
    after = [p for name, p in image_encoder.named_parameters() if "post_layernorm" in name]
    return [*layers[-1].parameters(), *after]


class TextEmbeddings:
    """Embeds the prompts that may occur once, so that the text encoder need not stay beside what is trained.

    Args:
        encode: prompt → (1, L, channels).
        prompts: all that will be asked for as text; captions come as embeddings from the shards.
        length: tokens a prompt is padded or cut to.
    """

    @torch.no_grad()
    def __init__(self, encode: Callable[[str], torch.Tensor], prompts: Iterable[str], length: int) -> None:
        self.length = length
        self._known = {prompt: encode(prompt)[0].float() for prompt in prompts}

    def __call__(self, prompts: Sequence[str | torch.Tensor]) -> torch.Tensor:
        """(B, length, channels), zero after each prompt's end."""
        rows = [(self._known[prompt] if isinstance(prompt, str) else prompt)[: self.length] for prompt in prompts]
        padded = [nn.functional.pad(row, (0, 0, 0, self.length - len(row))) for row in rows]
        return torch.stack([row.to(padded[0]) for row in padded])


def group_loss(
    model: nn.Module,
    batch: Batch,
    prompt_embeds: torch.Tensor,
    shift: float,
    weighting: Weighting,
    generator: torch.Generator,
) -> torch.Tensor:
    """Flow-matching loss of a group (paper section 4): a scalar.

    Args:
        model: a `TrainedModel`, wrapped or not.
        batch: the clips, on the model's device.
        prompt_embeds: (B, L, channels).
        shift: shift of the noise levels.
        weighting: how they are weighted, see `timestep_weights`.
        generator: source of noise and noise levels, on any device.
    """
    latents = batch.latents
    sigmas = sample_sigmas(len(latents), shift, generator)
    noise = torch.randn(latents.shape, generator=generator, device=generator.device).to(latents)
    weights = timestep_weights(sigmas, shift, weighting).to(latents.device)
    sigmas = sigmas.to(latents.device)
    velocity = model(add_noise(latents, noise, sigmas), sigmas, prompt_embeds, batch)
    return flow_matching_loss(velocity, latents, noise, weights, batch.loss_weights)
