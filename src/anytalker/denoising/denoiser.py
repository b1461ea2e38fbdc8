"""The denoising loop: guidance, windows and the sampler around the transformer.

`Denoiser.begin` starts a `DenoisingRun`. Each of its steps asks the `Wavefront` for the next window, computes the
guided velocity of that window's latents (`Denoiser.velocity`), and returns it to the `Wavefront`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from anytalker.conditioning.audio_features import VoiceWindows
from anytalker.denoising.guidance import Branch, Guidance, StepGuidance, Weighed, branch_inputs
from anytalker.denoising.schedule import set_timesteps
from anytalker.denoising.segments import KeptWindows, NoiseSource, Stepped
from anytalker.denoising.wavefront import Wavefront
from anytalker.denoising.windows import Window, plan_windows
from anytalker.hardware.acceleration import compile_blocks, fit_cache, forget_cached, tell_step
from anytalker.models.face_regions import FaceRegions
from anytalker.models.lora import scaled_adapters
from anytalker.models.transformer import AnyTalkerTransformer3DModel, TransformerContext

CONTEXT_BUDGET = 4 * 2**30
"""Bytes that contexts may take on the CPU, and on a GPU that has not much more than it needs."""


@dataclass(frozen=True)
class Conditioning:
    """The encoded inputs of the transformer, for one video of N people and f latent frames.

    `condition` (1, 20, up to f, h, w): 4 mask channels and 16 latents, the last frame stands for all later ones;
    `prompt_embeds` and `negative_prompt_embeds` (1, tokens, channels); `image_embeds` (1, tokens, channels);
    `face_embeds` (1, N, tokens, channels); `audio_embeds` (1, N, 4(f-1)+1, window, blocks, channels), or what makes
    them; `face_masks` (1, N, f, h/2, w/2). For long videos the last two take no memory of that size.
    """

    condition: torch.Tensor
    prompt_embeds: torch.Tensor
    negative_prompt_embeds: torch.Tensor
    image_embeds: torch.Tensor
    face_embeds: torch.Tensor
    audio_embeds: torch.Tensor | VoiceWindows
    face_masks: torch.Tensor
    _found: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def latent_frames(self) -> int:
        """Latent frames f of the video."""
        return self.face_masks.shape[2]

    def window(self, window: Window) -> Conditioning:
        """The same for the latent frames of a window."""
        frames, rows = window.latent_frames(), window.video_frames()
        last, audio = self.condition.shape[2] - 1, self.audio_embeds
        return Conditioning(
            self.condition[:, :, [min(frame, last) for frame in frames]],
            self.prompt_embeds,
            self.negative_prompt_embeds,
            self.image_embeds,
            self.face_embeds,
            audio.at(rows) if isinstance(audio, VoiceWindows) else audio[:, :, rows],
            self.face_masks[:, :, frames],
        )

    def coefficients(self, guidance: Guidance) -> dict[Branch, torch.Tensor]:
        """`Guidance.coefficients` of these faces, computed once: it waits for the device."""
        if guidance not in self._found:
            self._found[guidance] = guidance.coefficients(self.face_masks)
        return self._found[guidance]

    def regions(self, transformer: AnyTalkerTransformer3DModel, branches: int) -> FaceRegions:
        """Where the people are, for a batch of so many branches, found once: it waits for the device."""
        if branches not in self._found:
            masks = self.face_masks.repeat(branches, 1, 1, 1, 1)
            self._found[branches] = transformer.find_people(masks)
        return self._found[branches]

    def branches(self, branches: Sequence[Branch]) -> tuple[torch.Tensor, ...]:
        """Arguments of the transformer's `make_context` for several branches of guidance as one batch."""
        audio = self.audio_embeds
        assert isinstance(audio, torch.Tensor), "of a window, see `window`"
        texts, audios = zip(
            *(branch_inputs(branch, self.prompt_embeds, self.negative_prompt_embeds, audio) for branch in branches),
            strict=True,
        )
        length, count = max(text.shape[1] for text in texts), len(branches)
        return (
            torch.cat([torch.nn.functional.pad(text, (0, 0, 0, length - text.shape[1])) for text in texts]),
            torch.cat([self.image_embeds] * count),
            torch.cat([self.face_embeds] * count),
            torch.cat(audios),
            torch.cat([self.face_masks] * count),
        )


def budget_of(free: int | None) -> int:
    """Bytes that contexts may take where so many are free once the transformer is there; None: on the CPU.

    Half of them, but at most 4 GiB, which the doctor counts with, where less than 48 GiB are free.
    """
    if free is None:
        return CONTEXT_BUDGET
    return free // 2 if free >= 12 * CONTEXT_BUDGET else min(CONTEXT_BUDGET, free // 2)


def free_memory(device: torch.device) -> int | None:
    """Bytes of a GPU that tensors could still take; None for other devices."""
    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


