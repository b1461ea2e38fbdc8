"""Guidance as a component of diffusers' modular pipelines: that of text and voices, and diffusers' own in its place."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.guiders.guider_utils import BaseGuidance, GuiderOutput

from anytalker.denoising.guidance import Branch, Guidance
from anytalker.errors import InputError

BRANCHES: dict[str, Branch] = {"pred_uncond": "null", "pred_text": "text", "pred_cond": "all"}
"""Branches of `Guidance` by diffusers' names of predictions: without both, with the prompt, with the voices too."""
PICTURES = ("MagnitudeAwareGuidance",)
"""Guiders of diffusers that measure predictions of single pictures, without a dimension of frames."""
_PREDICTIONS = {branch: name for name, branch in BRANCHES.items()}


class TextAndVoiceGuidance(BaseGuidance):
    """`Guidance` as a guider of diffusers: separate scales for text and voices, and a strength for every voice.

    Args:
        guidance_scale: pull of the prompt, 1 for none; None: the model's.
        audio_guidance_scale: pull of the voices; None: that of the prompt, as in the release.
        voice_strengths: one factor a person on what the voice does, 0 and up; None: 1 for all.
        batch_guidance: compute all branches in one batch.
        start, stop: shares of the steps between which there is guidance, start below 1.
        enabled: False leaves the voices' strengths alone.
    """

    _input_predictions = ["pred_cond", "pred_uncond", "pred_text"]  # noqa: RUF012 (diffusers' convention)
    voice_fields = ("audio_embeds",)
    """Inputs of the transformer whose second value is silence; that of all others is the negative prompt's."""

    @register_to_config
    def __init__(
        self,
        guidance_scale: float | None = None,
        audio_guidance_scale: float | None = None,
        voice_strengths: tuple[float, ...] | None = None,
        batch_guidance: bool = False,
        start: float = 0.0,
        stop: float = 1.0,
        enabled: bool = True,
    ) -> None:
        super().__init__(start, stop, enabled)
        self.guidance_scale, self.audio_guidance_scale = guidance_scale, audio_guidance_scale
        self.voice_strengths, self.batch_guidance = voice_strengths, batch_guidance
        self._faces: torch.Tensor | None = None
        self._known: dict[Guidance, dict[Branch, torch.Tensor]] = {}

    def see(self, face_masks: torch.Tensor) -> None:
        """Tell where the faces (B, N, f, h, w) on the token grid are, which strengths need."""
        self._faces, self._known = face_masks, {}

    def prepare_inputs(self, data: Mapping[str, Any]) -> list[Any]:
        """A batch for each branch that counts.

        Args:
            data: inputs of the transformer, each one value or (with, without).
        """
        prepared = []
        for branch in self._coefficients():
            quiet, unprompted = branch != "all", branch == "null"
            chosen = {
                name: (
                    value[quiet if name in self.voice_fields else unprompted] if isinstance(value, tuple) else value,
                )
                for name, value in data.items()
            }
            prepared.append(self._prepare_batch(chosen, 0, _PREDICTIONS[branch]))
        return prepared

    def prepare_inputs_from_block_state(self, data: Any, input_fields: Mapping[str, Any]) -> list[Any]:
        """The same with inputs by their names in a block's state."""
        found = {
            name: tuple(getattr(data, one) for one in known) if isinstance(known, tuple) else getattr(data, known)
            for name, known in input_fields.items()
        }
        return self.prepare_inputs(found)

    def forward(
        self,
        pred_cond: torch.Tensor | None = None,
        pred_uncond: torch.Tensor | None = None,
        pred_text: torch.Tensor | None = None,
    ) -> GuiderOutput:
        """The guided velocity from those of the branches, (B, channels, f, 2h, 2w)."""
        given = {"null": pred_uncond, "text": pred_text, "all": pred_cond}
        parts = [part * given[branch] for branch, part in self._coefficients().items()]  # type: ignore[operator]
        guided = torch.zeros_like(parts[0])
        for part in parts:
            guided += part
        return GuiderOutput(pred=guided, pred_cond=pred_cond, pred_uncond=pred_uncond)

    @property
    def is_conditional(self) -> bool:
        """Whether the branch in work is the last one, with prompt and voices."""
        return self._count_prepared == self.num_conditions

    @property
    def num_conditions(self) -> int:
        """Branches that count at this step."""
        return len(self._coefficients())

    def _coefficients(self) -> dict[Branch, torch.Tensor]:
        text = 1.0 if self.guidance_scale is None else self.guidance_scale
        audio = text if self.audio_guidance_scale is None else self.audio_guidance_scale
        strengths = None if self.voice_strengths is None else tuple(self.voice_strengths)
        guidance = Guidance(text, audio, strengths, (self._start, self._stop), self.batch_guidance)
        if not self._enabled:
            guidance = Guidance(strengths=strengths)
        elif self._step is not None:
            guidance = guidance.at_step(self._step, self._num_inference_steps)
        if guidance not in self._known:
            faces = torch.zeros(1, len(strengths or (1,)), 1, 1, 1) if self._faces is None else self._faces
            self._known[guidance] = guidance.coefficients(faces)
        return self._known[guidance]


