"""Batches for stage 1: single clips, and clips joined side by side so that people learn to keep to their own voice.

Paper section 4; the release's helpers for silent halves and widened boxes. The number of clips in a joined scene is
free, and so is the number of people a model trained on them can drive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from anytalker.conditioning.masks import condition_mask, face_token_masks

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Clip:
    """One person's clip as training sees it, encoded once.

    Attributes:
        latents: (channels, f, h, w) normalised video latents; latent frame 0 is the still picture.
        condition: (channels, f, h, w) latents of the picture as the pipeline gives them to the transformer.
        audio: (4(f-1)+1, window, blocks, channels) audio features, row 0 belongs to the picture.
        face: (3, size, size) pixels of the face crop, normalised as the image encoder wants them.
        picture: (3, size, size) the same for the whole picture.
        box: face box (x, y, width, height) in pixels of the clip, the union over its frames.
    """

    latents: torch.Tensor
    condition: torch.Tensor
    audio: torch.Tensor
    face: torch.Tensor
    picture: torch.Tensor
    box: Box

    def window(self, start: int, length: int) -> Clip:
        """The picture and `length` latent frames from `start` (at least 1) on, with their audio rows."""
        frames = [0, *range(start, start + length)]
        rows = [0, *range(4 * (start - 1) + 1, 4 * (start + length - 1) + 1)]
        return Clip(
            self.latents[:, frames],
            self.condition[:, : length + 1],
            self.audio[rows],
            self.face,
            self.picture,
            self.box,
        )

    def crop(self, row: int, column: int, size: int) -> Clip:
        """The square of `size` latents whose corner is at (row, column)."""
        area = (..., slice(row, row + size), slice(column, column + size))
        box = (self.box[0] - 8 * column, self.box[1] - 8 * row, *self.box[2:])
        return replace(self, latents=self.latents[area], condition=self.condition[area], box=box)

    def silenced(self) -> Clip:
        """The same person holding still without a voice."""
        return Clip(self.condition, self.condition, torch.zeros_like(self.audio), self.face, self.picture, self.box)


@dataclass(frozen=True)
class BatchSettings:
    """How clips become a batch.

    Attributes:
        join: possible numbers of clips side by side, drawn with equal probability for each batch.
        silent_probability: chance that a person of a joined scene is silent.
        audio_dropout: chance that a sample loses all of its audio (for guidance), the face moving all the same.
        text_dropout: chance that a sample gets the empty prompt.
        box_jitter: relative spread of size and place of the boxes, as detectors would differ.
        face_weight: weight of the loss in the lower part of the faces, where lips are; 1 elsewhere.
    """

    join: tuple[int, ...] = (1, 2)
    silent_probability: float = 0.25
    audio_dropout: float = 0.0
    text_dropout: float = 0.1
    box_jitter: float = 0.1
    face_weight: float = 10.0


@dataclass(frozen=True)
class Batch:
    """Tensors of one training step; B samples of N people.

    `latents`, `condition`, `mask` (B, 16 / 16 / 4, f, h, w); `audio` (B, N, F, window, blocks, channels);
    `faces` (B, N, 3, size, size); `pictures` (B, 3, size, size); `face_masks` (B, N, f, h/2, w/2);
    `loss_weights` (B, 1, 1, h, w); `prompts`: B strings.
    """

    latents: torch.Tensor
    condition: torch.Tensor
    mask: torch.Tensor
    audio: torch.Tensor
    faces: torch.Tensor
    pictures: torch.Tensor
    face_masks: torch.Tensor
    loss_weights: torch.Tensor
    prompts: list[str]


PROMPTS = {
    1: ("a person is talking", "someone speaks to the camera", "a talking portrait"),
    2: ("two people are talking", "two people in a conversation", "two persons talk side by side"),
}
MANY_PROMPT = "people are talking"


def make_batch(clips: Sequence[Clip], settings: BatchSettings, rng: np.random.Generator) -> Batch:
    """Join clips into scenes and stack them.

    Args:
        clips: clips of equal size and length. Every clip appears once; clips that don't fill a scene are left out.
        settings: how to join, silence, drop and widen.
        rng: source of every choice.
    """
    people = int(rng.choice(settings.join))
    scenes = [clips[i : i + people] for i in range(0, len(clips) - people + 1, people)]
    samples = [_make_sample(scene, settings, rng) for scene in scenes]
    stacked = {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}
    prompts = []
    for _ in samples:
        choices = PROMPTS.get(people, (MANY_PROMPT,))
        dropped = rng.random() < settings.text_dropout
        prompts.append("" if dropped else str(rng.choice(choices)))
    return Batch(prompts=prompts, **stacked)


def _make_sample(scene: Sequence[Clip], settings: BatchSettings, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    if len(scene) > 1:
        scene = [clip.silenced() if rng.random() < settings.silent_probability else clip for clip in scene]
    latents = torch.cat([clip.latents for clip in scene], dim=-1)
    condition = torch.cat([clip.condition for clip in scene], dim=-1)
    audio = torch.stack([clip.audio for clip in scene])
    if rng.random() < settings.audio_dropout:
        audio = torch.zeros_like(audio)
    _, frames, height, width = latents.shape
    slot = width // len(scene) * 8
    boxes = [(clip.box[0] + slot * i, *clip.box[1:]) for i, clip in enumerate(scene)]
    jittered = [jitter_box(box, settings.box_jitter, (width * 8, height * 8), rng) for box in boxes]
    return {
        "latents": latents.float(),
        "condition": condition.float(),
        "mask": condition_mask(jittered, height * 8, width * 8, frames),
        "audio": audio.float(),
        "faces": torch.stack([clip.face for clip in scene]),
        "pictures": torch.stack([clip.picture for clip in scene]).mean(0),
        "face_masks": face_token_masks(jittered, height * 8, width * 8, frames),
        "loss_weights": lip_weights(boxes, height, width, settings.face_weight)[None, None],
    }


def crop_to_face(clip: Clip, size: int, rng: np.random.Generator) -> Clip:
    """A square of `size` latents at random around the clip's face; the clip itself where it is no larger."""
    height, width = clip.latents.shape[-2:]
    x, y, box_width, box_height = clip.box
    corner = []
    for start, length, limit in ((y, box_height, height), (x, box_width, width)):
        low = max(0, math.ceil((start + length) / 8 - size))
        high = min(limit - size, math.floor(start / 8))
        low, high = min(max(low, 0), limit - size), max(high, 0)
        corner.append(int(rng.integers(min(low, high), max(low, high) + 1)))
    return clip.crop(corner[0], corner[1], size)


