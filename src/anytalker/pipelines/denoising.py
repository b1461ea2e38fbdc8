"""The denoising loop: guidance, windows and the sampler around the transformer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import UniPCMultistepScheduler

from anytalker.models.transformer import AnyTalkerTransformer3DModel
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


@dataclass(frozen=True)
class Denoiser:
    """Turns noise into latents.

    Attributes:
        transformer: the model.
        scheduler: a UniPC scheduler with flow sigmas.
        num_inference_steps: steps of the sampler.
        guidance_scale: scale of guidance against the negative prompt and zero audio; 1: no second branch.
        window: latent frames denoised together, see `plan_windows`.
        window_overlap: latent frames that neighbouring windows share.
    """

    transformer: AnyTalkerTransformer3DModel
    scheduler: UniPCMultistepScheduler
    num_inference_steps: int
    guidance_scale: float
    window: int | None
    window_overlap: int

    @torch.no_grad()
    def __call__(
        self, noise: torch.Tensor, conditioning: Conditioning, on_step: Callable[[int, int], None] | None = None
    ) -> torch.Tensor:
        """Denoise (1, 16, f, h, w) latents; `on_step(done, total)` is called after every step."""
        set_timesteps(self.scheduler, self.num_inference_steps, noise.device)
        windows = plan_windows(noise.shape[2], self.window, self.window_overlap)
        parts = [conditioning.window(window) for window in windows]
        latents = noise
        for done, timestep in enumerate(self.scheduler.timesteps, start=1):
            velocity = self._blended_velocity(latents, timestep, windows, parts)
            latents = self.scheduler.step(velocity, timestep, latents, return_dict=False)[0]
            if on_step is not None:
                on_step(done, self.num_inference_steps)
        return latents

    def _blended_velocity(
        self, latents: torch.Tensor, timestep: torch.Tensor, windows: list[Window], parts: list[Conditioning]
    ) -> torch.Tensor:
        total = latents.shape[2]
        summed = torch.zeros_like(latents)
        weight_sum = latents.new_zeros(total)
        for window, part in zip(windows, parts, strict=True):
            frames = window.latent_frames()
            weights = window.weights(self.window_overlap, total).to(latents)
            velocity = self._guided_velocity(latents[:, :, frames], timestep, part)
            summed[:, :, frames] += velocity * weights.view(1, 1, -1, 1, 1)
            weight_sum[frames] += weights
        return summed / weight_sum.view(1, 1, -1, 1, 1)

    def _guided_velocity(self, latents: torch.Tensor, timestep: torch.Tensor, part: Conditioning) -> torch.Tensor:
        spoken = self._velocity(latents, timestep, part, part.prompt_embeds, part.audio_embeds)
        if self.guidance_scale == 1:
            return spoken
        silence = torch.zeros_like(part.audio_embeds)
        null = self._velocity(latents, timestep, part, part.negative_prompt_embeds, silence)
        return null + self.guidance_scale * (spoken - null)

    def _velocity(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        part: Conditioning,
        prompt_embeds: torch.Tensor,
        audio_embeds: torch.Tensor,
    ) -> torch.Tensor:
        return self.transformer(
            torch.cat([latents, part.condition], dim=1),
            timestep.reshape(1).to(latents),
            prompt_embeds,
            part.image_embeds,
            part.face_embeds,
            audio_embeds,
            part.face_masks,
            return_dict=False,
        )[0]
