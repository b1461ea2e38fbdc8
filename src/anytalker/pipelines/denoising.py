"""The denoising loop: guidance, windows and the sampler around the transformer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from diffusers import UniPCMultistepScheduler

from anytalker.models.transformer import AnyTalkerTransformer3DModel, TransformerContext
from anytalker.pipelines.guidance import Branch, Guidance
from anytalker.pipelines.schedule import set_timesteps
from anytalker.pipelines.windows import Window, plan_windows


@dataclass(frozen=True)
class Conditioning:
    """All that the transformer is told, for one video of N people and f latent frames.

    `condition` (1, 20, f, h, w): 4 mask channels and 16 latents; `prompt_embeds` and `negative_prompt_embeds`
    (1, tokens, channels); `image_embeds` (1, tokens, channels); `face_embeds` (1, N, tokens, channels);
    `audio_embeds` (1, N, 4(f-1)+1, window, blocks, channels); `face_masks` (1, N, f, h/2, w/2).
    """

    condition: torch.Tensor
    prompt_embeds: torch.Tensor
    negative_prompt_embeds: torch.Tensor
    image_embeds: torch.Tensor
    face_embeds: torch.Tensor
    audio_embeds: torch.Tensor
    face_masks: torch.Tensor

    def window(self, window: Window) -> Conditioning:
        """The same for the latent frames of a window."""
        frames, rows = window.latent_frames(), window.video_frames()
        return Conditioning(
            self.condition[:, :, frames],
            self.prompt_embeds,
            self.negative_prompt_embeds,
            self.image_embeds,
            self.face_embeds,
            self.audio_embeds[:, :, rows],
            self.face_masks[:, :, frames],
        )

    def branches(self, branches: Sequence[Branch]) -> tuple[torch.Tensor, ...]:
        """Arguments of the transformer's `make_context` for several branches of guidance as one batch."""
        rows = [
            (
                self.negative_prompt_embeds if branch == "null" else self.prompt_embeds,
                self.image_embeds,
                self.face_embeds,
                self.audio_embeds if branch == "all" else torch.zeros_like(self.audio_embeds),
                self.face_masks,
            )
            for branch in branches
        ]
        length = max(row[0].shape[1] for row in rows)
        texts = [torch.nn.functional.pad(row[0], (0, 0, 0, length - row[0].shape[1])) for row in rows]
        return torch.cat(texts), *(torch.cat([row[part] for row in rows]) for part in range(1, 5))


class ContextCache:
    """Contexts of the transformer, kept from step to step as far as a budget of memory goes.

    Args:
        transformer: makes the contexts.
        budget: bytes; contexts beyond it are made anew whenever they are needed.
    """

    def __init__(self, transformer: AnyTalkerTransformer3DModel, budget: int) -> None:
        self.transformer, self.budget = transformer, budget
        self._kept: dict[tuple[int, tuple[Branch, ...]], TransformerContext] = {}

    def __call__(self, number: int, part: Conditioning, branches: tuple[Branch, ...]) -> TransformerContext:
        """The context of window `number`, whose conditioning is `part`, for branches of guidance."""
        known = self._kept.get((number, branches))
        if known is not None:
            return known
        context = self.transformer.make_context(*part.branches(branches))
        if context.nbytes <= self.budget:
            self.budget -= context.nbytes
            self._kept[number, branches] = context
        return context


@dataclass
class Denoiser:
    """Turns noise into latents.

    Attributes:
        transformer: the model.
        scheduler: a UniPC scheduler with flow sigmas.
        num_inference_steps: steps of the sampler.
        guidance: how far to push towards text and voices.
        window: latent frames denoised together, see `plan_windows`.
        window_overlap: latent frames that neighbouring windows share.
        context_budget: bytes for what stays the same from step to step, see `ContextCache`.
    """

    transformer: AnyTalkerTransformer3DModel
    scheduler: UniPCMultistepScheduler
    num_inference_steps: int
    guidance: Guidance = field(default_factory=Guidance)
    window: int | None = None
    window_overlap: int = 2
    context_budget: int = 4 * 2**30

    @torch.no_grad()
    def __call__(
        self, noise: torch.Tensor, conditioning: Conditioning, on_step: Callable[[int, int], None] | None = None
    ) -> torch.Tensor:
        """Denoise (1, 16, f, h, w) latents; `on_step(done, total)` is called after every step."""
        set_timesteps(self.scheduler, self.num_inference_steps, noise.device)
        windows = plan_windows(noise.shape[2], self.window, self.window_overlap)
        parts = [conditioning.window(window) for window in windows]
        contexts = ContextCache(self.transformer, self.context_budget)
        latents = noise
        for step, timestep in enumerate(self.scheduler.timesteps):
            guidance = self.guidance.at_step(step, self.num_inference_steps)
            velocities = (
                self._velocity(latents[:, :, window.latent_frames()], timestep, number, part, guidance, contexts)
                for number, (window, part) in enumerate(zip(windows, parts, strict=True))
            )
            velocity = blend(velocities, windows, self.window_overlap, latents)
            latents = self.scheduler.step(velocity, timestep, latents, return_dict=False)[0]
            if on_step is not None:
                on_step(step + 1, self.num_inference_steps)
        return latents

    def _velocity(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        number: int,
        part: Conditioning,
        guidance: Guidance,
        contexts: ContextCache,
    ) -> torch.Tensor:
        coefficients = guidance.coefficients(part.face_masks)
        branches = tuple(coefficients)
        batches = [branches] if guidance.batched else [(branch,) for branch in branches]
        hidden_states = torch.cat([latents, part.condition], dim=1)
        total = torch.zeros_like(latents)
        for batch in batches:
            predicted = self.transformer(
                hidden_states.expand(len(batch), -1, -1, -1, -1),
                timestep.expand(len(batch)).to(latents),
                context=contexts(number, part, batch),
                return_dict=False,
            )[0]
            for branch, velocity in zip(batch, predicted, strict=True):
                total += coefficients[branch] * velocity
        return total


def blend(
    velocities: Iterable[torch.Tensor], windows: Sequence[Window], overlap: int, latents: torch.Tensor
) -> torch.Tensor:
    """One velocity for all latent frames from those of the windows, averaged where these overlap.

    Args:
        velocities: (1, 16, frames of the window, h, w) a window.
        windows: as planned.
        overlap: latent frames that neighbouring windows share.
        latents: (1, 16, f, h, w), for their shape.
    """
    total = latents.shape[2]
    summed, weight_sum = torch.zeros_like(latents), latents.new_zeros(total)
    for window, velocity in zip(windows, velocities, strict=True):
        frames, weights = window.latent_frames(), window.weights(overlap, total).to(latents)
        summed[:, :, frames] += velocity * weights.view(1, 1, -1, 1, 1)
        weight_sum[frames] += weights
    return summed / weight_sum.view(1, 1, -1, 1, 1)
