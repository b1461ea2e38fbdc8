"""Audio-Face Cross Attention, AFCA (paper section 3.2; both layouts of the release).

The video attends to the text, to the picture, and, once for every person with the same weights, to that person's face
and voice. The attention to a person is multiplied by that person's face mask.

In layout A (the 1.3B) text, picture and people share one query, and latent frame 0 attends to all audio of a person. In
layout B (the 14B) people have a second cross attention, and every latent frame attends to its own audio alone.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import nn
from torch.nn import functional

from anytalker.errors import InputError
from anytalker.models.face_regions import FaceRegions

Backend = Literal["dense", "sparse"]
Pair = tuple[torch.Tensor, torch.Tensor]
"""Keys and values, both (…, heads, tokens, d)."""


class Streams(NamedTuple):
    """What the video attends to, as tokens.

    `text` and `image` (B, tokens, dim); `faces` (B, N, tokens, dim); `audio` (B, N, groups, tokens, width), a group of
    audio tokens a video frame (layout A) or a latent frame (layout B).
    """

    text: torch.Tensor
    image: torch.Tensor
    faces: torch.Tensor
    audio: torch.Tensor


class PeopleKeys(NamedTuple):
    """Keys and values of all people's faces (B, N, heads, tokens, d) and voices (B, N, groups, heads, tokens, d).

    Latent frame 0 attends to group 0, or to all groups if `first_hears_all`; the later latent frames share the other
    groups evenly.
    """

    face: Pair
    audio: Pair
    first_hears_all: bool

    def of_first_frame(self, person: int) -> Pair:
        """What latent frame 0 attends to: keys and values (B, heads, tokens, d)."""

        def join(face: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
            groups = audio[:, person] if self.first_hears_all else audio[:, person, :1]
            return torch.cat([face[:, person], groups.transpose(1, 2).flatten(2, 3)], dim=2)

        return join(self.face[0], self.audio[0]), join(self.face[1], self.audio[1])

    def of_later_frames(self, person: int, frames: int) -> Pair:
        """What `frames` later latent frames attend to: keys and values (B·frames, heads, tokens, d)."""

        def join(face: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
            own = audio[:, person, 1:].unflatten(1, (frames, -1)).transpose(2, 3).flatten(3, 4)
            every = face[:, person, None].expand(-1, frames, -1, -1, -1)
            return torch.cat([every, own], dim=3).flatten(0, 1)

        return join(self.face[0], self.audio[0]), join(self.face[1], self.audio[1])


class BlockContext(NamedTuple):
    """Keys and values of one block, which no denoising step changes."""

    text: Pair
    image: Pair
    people: PeopleKeys


class TextImageCrossAttention(nn.Module):
    """Cross attention of the video tokens to text and picture, as in Wan's image-to-video model.

    Args:
        dim: width of the tokens.
        heads: attention heads.
        eps: of the root mean square norms.
        text_sees_image: put the image tokens in front of the text's, too (layout B of the release).
    """

    def __init__(self, dim: int, heads: int, eps: float, text_sees_image: bool = False) -> None:
        super().__init__()
        self.heads, self.text_sees_image = heads, text_sees_image
        self.to_q, self.norm_q = nn.Linear(dim, dim), nn.RMSNorm(dim, eps)
        self.to_k, self.norm_k = nn.Linear(dim, dim), nn.RMSNorm(dim, eps)
        self.to_v = nn.Linear(dim, dim)
        self.add_k_proj, self.norm_added_k = nn.Linear(dim, dim), nn.RMSNorm(dim, eps)
        self.add_v_proj = nn.Linear(dim, dim)
        self.to_out = nn.Linear(dim, dim)

    def text_and_image(self, streams: Streams) -> tuple[Pair, Pair]:
        """Keys and values of text and picture."""
        text, image = streams.text, streams.image
        if self.text_sees_image:
            text = torch.cat([image, text], dim=1)
        return (
            self._pair(self.norm_k(self.to_k(text)), self.to_v(text)),
            self._pair(self.norm_added_k(self.add_k_proj(image)), self.add_v_proj(image)),
        )

    def _pair(self, keys: torch.Tensor, values: torch.Tensor) -> Pair:
        return split_heads(keys, self.heads), split_heads(values, self.heads)

    def query(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Queries (B, tokens, dim) of the video tokens."""
        return self.norm_q(self.to_q(hidden_states))

    def attend(self, query: torch.Tensor, text: Pair, image: Pair) -> torch.Tensor:
        """Attend from (B, tokens, dim) to text and picture; the sum (B, tokens, dim), not projected yet."""
        split = split_heads(query, self.heads)
        from_text = functional.scaled_dot_product_attention(split, *text)
        return merge_heads(from_text + functional.scaled_dot_product_attention(split, *image))

    def forward(self, hidden_states: torch.Tensor, context: BlockContext) -> torch.Tensor:
        """What text and picture add to the hidden states (B, tokens, dim)."""
        return self.to_out(self.attend(self.query(hidden_states), context.text, context.image))


