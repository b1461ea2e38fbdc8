"""What a user's function sees and may change after each denoising step, in diffusers' manner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from anytalker.denoising.denoiser import DenoisingRun
from anytalker.errors import InputError
from anytalker.pipelines.state import CallState

TENSOR_INPUTS = CallState._callback_tensor_inputs

OnStepEnd = Callable[[Any, int, torch.Tensor, dict[str, Any]], Mapping[str, Any] | None]
"""Called as (pipeline, step, timestep, tensors by name); what it returns of `latents` and the embeddings is used."""


@dataclass(frozen=True)
class StepCallback:
    """Calls a user's function after each step, with the tensors it asked for, and uses what it returns.

    The function may also set `pipeline._guidance_scale`, or `pipeline._interrupt` to end the video there.

    Attributes:
        pipeline: handed to the function.
        function: the user's.
        tensor_inputs: names among `CallState._callback_tensor_inputs`.
    """

    pipeline: Any
    function: OnStepEnd
    tensor_inputs: tuple[str, ...] = ("latents",)

    def __call__(self, run: DenoisingRun) -> None:
        """Call the function for what the run's last step has moved; a step that has moved nothing is passed over."""
        stepped = run.stepped
        if stepped is None:
            return
        conditioning, known = run.conditioning, self.pipeline.guidance_scale
        tensors: dict[str, Callable[[], torch.Tensor]] = {
            "latents": lambda: stepped.latents,
            "pred_original_sample": lambda: stepped.estimate,
            "latent_frames": lambda: torch.tensor(stepped.frames),
            "prompt_embeds": lambda: conditioning.prompt_embeds,
            "negative_prompt_embeds": lambda: conditioning.negative_prompt_embeds,
        }
        given = {name: tensors[name]() for name in self.tensor_inputs}
        self.pipeline._current_timestep = stepped.timestep
        returned = self.function(self.pipeline, stepped.step, stepped.timestep, dict(given)) or {}
        _use_latents(run, given, returned)
        texts = [returned.get(name, getattr(conditioning, name)) for name in TENSOR_INPUTS[3:]]
        if texts[0] is not conditioning.prompt_embeds or texts[1] is not conditioning.negative_prompt_embeds:
            run.change_text(*texts)
        if self.pipeline.guidance_scale != known:
            _use_scale(run, max(1.0, float(self.pipeline.guidance_scale)))


def check_callback(function: Any, tensor_inputs: Sequence[str] | None) -> tuple[str, ...]:
    """The names that a function asks for; those of diffusers' own callbacks are theirs.

    Raises:
        InputError: for a name that is not known.
    """
    own = getattr(function, "tensor_inputs", None)
    names = tuple(own if own is not None else ("latents",) if tensor_inputs is None else tensor_inputs)
    unknown = [name for name in names if name not in TENSOR_INPUTS]
    if unknown:
        raise InputError(
            f"callback_on_step_end_tensor_inputs has {unknown[0]!r}; it has to be among {', '.join(TENSOR_INPUTS)}."
        )
    return names


def _use_latents(run: DenoisingRun, given: Mapping[str, torch.Tensor], returned: Mapping[str, Any]) -> None:
    latents = returned.get("latents", given.get("latents"))  # these, as they may have been changed in place
    if latents is None:
        return
    expected = run.stepped.latents.shape  # type: ignore[union-attr]
    if latents.shape != expected:
        raise InputError(f"The callback returned latents {tuple(latents.shape)}; they must be {tuple(expected)}.")
    run.wavefront.replace(latents)


def _use_scale(run: DenoisingRun, scale: float) -> None:
    guidance = run.denoiser.guidance
    both = guidance.audio_scale == guidance.text_scale
    run.denoiser.guidance = replace(guidance, text_scale=scale, audio_scale=scale if both else guidance.audio_scale)


def step_bar(pipeline: Any) -> Callable[[str, int, int], None]:
    """A function for `on_progress` that shows the denoising steps as the pipeline's progress bar."""
    bars: list[Any] = []

    def report(stage: str, done: int, total: int) -> None:
        if stage != "denoise":
            return
        if not bars:
            bars.append(pipeline.progress_bar(total=total))
        bars[0].update(done - bars[0].n)
        if done == total or pipeline.interrupt:
            bars.pop().close()

    return report
