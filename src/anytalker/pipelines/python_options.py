"""Options of a video that only Python has: tensors in place of what would be computed, and functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from anytalker.errors import InputError
from anytalker.hashing import short_digest
from anytalker.pipelines.callbacks import OnStepEnd, StepCallback, check_callback

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PythonOptions:
    """Tensors and functions for one video; None: what the pipeline would do by itself.

    Attributes:
        latents: noise that the video starts from, (1, 16, f, h, w).
        prompt_embeds: (1, tokens, channels) in place of a prompt, as `encode_prompt` returns them.
        negative_prompt_embeds: the same in place of a negative prompt.
        attention_kwargs: {"scale": s} makes all loaded adapters that strong.
        callback_on_step_end: see `anytalker.pipelines.callbacks`.
        callback_on_step_end_tensor_inputs: names of the tensors that it is given; None: latents alone.

    Raises:
        InputError: for another name or key.
    """

    latents: torch.Tensor | None = None
    prompt_embeds: torch.Tensor | None = None
    negative_prompt_embeds: torch.Tensor | None = None
    attention_kwargs: Mapping[str, Any] | None = None
    callback_on_step_end: OnStepEnd | None = None
    callback_on_step_end_tensor_inputs: Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Check names and keys."""
        check_callback(self.callback_on_step_end, self.callback_on_step_end_tensor_inputs)
        unknown = set(self.attention_kwargs or ()) - {"scale"}
        if unknown:
            raise InputError(f"attention_kwargs has {sorted(unknown)[0]!r}; 'scale' is all that there is.")

    @classmethod
    def names(cls) -> list[str]:
        """Names of all of these options."""
        return [known.name for known in fields(cls)]

    @property
    def recorded(self) -> dict[str, Any]:
        """Those that change the video, for its record: the scale, and digests of the tensors."""
        tensors = {name: getattr(self, name) for name in ("latents", "prompt_embeds", "negative_prompt_embeds")}
        found: dict[str, Any] = {
            name: short_digest(str(tuple(tensor.shape)), tensor.detach().cpu().float().numpy().tobytes())
            for name, tensor in tensors.items()
            if tensor is not None
        }
        return found | ({"attention_kwargs": {"scale": self.scale}} if self.scale != 1 else {})

    def step_callback(self, pipeline: Any) -> StepCallback | None:
        """What calls `callback_on_step_end`; None: nobody wants to be called."""
        function = self.callback_on_step_end
        if function is None:
            return None
        return StepCallback(pipeline, function, check_callback(function, self.callback_on_step_end_tensor_inputs))

    @property
    def scale(self) -> float:
        """Factor on all loaded adapters."""
        return float((self.attention_kwargs or {}).get("scale", 1.0))

    def texts(self, prompt: str, negative_prompt: str | None) -> tuple[str | torch.Tensor, str | torch.Tensor | None]:
        """What the text embeddings are made of: these texts, or the embeddings that were given for them."""
        given = self.prompt_embeds, self.negative_prompt_embeds
        return prompt if given[0] is None else given[0], negative_prompt if given[1] is None else given[1]

    def check_texts(self, prompt: str, negative_prompt: str | None, text_len: int, channels: int) -> None:
        """Make sure that no text is given twice, and that embeddings fit.

        Args:
            prompt, negative_prompt: as they were given.
            text_len: tokens that a prompt is cut to.
            channels: of the text encoder.

        Raises:
            InputError: if not.
        """
        pairs = (
            ("prompt", prompt, self.prompt_embeds),
            ("negative_prompt", negative_prompt, self.negative_prompt_embeds),
        )
        for name, text, embeds in pairs:
            if embeds is None:
                continue
            if text:
                raise InputError(f"Give either {name} or {name}_embeds, not both.")
            if embeds.ndim != 3 or embeds.shape[0] != 1 or embeds.shape[1] > text_len or embeds.shape[2] != channels:
                raise InputError(
                    f"{name}_embeds is {tuple(embeds.shape)}; it must be (1, up to {text_len} tokens, {channels}), as "
                    "`encode_prompt` returns it."
                )


def split_options(options: Mapping[str, Any]) -> tuple[PythonOptions, dict[str, Any]]:
    """Python's options, and all others as they were given."""
    own = PythonOptions.names()
    return (
        PythonOptions(**{name: value for name, value in options.items() if name in own}),
        {name: value for name, value in options.items() if name not in own},
    )
