"""Audio-Face Cross Attention, AFCA (paper section 3.2; layout A of the release).

The video attends to the text, to the picture, and, once for every person with the same weights, to that person's face
and voice. What a person's face and voice have to say counts only where that person's face mask is.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from anytalker.errors import InputError

Backend = Literal["dense", "sparse"]
FRAMES_PER_LATENT = 4


class PersonKeys(NamedTuple):
    """Keys (or values) of all people: `face` (B, N, heads, tokens, d), `audio` (B, N, F, heads, tokens, d)."""

    face: torch.Tensor
    audio: torch.Tensor

    def of_first_frame(self) -> torch.Tensor:
        """What latent frame 0 attends to, the face and all audio: (B, N, heads, keys, d)."""
        audio = self.audio.transpose(2, 3).flatten(3, 4)
        return torch.cat([self.face, audio], dim=3)

    def of_later_frames(self) -> torch.Tensor:
        """What the later frames attend to, the face and their own four frames' audio: (B, N, f-1, heads, keys, d)."""
        own = self.audio[:, :, 1:].unflatten(2, (-1, FRAMES_PER_LATENT)).transpose(3, 4).flatten(4, 5)
        face = self.face[:, :, None].expand(-1, -1, own.shape[2], -1, -1, -1)
        return torch.cat([face, own], dim=4)