class AudioFaceCrossAttention(TextImageCrossAttention):
    """Cross attention of the video tokens to text, picture, faces and voices (layout A). Arguments as for its base."""

    def __init__(self, dim: int, heads: int, eps: float) -> None:
        super().__init__(dim, heads, eps)
        self.backend: Backend = "sparse"
        self.audio_k_proj, self.norm_audio_k = nn.Linear(dim, dim), nn.RMSNorm(dim, eps)
        self.audio_v_proj = nn.Linear(dim, dim)
        self.face_k_proj, self.norm_face_k = nn.Linear(dim, dim), nn.RMSNorm(dim, eps)
        self.face_v_proj = nn.Linear(dim, dim)

    def context(self, streams: Streams) -> BlockContext:
        """Keys and values of everything."""
        face_keys = self.norm_face_k(self.face_k_proj(streams.faces))
        audio_keys = self.norm_audio_k(self.audio_k_proj(streams.audio))
        people = PeopleKeys(
            self._pair(face_keys, self.face_v_proj(streams.faces)),
            self._pair(audio_keys, self.audio_v_proj(streams.audio)),
            first_hears_all=True,
        )
        return BlockContext(*self.text_and_image(streams), people)

    def forward(  # type: ignore[override]
        self, hidden_states: torch.Tensor, context: BlockContext, regions: FaceRegions
    ) -> torch.Tensor:
        """What text, picture and people add to the hidden states (B, f·h·w, dim)."""
        query = self.query(hidden_states)
        attended = self.attend(query, context.text, context.image)
        if self.backend == "dense":
            attended = attended + attend_people_dense(query, context.people, regions, self.heads)
        else:
            for person in regions.people:
                spoken = attend_person(regions.gather(query, person), context.people, person, self.heads)
                attended = regions.add_(attended, spoken, person)
        return self.to_out(attended)


