"""Projection of people's audio features to tokens of the transformer."""

from __future__ import annotations

import torch
from torch import nn


class AudioProjection(nn.Module):
    """Every video frame's window of features becomes `tokens` audio tokens (layout A of the release).

    Args:
        features: values in a window (window × blocks × channels).
        hidden_dim: width of the two inner layers.
        tokens: audio tokens a video frame.
        dim: width of a token.
    """

    def __init__(self, features: int, hidden_dim: int, tokens: int, dim: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.proj1 = nn.Linear(features, hidden_dim)
        self.proj2 = nn.Linear(hidden_dim, hidden_dim)
        self.proj3 = nn.Linear(hidden_dim, tokens * dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, audio_embeds: torch.Tensor) -> torch.Tensor:
        """Project features (B, N, F, window, blocks, channels) to tokens (B, N, F, tokens, dim)."""
        hidden_states = torch.relu(self.proj1(audio_embeds.flatten(3)))
        hidden_states = torch.relu(self.proj2(hidden_states))
        return self.norm(self.proj3(hidden_states).unflatten(-1, (self.tokens, -1)))