class GuiderSteps:
    """A guider of diffusers for a video in windows, each of which has a state of its own.

    Args:
        guider: `TextAndVoiceGuidance`, or one of diffusers that combines predictions with and without the conditions.

    Raises:
        InputError: for a guider that needs others, that changes layers, or that is for pictures.
    """

    def __init__(self, guider: Any) -> None:
        if type(guider).__name__ in PICTURES:
            raise InputError(f"{type(guider).__name__} is for pictures, not for videos; use ClassifierFreeGuidance.")
        unknown = set(guider._input_predictions) - set(BRANCHES)
        if unknown or type(guider).prepare_models is not BaseGuidance.prepare_models:
            raise InputError(
                f"{type(guider).__name__} changes layers of the model on the way, which this transformer doesn't "
                "allow; use TextAndVoiceGuidance, ClassifierFreeGuidance or AdaptiveProjectedGuidance."
            )
        self.guider = guider
        self._states: dict[int, Any] = {}

    def at_step(self, step: int, steps: int, timestep: torch.Tensor, number: int, face_masks: torch.Tensor) -> Guided:
        """What to compute for a window at a step.

        Args:
            step: from 0.
            steps: in all.
            timestep: of the sampler.
            number: of the window.
            face_masks: (B, N, f, h, w) of the window.
        """
        guider = self._states.get(number)
        if guider is None:
            guider = self._states[number] = copy.deepcopy(self.guider)
            if hasattr(guider, "see"):
                guider.see(face_masks)
        guider.set_state(step=step, num_inference_steps=steps, timestep=timestep)
        return Guided(guider)

    def forget(self, number: int | None = None) -> None:
        """Drop the state of a window; None: of all."""
        for known in list(self._states) if number is None else [number]:
            self._states.pop(known, None)


class Guided:
    """One step of a guider: the branches that it wants, and what becomes of them."""

    def __init__(self, guider: Any) -> None:
        self._guider, self._wanted = guider, guider.prepare_inputs({})
        self.batched = bool(getattr(guider, "batch_guidance", False))

    @property
    def branches(self) -> tuple[Branch, ...]:
        """In the order in which they are computed."""
        return tuple(BRANCHES[getattr(one, BaseGuidance._identifier_key)] for one in self._wanted)

    def combine(self, velocities: Mapping[Branch, torch.Tensor]) -> torch.Tensor:
        """The guided velocity from those of the branches, each (B, channels, f, h, w)."""
        for one, branch in zip(self._wanted, self.branches, strict=True):
            one.noise_pred = velocities[branch]
        return self._guider(self._wanted)[0]
