"""Projections of people's audio features to tokens of the transformer, one for each layout of the release."""

from __future__ import annotations

import torch
from diffusers.models.normalization import FP32LayerNorm
from torch import nn

FRAMES_PER_LATENT = 4


class AudioProjection(nn.Module):
    """Every video frame's window of features becomes `tokens` audio tokens (layout A of the release).

    Args:
        features: values of one row of a window (blocks × channels).
        window: rows of a window.
        hidden_dim: width of the two inner layers.
        tokens: audio tokens a video frame.
        dim: width of a token.
    """

    def __init__(self, features: int, window: int, hidden_dim: int, tokens: int, dim: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.proj1 = nn.Linear(window * features, hidden_dim)
        self.proj2 = nn.Linear(hidden_dim, hidden_dim)
        self.proj3 = nn.Linear(hidden_dim, tokens * dim)
        self.norm = FP32LayerNorm(dim)

    def forward(self, audio_embeds: torch.Tensor) -> torch.Tensor:
        """Project features (B, N, F, window, blocks, channels) to tokens (B, N, F, tokens, dim)."""
        return self._tokens(self.proj1(audio_embeds.flatten(3)))

    def _tokens(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = torch.relu(self.proj2(torch.relu(hidden_states)))
        return self.norm(self.proj3(hidden_states).unflatten(-1, (self.tokens, -1)))


class LatentAudioProjection(AudioProjection):
    """Every latent frame becomes `tokens` audio tokens (layout B of the release).

    Latent frame 0 is made from the window of video frame 0. A later one is made from its four video frames: the first
    one's rows up to the middle, the middle row of the inner ones, and the last one's rows from the middle on.
    Arguments as for `AudioProjection`; `tokens` are those of a latent frame.
    """

    def __init__(self, features: int, window: int, hidden_dim: int, tokens: int, dim: int) -> None:
        super().__init__(features, window, hidden_dim, tokens, dim)
        rows = 2 * (window // 2 + 1) + FRAMES_PER_LATENT - 2
        self.proj1_vf = nn.Linear(rows * features, hidden_dim)

    def forward(self, audio_embeds: torch.Tensor) -> torch.Tensor:
        """Project features (B, N, F, window, blocks, channels) to tokens (B, N, f, tokens, dim), F = 4(f-1)+1."""
        hidden_states = self.proj1(audio_embeds[:, :, :1].flatten(3))
        if audio_embeds.shape[2] > 1:
            middle = audio_embeds.shape[3] // 2
            later = audio_embeds[:, :, 1:].unflatten(2, (-1, FRAMES_PER_LATENT))
            rows = [later[:, :, :, 0, : middle + 1], later[:, :, :, 1:-1, middle], later[:, :, :, -1, middle:]]
            hidden_states = torch.cat([hidden_states, self.proj1_vf(torch.cat(rows, dim=3).flatten(3))], dim=2)
        return self._tokens(hidden_states)