class ContextCache:
    """Keeps the transformer's contexts from step to step, within a memory budget.

    Args:
        transformer: makes the contexts.
        budget: bytes; contexts beyond it are made anew whenever they are needed. None: what `budget_of` says when the
            first one is made.
    """

    def __init__(self, transformer: AnyTalkerTransformer3DModel, budget: int | None = None) -> None:
        self.transformer, self.budget = transformer, budget
        self._kept: dict[tuple[int, tuple[Branch, ...]], TransformerContext] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __call__(self, number: int, part: Conditioning, branches: tuple[Branch, ...]) -> TransformerContext:
        """The context of window `number`, whose conditioning is `part`, for branches of guidance."""
        known = self._kept.get((number, branches))
        if known is not None:
            return known
        hook = getattr(self.transformer, "_hf_hook", None)
        if hook is not None:  # offloading: brings the weights, which only a call of the model itself would do
            hook.pre_forward(self.transformer)
        if self.budget is None:
            self.budget = budget_of(free_memory(part.condition.device))
        regions = part.regions(self.transformer, len(branches))
        context = self.transformer.make_context(*part.branches(branches), regions=regions)  # type: ignore[misc,arg-type]
        if context.nbytes <= self.budget:
            self.budget -= context.nbytes
            self._kept[number, branches] = context
        return context

    def drop(self, number: int | None = None) -> None:
        """Free the contexts of a finished window; None: of all windows."""
        for key in [key for key in self._kept if number in (None, key[0])]:
            self.budget = (self.budget or 0) + self._kept.pop(key).nbytes


@dataclass
class Denoiser:
    """Turns noise into latents.

    Attributes:
        transformer: the model.
        scheduler: a flow-matching scheduler of diffusers, UniPC with flow sigmas in the release.
        num_inference_steps: steps of the sampler.
        guidance: how far to push towards text and voices.
        window: latent frames denoised together, see `plan_windows`.
        window_overlap: latent frames that neighbouring windows share.
        context_budget: bytes for what stays the same from step to step, see `ContextCache`; None: what suits the card.
        keep_contexts: False makes it anew inside every step of every block, for transformers that are not on the device
            as a whole.
        compiled: compile the transformer's blocks for this run, or don't; None: leave them as they are.
        adapter_scale: factor on the strength of all loaded adapters.
        guider: `GuiderSteps` in place of `guidance`.
    """

    transformer: AnyTalkerTransformer3DModel
    scheduler: Any
    num_inference_steps: int
    guidance: Guidance = field(default_factory=Guidance)
    window: int | None = None
    window_overlap: int = 2
    context_budget: int | None = None
    keep_contexts: bool = True
    compiled: bool | None = None
    adapter_scale: float = 1.0
    guider: Any = None

    @torch.no_grad()
    def __call__(
        self, noise: torch.Tensor, conditioning: Conditioning, on_step: Callable[[int, int], None] | None = None
    ) -> torch.Tensor:
        """Denoise (B, 16, f, h, w) latents; `on_step(done, total)` is called after every step of a window."""
        run = self.begin(lambda start, stop: noise[:, :, start:stop], conditioning)
        finished: list[torch.Tensor] = []
        while run.done < run.total:
            run.advance()
            finished += run.finished()
            if on_step is not None:
                on_step(run.done, run.total)
        return torch.cat(finished, dim=2)

    def begin(self, noise: NoiseSource, conditioning: Conditioning, kept: KeptWindows | None = None) -> DenoisingRun:
        """Start a run, which is advanced step by step in memory that does not grow with the length of the video.

        Args:
            noise: where the noise comes from.
            conditioning: of the whole video.
            kept: windows of an earlier video that are not denoised again.
        """
        self.forget()
        if self.compiled is not None:
            compile_blocks(self.transformer, self.compiled)
        fit_cache(self.transformer, self.num_inference_steps)
        scheduler = copy.copy(self.scheduler)
        set_timesteps(scheduler, self.num_inference_steps, conditioning.condition.device)
        total = conditioning.latent_frames
        windows = self.windows(total)
        wavefront = Wavefront(windows, self.window_overlap, total, scheduler, noise, kept)
        return DenoisingRun(self, conditioning, wavefront)

    def windows(self, latent_frames: int) -> list[Window]:
        """The windows of a video, in order."""
        return plan_windows(latent_frames, self.window, self.window_overlap)

    def passes(self, conditioning: Conditioning) -> int:
        """Passes of the transformer that a video takes: windows × steps × branches of guidance."""
        windows = self.windows(conditioning.latent_frames)
        guidances = [self.guidance.at_step(step, self.num_inference_steps) for step in range(self.num_inference_steps)]
        faces = conditioning.face_masks[:, :, :1]
        branches = {guidance: len(guidance.coefficients(faces)) for guidance in set(guidances)}
        return len(windows) * sum(branches[guidance] for guidance in guidances)

    def velocity(
        self,
        latents: torch.Tensor,
        step: int,
        timestep: torch.Tensor,
        number: int,
        part: Conditioning,
        contexts: ContextCache,
    ) -> torch.Tensor:
        """The guided velocity of a window's latents.

        Args:
            latents: (B, 16, frames of the window, h, w).
            step: of the sampler, from 0.
            timestep: the sampler's at that step, in 0..1000.
            number: of the window.
            part: its conditioning.
            contexts: kept from step to step.
        """
        guided = self._guided(step, timestep, number, part)
        batches = [guided.branches] if guided.batched else [(branch,) for branch in guided.branches]
        hidden_states = torch.cat([latents, part.condition], dim=1)
        velocities: dict[Branch, torch.Tensor] = {}
        for batch in batches:
            given = () if self.keep_contexts else part.branches(batch)
            with self._cache_of(number, batch), scaled_adapters(self.transformer, self.adapter_scale):
                tell_step(self.transformer, step)
                predicted = self.transformer(
                    hidden_states.expand(len(batch), -1, -1, -1, -1),
                    timestep.expand(len(batch)).to(latents),
                    *given,
                    context=contexts(number, part, batch) if self.keep_contexts else None,
                    regions=None if self.keep_contexts else part.regions(self.transformer, len(batch)),
                    return_dict=False,
                )[0]
            velocities |= zip(batch, predicted.split(1), strict=True)
        return guided.combine(velocities)

    def _guided(self, step: int, timestep: torch.Tensor, number: int, part: Conditioning) -> StepGuidance:
        """What guidance wants at a step of a window."""
        if self.guider is not None:
            return self.guider.at_step(step, self.num_inference_steps, timestep, number, part.face_masks)
        guidance = self.guidance.at_step(step, self.num_inference_steps)
        return Weighed(part.coefficients(guidance), guidance.batched)

    def _cache_of(self, number: int, batch: tuple[Branch, ...]) -> AbstractContextManager[None]:
        """Context in which block caches, if enabled, are those of a window and its branches."""
        if not self.transformer.is_cache_enabled:
            return nullcontext()
        return self.transformer.cache_context(f"{number}: {' '.join(batch)}")

    def forget(self, number: int | None = None) -> None:
        """Clear the block caches, and the guider's state, of a window; None: of all windows."""
        if self.guider is not None:
            self.guider.forget(number)
        if self.transformer.is_cache_enabled:
            forget_cached(self.transformer, "" if number is None else f"{number}:")


