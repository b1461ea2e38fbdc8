"""What diffusers' callbacks read of a pipeline while it makes a video."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class CallState:
    """The state of the video in work; a part of `AnyTalkerPipeline`. A callback may set the names with underscores."""

    _callback_tensor_inputs = (
        "latents",
        "pred_original_sample",
        "latent_frames",
        "prompt_embeds",
        "negative_prompt_embeds",
    )
    """Names for `callback_on_step_end_tensor_inputs`.

    `latents` (1, 16, n, h, w) are those that the step has moved: of a video in one window all of them, else those that
    no later window shares, so that every latent frame comes once a step. `pred_original_sample`: the same without their
    noise, as far as the model can tell, for previews. `latent_frames`: their n numbers in the video. The embeddings
    (1, tokens, channels) are those that are used.
    """
    _interrupt = False
    _guidance_scale = 1.0
    _num_timesteps = 0
    _current_timestep: torch.Tensor | None = None
    _attention_kwargs: Mapping[str, Any] | None = None

    def begin_call(self, guidance_scale: float, steps: int, attention_kwargs: Mapping[str, Any] | None) -> None:
        """A new video begins."""
        self._guidance_scale, self._num_timesteps = guidance_scale, steps
        self._attention_kwargs, self._current_timestep = attention_kwargs, None

    @property
    def guidance_scale(self) -> float:
        """Pull of prompt and voice."""
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether there is such a pull."""
        return self._guidance_scale > 1

    @property
    def num_timesteps(self) -> int:
        """Denoising steps."""
        return self._num_timesteps

    @property
    def current_timestep(self) -> torch.Tensor | None:
        """The sampler's at the step in work, in 0..1000."""
        return self._current_timestep

    @property
    def attention_kwargs(self) -> Mapping[str, Any] | None:
        """As they were given."""
        return self._attention_kwargs

    @property
    def interrupt(self) -> bool:
        """Whether to end after this step."""
        return self._interrupt
