"""Classifier-free guidance with separate scales for text and audio, and a strength for every voice.

Up to three branches are computed at every step. They differ in text and audio alone, see `branch_inputs`:

    null    negative prompt, zero audio features
    text    prompt, zero audio features
    all     prompt, audio features

`Guidance.coefficients` says how much of each goes into the guided velocity,

    null + text_scale · (text − null) + audio_scale · M · (all − text),

where M is 1 outside of faces, and inside the person's strength. With equal scales and strengths of 1, "text" cancels
out, and what is left is the release's guidance. Branches with coefficient 0 are not computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

Branch = Literal["null", "text", "all"]


def branch_inputs(
    branch: Branch,
    prompt_embeds: torch.Tensor,
    negative_prompt_embeds: torch.Tensor,
    audio_embeds: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Text and audio embeddings of a branch; picture, faces and masks are the same for all branches."""
    text = negative_prompt_embeds if branch == "null" else prompt_embeds
    audio = audio_embeds if branch == "all" else torch.zeros_like(audio_embeds)
    return text, audio


class StepGuidance(Protocol):
    """What guidance wants of the transformer at a step of a window, and makes of it."""

    @property
    def batched(self) -> bool:
        """Whether all branches are computed in one batch."""

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Branches to compute, in order."""

    def combine(self, velocities: Mapping[Branch, torch.Tensor]) -> torch.Tensor:
        """The guided velocity from those of the branches, each (B, channels, f, h, w)."""


@dataclass(frozen=True)
class Weighed:
    """Branches added up with the coefficients of `Guidance.coefficients`."""

    coefficients: Mapping[Branch, torch.Tensor]
    batched: bool

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Those that count."""
        return tuple(self.coefficients)

    def combine(self, velocities: Mapping[Branch, torch.Tensor]) -> torch.Tensor:
        """Their sum."""
        total = torch.zeros_like(next(iter(velocities.values())))
        for branch, part in self.coefficients.items():
            total += part * velocities[branch]
        return total


@dataclass(frozen=True)
class Guidance:
    """How far a video is pushed towards its text and its voices.

    Attributes:
        text_scale: 1 for none.
        audio_scale: 1 for none; the release has one scale for both.
        strengths: one factor a person on what the voice does, 0 (quiet) and up; None: 1 for all.
        interval: shares of the steps, from 0 (the first) to 1 (the last), between which there is guidance.
        batched: compute all branches in one batch, faster on a GPU with room for it.
    """

    text_scale: float = 1.0
    audio_scale: float = 1.0
    strengths: tuple[float, ...] | None = None
    interval: tuple[float, float] = (0.0, 1.0)
    batched: bool = False

    def at_step(self, step: int, steps: int) -> Guidance:
        """Guidance at a step, counted from 0, of `steps`: this one, or outside of the interval the strengths alone."""
        middle = (step + 0.5) / steps
        if self.interval[0] <= middle <= self.interval[1]:
            return self
        return Guidance(strengths=self.strengths, batched=self.batched)

    def coefficients(self, face_masks: torch.Tensor) -> dict[Branch, torch.Tensor]:
        """The factor of each branch's velocity in the guided velocity; branches with factor 0 are left out.

        Args:
            face_masks: (B, N, f, h, w) on the token grid.

        Returns:
            Tensors that broadcast to velocities (B, channels, f, 2h, 2w).
        """
        strength = self._strength_map(face_masks)
        parts: dict[Branch, torch.Tensor] = {
            "null": torch.as_tensor(1 - self.text_scale, device=face_masks.device),
            "text": self.text_scale - self.audio_scale * strength,
            "all": self.audio_scale * strength,
        }
        return {branch: part for branch, part in parts.items() if bool((part != 0).any())}

    def _strength_map(self, face_masks: torch.Tensor) -> torch.Tensor:
        if self.strengths is None or all(strength == 1 for strength in self.strengths):
            return face_masks.new_ones(())
        change = torch.as_tensor(self.strengths).to(face_masks) - 1
        tokens = (1 + (face_masks * change.view(1, -1, 1, 1, 1)).sum(1, keepdim=True)).clamp(min=0)
        return tokens.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
