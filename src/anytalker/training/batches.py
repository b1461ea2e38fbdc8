"""Batches: clips alone, and clips joined side by side so that people learn to keep to their own voice.

Paper section 4; the release's helpers for silent halves and widened boxes. The number of clips in a joined scene is
free, and so is the number of people a model trained on them can drive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch.nn import functional

from anytalker.conditioning.masks import condition_mask, face_token_masks
from anytalker.conventions import Box
from anytalker.data.encoding import Clip, Seen
from anytalker.training.config import BatchConfig

SeenOrClip = TypeVar("SeenOrClip", bound=Seen)
PROMPTS = {
    1: ("a person is talking", "someone speaks to the camera", "a talking portrait"),
    2: ("two people are talking", "two people in a conversation", "two persons talk side by side"),
}
MANY_PROMPTS = ("people are talking", "a group of people in a conversation")
GENERIC_PROMPTS = (*PROMPTS[1], *PROMPTS[2], *MANY_PROMPTS)
"""All that `generic_prompts` may return."""


@dataclass(frozen=True)
class Batch:
    """Tensors of one group of scenes; B scenes of N people.

    `latents`, `condition`, `mask` (B, 16 / 16 / 4, f, h, w); `audio` (B, N, F, window, blocks, channels);
    `faces` (B, N, 3, size, size); `pictures` (B, 3, size, size); `face_masks` (B, N, f, h/2, w/2);
    `loss_weights` (B, 1, 1, h, w); `prompts`: for each scene a string, or the (L, channels) embedding of its caption.
    """

    latents: torch.Tensor
    condition: torch.Tensor
    mask: torch.Tensor
    audio: torch.Tensor
    faces: torch.Tensor
    pictures: torch.Tensor
    face_masks: torch.Tensor
    loss_weights: torch.Tensor
    prompts: list[str | torch.Tensor]

    def to(self, device: torch.device) -> Batch:
        """The same with all tensors but the captions on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same with all tensors but the captions in memory that accelerators copy from without waiting."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        changed: dict[str, Any] = {f.name: change(getattr(self, f.name)) for f in fields(self) if f.name != "prompts"}
        return replace(self, **changed)


def generic_prompts(people: int) -> tuple[str, ...]:
    """The generic prompts of a scene of that many people, used where clips were joined (paper)."""
    return PROMPTS.get(people, MANY_PROMPTS)


def window_of(clip: Clip, start: int, length: int) -> Clip:
    """The picture and `length` latent frames from `start` (at least 1) on, with their audio rows."""
    frames = [0, *range(start, start + length)]
    rows = [0, *range(4 * (start - 1) + 1, 4 * (start + length - 1) + 1)]

    def cut(seen: SeenOrClip) -> SeenOrClip:
        return replace(seen, latents=seen.latents[:, frames], condition=seen.condition[:, : length + 1])

    return replace(cut(clip), silent=cut(clip.silent), audio=clip.audio[:, rows], silence=clip.silence[rows])


def crop_of(clip: Clip, row: int, column: int, size: tuple[int, int]) -> Clip:
    """The rectangle of `size` (rows, columns) in latents whose corner is at (row, column)."""
    area = (..., slice(row, row + size[0]), slice(column, column + size[1]))
    boxes = tuple((x - 8 * column, y - 8 * row, width, height) for x, y, width, height in clip.boxes)
    rows, columns = clip.latents.shape[-2:]
    share = (row / rows, column / columns, size[0] / rows, size[1] / columns)

    def cut(seen: SeenOrClip) -> SeenOrClip:
        picture = _crop_picture(seen.picture, share)
        return replace(seen, latents=seen.latents[area], condition=seen.condition[area], picture=picture)

    return replace(cut(clip), silent=cut(clip.silent), boxes=boxes)


def _crop_picture(picture: torch.Tensor, area: tuple[float, float, float, float]) -> torch.Tensor:
    """The `area` (top, left, height, width, as shares) of a squashed picture (3, size, size), squashed again."""
    size = picture.shape[-1]
    steps = (torch.arange(size) + 0.5) / size
    top, left, height, width = area
    rows, columns = torch.meshgrid(2 * (top + height * steps) - 1, 2 * (left + width * steps) - 1, indexing="ij")
    grid = torch.stack([columns, rows], dim=-1)
    return functional.grid_sample(picture[None], grid[None], "bicubic", "border", align_corners=False)[0]


def join_pictures(pictures: Sequence[torch.Tensor]) -> torch.Tensor:
    """Pictures (3, size, size) side by side in one, squashed to (3, size, size) as the image encoder sees any scene."""
    if len(pictures) == 1:
        return pictures[0]
    size = pictures[0].shape[-1]
    edges = [round(size * number / len(pictures)) for number in range(len(pictures) + 1)]
    narrow = [
        functional.interpolate(picture[None], (size, right - left), mode="bicubic", align_corners=False)[0]
        for picture, left, right in zip(pictures, edges[:-1], edges[1:], strict=True)
    ]
    return torch.cat(narrow, dim=-1)


def silenced(clip: Clip) -> Clip:
    """The same people keeping silent, heard as the model hears those who only listen."""
    return replace(clip, **vars(clip.silent), audio=clip.silence.expand_as(clip.audio))


