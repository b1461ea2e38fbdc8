"""Classifier-free guidance with scales of their own for text and audio, and a strength for every voice.

With the branches n (null text, silence), t (text, silence) and c (text and audio), the guided velocity is

    n + text_scale · (t − n) + audio_scale · M · (c − t),

where M is 1 but inside faces, where it is the person's strength. Equal scales and strengths of 1 leave n and c, the
release's guidance; branches that the sum doesn't need are not computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

Branch = Literal["null", "text", "all"]


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
        """The guidance of one of `steps` steps, counted from 0: this, or outside the interval none but strengths."""
        middle = (step + 0.5) / steps
        if self.interval[0] <= middle <= self.interval[1]:
            return self
        return Guidance(strengths=self.strengths, batched=self.batched)

    def coefficients(self, face_masks: torch.Tensor) -> dict[Branch, torch.Tensor]:
        """What each branch's velocity is multiplied with before all are summed; those without influence are left out.

        Args:
            face_masks: (B, N, f, h, w) on the token grid.

        Returns:
            Tensors that broadcast to velocities (B, channels, f, 2h, 2w).
        """
        loudness = self._loudness(face_masks)
        parts: dict[Branch, torch.Tensor] = {
            "null": torch.as_tensor(1 - self.text_scale, device=face_masks.device),
            "text": self.text_scale - self.audio_scale * loudness,
            "all": self.audio_scale * loudness,
        }
        return {branch: part for branch, part in parts.items() if bool((part != 0).any())}

    def _loudness(self, face_masks: torch.Tensor) -> torch.Tensor:
        if self.strengths is None or all(strength == 1 for strength in self.strengths):
            return face_masks.new_ones(())
        change = torch.as_tensor(self.strengths).to(face_masks) - 1
        tokens = (1 + (face_masks * change.view(1, -1, 1, 1, 1)).sum(1, keepdim=True)).clamp(min=0)
        return tokens.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