class AudioFaceCrossAttention(nn.Module):
    """Cross attention of the video tokens to text, picture, faces and voices.

    Args:
        dim: width of the tokens.
        heads: attention heads.
        eps: of the root mean square norms.
    """

    def __init__(self, dim: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.backend: Backend = "sparse"
        self.to_q, self.norm_q = nn.Linear(dim, dim), nn.RMSNorm(dim, eps)
        self.to_k, self.norm_k = nn.Linear(dim, dim), nn.RMSNorm(dim, eps)
        self.to_v = nn.Linear(dim, dim)
        self.add_k_proj, self.norm_added_k = nn.Linear(dim, dim), nn.RMSNorm(dim, eps)
        self.add_v_proj = nn.Linear(dim, dim)
        self.audio_k_proj, self.norm_audio_k = nn.Linear(dim, dim), nn.RMSNorm(dim, eps)
        self.audio_v_proj = nn.Linear(dim, dim)
        self.face_k_proj, self.norm_face_k = nn.Linear(dim, dim), nn.RMSNorm(dim, eps)
        self.face_v_proj = nn.Linear(dim, dim)
        self.to_out = nn.Linear(dim, dim)

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
            hidden_states: (B, f·h·w, dim) video tokens, frame by frame.
            text: (B, tokens, dim).
            image: (B, tokens, dim).
            faces: (B, N, tokens, dim).
            audio: (B, N, 4(f-1)+1, tokens, dim).
            face_masks: (B, N, f, h, w) in [0, 1].

        Returns:
            (B, f·h·w, dim), to be added to the hidden states.
        """
        query = self._split_heads(self.norm_q(self.to_q(hidden_states)))
        attended = scaled_dot_product_attention(
            query, self._split_heads(self.norm_k(self.to_k(text))), self._split_heads(self.to_v(text))
        )
        attended = attended + scaled_dot_product_attention(
            query,
            self._split_heads(self.norm_added_k(self.add_k_proj(image))),
            self._split_heads(self.add_v_proj(image)),
        )
        keys = PersonKeys(
            self._split_heads(self.norm_face_k(self.face_k_proj(faces))),
            self._split_heads(self.norm_audio_k(self.audio_k_proj(audio))),
        )
        values = PersonKeys(self._split_heads(self.face_v_proj(faces)), self._split_heads(self.audio_v_proj(audio)))
        attend_people = attend_people_dense if self.backend == "dense" else attend_people_sparse
        attended = attended + attend_people(query, keys, values, face_masks)
        return self.to_out(attended.transpose(1, 2).flatten(2))

    def _split_heads(self, states: torch.Tensor) -> torch.Tensor:
        return states.unflatten(-1, (self.heads, -1)).transpose(-2, -3)


def check_backend(backend: str) -> None:
    """Raise an `InputError` unless `backend` is one of AFCA's."""
    if backend not in get_args(Backend):
        raise InputError(f"audio_face_backend is {backend!r}; it must be one of {', '.join(get_args(Backend))}.")


def attend_people_dense(
    query: torch.Tensor, keys: PersonKeys, values: PersonKeys, face_masks: torch.Tensor
) -> torch.Tensor:
    """AFCA as the paper writes it, the yardstick: all video tokens, one person after another, under a dense mask.

    Args:
        query: (B, heads, f·h·w, d).
        keys: of all people.
        values: of all people.
        face_masks: (B, N, f, h, w).

    Returns:
        (B, heads, f·h·w, d), the sum over people.
    """
    persons, frames = face_masks.shape[1:3]
    face_tokens, audio_frames, audio_tokens = keys.face.shape[3], keys.audio.shape[2], keys.audio.shape[4]
    latent_frame = torch.arange(frames, device=query.device).repeat_interleave(query.shape[2] // frames)
    video_frame = torch.arange(audio_frames, device=query.device).repeat_interleave(audio_tokens)
    heard = (video_frame + FRAMES_PER_LATENT - 1) // FRAMES_PER_LATENT
    visible = (latent_frame[:, None] == heard[None]) | (latent_frame[:, None] == 0)
    visible = torch.cat([visible.new_ones(len(visible), face_tokens), visible], dim=1)
    key, value = keys.of_first_frame(), values.of_first_frame()
    total = torch.zeros_like(query)
    for person in range(persons):
        attended = scaled_dot_product_attention(query, key[:, person], value[:, person], attn_mask=visible)
        total = total + attended * face_masks[:, person].flatten(1)[:, None, :, None].to(attended)
    return total


def attend_people_sparse(
    query: torch.Tensor, keys: PersonKeys, values: PersonKeys, face_masks: torch.Tensor
) -> torch.Tensor:
    """The same numbers as `attend_people_dense` from the work that counts.

    Latent frames become a batch, each with its own audio, so no mask is needed; and only the places that a person's
    mask reaches in any frame are computed. Arguments and result as there.
    """
    _batch, persons, frames = face_masks.shape[:3]
    weights = face_masks.flatten(3).to(query)
    reached = (weights != 0).any(dim=2)
    most = int(reached.sum(dim=-1).max()) if reached.numel() else 0
    if most == 0:
        return torch.zeros_like(query)
    places = reached.int().argsort(dim=-1, descending=True, stable=True)[..., :most]
    grid = query.unflatten(2, (frames, -1)).transpose(1, 2)
    every_place = places[:, :, None, None, :, None].expand(-1, -1, frames, grid.shape[2], -1, grid.shape[-1])
    chosen = grid[:, None].expand(-1, persons, -1, -1, -1, -1).gather(4, every_place)
    attended = _batched_attention(
        chosen[:, :, :1], keys.of_first_frame()[:, :, None], values.of_first_frame()[:, :, None]
    )
    if frames > 1:
        later = _batched_attention(chosen[:, :, 1:], keys.of_later_frames(), values.of_later_frames())
        attended = torch.cat([attended, later], dim=2)
    attended = attended * weights.gather(3, places[:, :, None].expand(-1, -1, frames, -1))[:, :, :, None, :, None]
    total = torch.zeros_like(grid)
    for person in range(persons):
        total = total.scatter_add(3, every_place[:, person], attended[:, person])
    return total.transpose(1, 2).flatten(2, 3)


def _batched_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention over (B, N, frames, heads, tokens, d), everything but heads folded into the batch."""
    folded = scaled_dot_product_attention(query.flatten(0, 2), key.flatten(0, 2), value.flatten(0, 2))
    return folded.unflatten(0, query.shape[:3])