class DenoisingRun:
    """One video on its way from noise to latents, a step of a window at a time.

    Args:
        denoiser: settings and models.
        conditioning: of the whole video.
        wavefront: where the run is.
    """

    def __init__(self, denoiser: Denoiser, conditioning: Conditioning, wavefront: Wavefront) -> None:
        self.denoiser, self.conditioning, self.wavefront = denoiser, conditioning, wavefront
        self.contexts = ContextCache(denoiser.transformer, denoiser.context_budget)
        self._parts: dict[int, Conditioning] = {}

    @property
    def done(self) -> int:
        """Steps of windows that have been taken."""
        return self.wavefront.done

    @property
    def total(self) -> int:
        """Steps of windows in all."""
        return len(self.wavefront.windows) * self.wavefront.steps

    @torch.no_grad()
    def advance(self) -> None:
        """Take the next step of a window, or pass by one that is kept.

        Raises:
            StopIteration: if there is none left.
        """
        chosen = self.wavefront.next_step()
        if chosen is None:
            return
        number, step = chosen
        if number not in self._parts:
            self._parts[number] = self.conditioning.window(self.wavefront.windows[number])
        latents = self.wavefront.latents(number, step)
        timestep = self.wavefront.timesteps[step]
        velocity = self.denoiser.velocity(latents, step, timestep, number, self._parts[number], self.contexts)
        if self.wavefront.add_velocity(number, velocity):
            del self._parts[number]
            self.contexts.drop(number)
            self.denoiser.forget(number)

    @property
    def stepped(self) -> Stepped | None:
        """The latents that the last step has moved; None: they wait for a later window."""
        return self.wavefront.stepped

    def change_text(self, prompt_embeds: torch.Tensor, negative_prompt_embeds: torch.Tensor) -> None:
        """Go on with other text embeddings (1, tokens, channels)."""
        self.conditioning = replace(
            self.conditioning, prompt_embeds=prompt_embeds, negative_prompt_embeds=negative_prompt_embeds
        )
        self._parts.clear()
        self.contexts.drop()

    def unfinished(self) -> list[torch.Tensor]:
        """Latents (B, 16, n, h, w) that have not been taken, as they are, for a run that ends early; in order."""
        return list(self.wavefront.unfinished())

    def finished(self) -> list[torch.Tensor]:
        """Final latents (B, 16, n, h, w) that have not been taken yet, in order."""
        return list(self.wavefront.finished())

    def estimate(self) -> torch.Tensor | None:
        """Latents (B, 16, 2, h, w) of what the video will look like, see `Wavefront.estimate`."""
        return self.wavefront.estimate()

    def state(self) -> dict[str, torch.Tensor]:
        """Where the run is, as tensors on the CPU; the noise's own state is not among them."""
        return self.wavefront.state()

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Continue from what `state` returned."""
        self.wavefront.restore(state, self.conditioning.condition)