class PeopleCrossAttention(nn.Module):
    """Cross attention of the video tokens to faces and voices alone (layout B).

    Args:
        dim: width of the tokens.
        heads: attention heads.
        audio_dim: width of the audio tokens.
    """

    def __init__(self, dim: int, heads: int, audio_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.backend: Backend = "sparse"
        self.to_q = nn.Linear(dim, dim)
        self.audio_kv_proj = nn.Linear(audio_dim, 2 * dim)
        self.face_k_proj, self.face_v_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.to_out = nn.Linear(dim, dim)

    def people(self, streams: Streams) -> PeopleKeys:
        """Keys and values of all people; few face tokens are repeated up to the number of audio tokens (release)."""
        faces, audio_tokens = streams.faces, streams.audio.shape[3]
        if audio_tokens > faces.shape[2]:
            faces = faces.repeat(1, 1, -(-audio_tokens // faces.shape[2]), 1)[:, :, :audio_tokens]
        audio_keys, audio_values = self.audio_kv_proj(streams.audio).chunk(2, dim=-1)
        return PeopleKeys(
            (split_heads(self.face_k_proj(faces), self.heads), split_heads(self.face_v_proj(faces), self.heads)),
            (split_heads(audio_keys, self.heads), split_heads(audio_values, self.heads)),
            first_hears_all=False,
        )

    def forward(
        self, hidden_states: torch.Tensor, norm: nn.Module, people: PeopleKeys, regions: FaceRegions
    ) -> torch.Tensor:
        """The hidden states (B, f·h·w, dim) plus the attention to people; `norm` is applied to the queries."""
        if self.backend == "dense":
            query = self.to_q(norm(hidden_states).to(people.face[1].dtype))
            return hidden_states + self.to_out(attend_people_dense(query, people, regions, self.heads))
        total = hidden_states + self.to_out.bias
        for person in regions.people:
            query = self.to_q(norm(regions.gather(hidden_states, person)).to(people.face[1].dtype))
            spoken = attend_person(query, people, person, self.heads)
            total = regions.add_(total, spoken, person, self.to_out.weight)
        return total


def attend_person(query: torch.Tensor, people: PeopleKeys, person: int, heads: int) -> torch.Tensor:
    """Attention of one person's places to that person's face and voice, each latent frame with its own audio.

    Args:
        query: (B, f, places, dim).
        people: keys and values.
        person: index.
        heads: attention heads.

    Returns:
        (B, f, places, dim).
    """
    frames = query.shape[1]
    first = functional.scaled_dot_product_attention(split_heads(query[:, 0], heads), *people.of_first_frame(person))
    attended = merge_heads(first)[:, None]
    if frames == 1:
        return attended
    folded = split_heads(query[:, 1:].flatten(0, 1), heads)
    later = functional.scaled_dot_product_attention(folded, *people.of_later_frames(person, frames - 1))
    return torch.cat([attended, merge_heads(later).unflatten(0, (-1, frames - 1))], dim=1)


def attend_people_dense(query: torch.Tensor, people: PeopleKeys, regions: FaceRegions, heads: int) -> torch.Tensor:
    """AFCA as in the paper, the reference: all video tokens, one person after another, under a dense mask.

    Args:
        query: (B, f·h·w, dim).
        people: keys and values.
        regions: whose `face_masks` (B, N, f, h, w) weigh the result.
        heads: attention heads.

    Returns:
        (B, f·h·w, dim), the sum over people.
    """
    face_masks = regions.face_masks
    count, frames = face_masks.shape[1:3]
    face_tokens, groups, audio_tokens = people.face[0].shape[3], *people.audio[0].shape[2:5:2]
    latent_frame = torch.arange(frames, device=query.device).repeat_interleave(query.shape[1] // frames)
    share = (groups - 1) // max(1, frames - 1) or 1
    heard = (torch.arange(groups, device=query.device) + share - 1) // share
    visible = latent_frame[:, None] == heard.repeat_interleave(audio_tokens)[None]
    if people.first_hears_all:
        visible = visible | (latent_frame[:, None] == 0)
    visible = torch.cat([visible.new_ones(len(visible), face_tokens), visible], dim=1)
    split, total = split_heads(query, heads), torch.zeros_like(query)
    for person in range(count):
        key, value = (
            torch.cat([face[:, person], audio[:, person].transpose(1, 2).flatten(2, 3)], dim=2)
            for face, audio in zip(people.face, people.audio, strict=True)
        )
        attended = merge_heads(functional.scaled_dot_product_attention(split, key, value, attn_mask=visible))
        total = total + attended * face_masks[:, person].flatten(1)[..., None].to(attended)
    return total


def split_heads(states: torch.Tensor, heads: int) -> torch.Tensor:
    """(…, tokens, dim) to (…, heads, tokens, d)."""
    return states.unflatten(-1, (heads, -1)).transpose(-2, -3)


def merge_heads(states: torch.Tensor) -> torch.Tensor:
    """(…, heads, tokens, d) to (…, tokens, dim)."""
    return states.transpose(-2, -3).flatten(-2)


def check_backend(backend: str) -> None:
    """Raise an `InputError` unless `backend` is one of AFCA's."""
    if backend not in get_args(Backend):
        raise InputError(f"audio_face_backend is {backend!r}; it must be one of {', '.join(get_args(Backend))}.")