def jitter_box(box: Box, spread: float, size: tuple[int, int], rng: np.random.Generator) -> Box:
    """Move and resize a box a little, at random, keeping it inside a picture of `size` (width, height)."""
    x, y, width, height = box
    grow = float(np.exp(rng.normal(0, spread)))
    center_x = x + width / 2 + rng.normal(0, spread / 2) * width
    center_y = y + height / 2 + rng.normal(0, spread / 2) * height
    width, height = width * grow, height * grow
    left, top = max(0.0, center_x - width / 2), max(0.0, center_y - height / 2)
    right, bottom = min(size[0], center_x + width / 2), min(size[1], center_y + height / 2)
    return (round(left), round(top), round(right - left), round(bottom - top))


def lip_weights(boxes: Sequence[Box], height: int, width: int, weight: float) -> torch.Tensor:
    """Weights (height, width) of the loss on the latent grid: `weight` where a lip may be, 1 elsewhere.

    Args:
        boxes: face boxes (x, y, width, height) in pixels, 8 pixels a latent.
        height: rows of the latent grid.
        width: columns of the latent grid.
        weight: value inside the lower half and the middle of each box.
    """
    weights = torch.ones(height, width)
    for x, y, box_width, box_height in boxes:
        left, right = int((x + 0.18 * box_width) // 8), int(np.ceil((x + 0.82 * box_width) / 8))
        top, bottom = int((y + 0.52 * box_height) // 8), int(np.ceil((y + 1.04 * box_height) / 8))
        weights[max(0, top) : bottom, max(0, left) : right] = weight
    return weights