def make_batch(clips: Sequence[Clip], people: int, config: BatchConfig, rng: np.random.Generator) -> Batch:
    """Join clips into scenes and stack them.

    Args:
        clips: clips of equal size, length and number of people. With `people` over 1 every clip is the first of a
            scene once, joined with the next ones of the list, around its end (paper): the batch keeps its size.
        people: clips side by side in a scene.
        config: how to silence, drop and widen.
        rng: source of every choice.
    """
    scenes = [[clips[(i + k) % len(clips)] for k in range(people)] for i in range(len(clips))]
    if config.join_once:
        scenes = scenes[: len(clips) - people + 1 : people]
    samples = [_make_sample(scene, config, rng) for scene in scenes]
    stacked = {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}
    prompts = [_prompt(scene, config, rng) for scene in scenes]
    return Batch(prompts=prompts, **stacked)


def _prompt(scene: Sequence[Clip], config: BatchConfig, rng: np.random.Generator) -> str | torch.Tensor:
    chance, choice = rng.random(), rng.random()
    caption = scene[0].text_embeds
    if chance < config.text_dropout:
        return ""
    if len(scene) == 1 and caption is not None:
        return caption
    known = generic_prompts(sum(len(clip.boxes) for clip in scene))
    return known[int(choice * len(known))]


def _make_sample(scene: Sequence[Clip], config: BatchConfig, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    if len(scene) > 1:
        chances = rng.random(len(scene))
        scene = [
            silenced(clip) if chance < config.silent_probability and (clip.pauses or config.silent_stills) else clip
            for clip, chance in zip(scene, chances, strict=True)
        ]
    latents = torch.cat([clip.latents for clip in scene], dim=-1)
    condition = torch.cat([clip.condition for clip in scene], dim=-1)
    audio = torch.cat([clip.audio for clip in scene])
    if rng.random() < config.audio_dropout:
        audio = torch.zeros_like(audio)
    _, frames, height, width = latents.shape
    slot = width // len(scene) * 8
    boxes = [(x + slot * i, y, w, h) for i, clip in enumerate(scene) for x, y, w, h in clip.boxes]
    widened = [widen_box(box, config, (width * 8, height * 8), rng) for box in boxes]
    return {
        "latents": latents,
        "condition": condition,
        "mask": condition_mask(widened, height * 8, width * 8, frames),
        "audio": audio,
        "faces": torch.cat([clip.faces for clip in scene]),
        "pictures": join_pictures([clip.picture for clip in scene]),
        "face_masks": face_token_masks(widened, height * 8, width * 8, frames),
        "loss_weights": face_weights(boxes, (height, width), config.lip_weight, config.eye_weight)[None, None],
    }


def crop_to_faces(clip: Clip, size: int, rng: np.random.Generator) -> Clip:
    """What is around the faces of a clip, cut out at random; the clip itself where it is no larger.

    Args:
        clip: any clip.
        size: rows of the result, in latents. A lone person gets a square. Where there are several, as many columns are
            left out as rows, so that clips of one size stay of one size, however far apart their people are.
        rng: source of the place. A face that is larger than the result is cut.
    """
    height, width = clip.latents.shape[-2:]
    columns = size if len(clip.boxes) == 1 else max(size, width - max(0, height - size))
    wanted = (min(size, height), min(columns, width))
    if wanted == (height, width):
        return clip
    left, top = (min(box[axis] for box in clip.boxes) for axis in (0, 1))
    right, bottom = (max(box[axis] + box[axis + 2] for box in clip.boxes) for axis in (0, 1))
    corner = []
    for start, end, length, limit in ((top, bottom, wanted[0], height), (left, right, wanted[1], width)):
        low = max(0, math.ceil(end / 8 - length))
        high = min(limit - length, math.floor(start / 8))
        low, high = min(low, limit - length), max(high, 0)
        corner.append(int(rng.integers(min(low, high), max(low, high) + 1)))
    return crop_of(clip, corner[0], corner[1], wanted)


def widen_box(box: Box, config: BatchConfig, size: tuple[int, int], rng: np.random.Generator) -> Box:
    """Widen a box at random, as moving faces need, and jitter it, as detectors do; inside `size` (width, height)."""
    x, y, width, height = box
    grow = float(np.exp(rng.normal(0, config.box_jitter)))
    center_x = x + width / 2 + rng.normal(0, config.box_jitter / 2) * width
    center_y = y + height / 2 + rng.normal(0, config.box_jitter / 2) * height
    center_x, center_y = min(max(center_x, 0.0), size[0]), min(max(center_y, 0.0), size[1])
    wide, tall = rng.uniform(*config.box_wide), rng.uniform(*config.box_tall)
    if rng.random() >= config.widen_probability:
        wide = tall = 1.0
    width, height = width * grow * wide, height * grow * tall
    left, top = max(0.0, center_x - width / 2), max(0.0, center_y - height / 2)
    right, bottom = min(size[0], center_x + width / 2), min(size[1], center_y + height / 2)
    return (round(left), round(top), round(right - left), round(bottom - top))


def face_weights(boxes: Sequence[Box], size: tuple[int, int], lip_weight: float, eye_weight: float) -> torch.Tensor:
    """Weights (height, width) of the loss on the latent grid, larger where a face says most.

    Args:
        boxes: face boxes (x, y, width, height) in pixels, 8 pixels a latent.
        size: rows and columns of the latent grid.
        lip_weight: weight in the lower half and the middle of each box; 1 is the paper's loss.
        eye_weight: weight of the band above it, where the eyes are.
    """
    weights = torch.ones(size)
    for x, y, width, height in boxes:
        for weight, (side, top, bottom) in ((eye_weight, (0.08, 0.12, 0.5)), (lip_weight, (0.18, 0.52, 1.04))):
            rows = slice(max(0, int((y + top * height) // 8)), max(0, int(np.ceil((y + bottom * height) / 8))))
            columns = slice(max(0, int((x + side * width) // 8)), max(0, int(np.ceil((x + (1 - side) * width) / 8))))
            weights[rows, columns] = weight
    return weights
