"""Audio-Face Cross Attention (paper section 3.2; layout A of the release)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention


class AudioFaceCrossAttention(nn.Module):
    """Cross attention of the video to text, picture, and to every person's face and voice with shared weights.

    Args:
        dim: width.
        heads: attention heads.
        eps: of the norms.
    """

    def __init__(self, dim: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.backend = "sparse"
        self.to_q, self.norm_q = nn.Linear(dim, dim), nn.RMSNorm(dim, eps)
        self.to_k, self.norm_k, self.to_v = nn.Linear(dim, dim), nn.RMSNorm(dim, eps), nn.Linear(dim, dim)
        self.add_k_proj, self.norm_added_k, self.add_v_proj = nn.Linear(dim, dim), nn.RMSNorm(dim, eps), nn.Linear(dim, dim)
        self.audio_k_proj, self.norm_audio_k, self.audio_v_proj = (
            nn.Linear(dim, dim), nn.RMSNorm(dim, eps), nn.Linear(dim, dim))
        self.face_k_proj, self.norm_face_k, self.face_v_proj = (
            nn.Linear(dim, dim), nn.RMSNorm(dim, eps), nn.Linear(dim, dim))
        self.to_out = nn.Linear(dim, dim)

    def _split(self, states: torch.Tensor) -> torch.Tensor:
        return states.unflatten(-1, (self.heads, -1)).transpose(-2, -3)

    def forward(
        self,
        hidden_states: torch.Tensor,
        text: torch.Tensor,
        image: torch.Tensor,
        faces: torch.Tensor,
        audio: torch.Tensor,
        face_masks: torch.Tensor,
    ) -> torch.Tensor:
        """Attend.

        Args:
            hidden_states: (B, f·h·w, dim) video tokens.
            text: (B, L, dim).
            image: (B, tokens, dim).
            faces: (B, N, tokens, dim).
            audio: (B, N, F, tokens, dim), F = 4(f-1)+1.
            face_masks: (B, N, f, h, w) in [0, 1].

        Returns:
            (B, f·h·w, dim)
        """
        query = self._split(self.norm_q(self.to_q(hidden_states)))
        attended = scaled_dot_product_attention(
            query, self._split(self.norm_k(self.to_k(text))), self._split(self.to_v(text))
        )
        attended = attended + scaled_dot_product_attention(
            query, self._split(self.norm_added_k(self.add_k_proj(image))), self._split(self.add_v_proj(image))
        )
        face_k = self._split(self.norm_face_k(self.face_k_proj(faces)))
        face_v = self._split(self.face_v_proj(faces))
        audio_k = self._split(self.norm_audio_k(self.audio_k_proj(audio)))
        audio_v = self._split(self.audio_v_proj(audio))
        attended = attended + _by_frame(query, face_k, face_v, audio_k, audio_v, face_masks)
        return self.to_out(attended.transpose(1, 2).flatten(2))


def _by_frame(query, face_k, face_v, audio_k, audio_v, face_masks):
    persons, frames = face_masks.shape[1:3]
    B, H, T, d = query.shape
    query = query.unflatten(2, (frames, -1))[:, None].expand(-1, persons, -1, -1, -1, -1)  # B N H f s d
    tokens = audio_k.shape[4]

    def first(face, audio):
        # audio B N F H tok d
        every = audio.permute(0, 1, 3, 2, 4, 5).flatten(3, 4)
        return torch.cat([face, every], dim=3)

    def later(face, audio):
        grouped = audio[:, :, 1:].unflatten(2, (frames - 1, 4)).permute(0, 1, 2, 4, 3, 5, 6).flatten(4, 5)
        return torch.cat([face[:, :, None].expand(-1, -1, frames - 1, -1, -1, -1), grouped], dim=4)

    one = scaled_dot_product_attention(
        query[:, :, :, 0].flatten(0, 1), first(face_k, audio_k).flatten(0, 1), first(face_v, audio_v).flatten(0, 1)
    ).unflatten(0, (B, persons))[:, :, :, None]
    if frames > 1:
        rest = scaled_dot_product_attention(
            query[:, :, :, 1:].transpose(2, 3).flatten(0, 2),
            later(face_k, audio_k).flatten(0, 2),
            later(face_v, audio_v).flatten(0, 2),
        ).unflatten(0, (B, persons, frames - 1)).transpose(2, 3)
        one = torch.cat([one, rest], dim=3)
    weights = face_masks.flatten(3)[:, :, None, :, :, None].to(one)
    return (one * weights).sum(1).flatten(2, 3)
