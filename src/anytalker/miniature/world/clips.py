"""Clips for training the miniature's autoencoder: lively faces and overlapping shapes, cropped at random."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch

from anytalker.miniature.world.backgrounds import draw_shapes
from anytalker.miniature.world.behaviour import talk, wander
from anytalker.miniature.world.scenes import UNSEEN_SEED, Scene


def babble(rng: np.random.Generator, frames: int, fps: float) -> np.ndarray:
    """Made-up visemes (frames, 4) in 0..1: syllables of random length, height and shape, with pauses."""
    visemes = np.zeros((frames, 4), dtype=np.float32)
    frame = 0
    while frame < frames:
        length = int(rng.integers(2, 7) * fps / 24) + 1
        if rng.random() < 0.8:
            bump = np.sin(np.pi * (np.arange(length) + 0.5) / length)
            end = min(frames, frame + length)
            shape = rng.uniform(0, 1, 4) ** (0.7, 1.0, 2.0, 3.0)
            visemes[frame:end, 0] = shape[0] * bump[: end - frame]
            visemes[frame:end, 1:] = shape[1:]
        frame += length
    return visemes


def autoencoder_batches(
    seed: int, frames: int, sizes: Sequence[tuple[int, int]], fps: float = 24.0
) -> Iterator[torch.Tensor]:
    """Endless batches (batch size, 3, frames, crop, crop), float32 in [-1, 1]; (batch size, crop) drawn from `sizes`.

    Four fifths show a face of the drawn world, starting from its neutral picture and going on from any moment of
    speech; the rest are drifting shapes, so that pictures from outside the world survive as well.
    """
    rng = np.random.default_rng([seed, 7])
    while True:
        batch_size, crop = sizes[int(rng.integers(len(sizes)))]
        clips = [
            _face_clip(rng, frames, crop, fps) if rng.random() < 0.8 else _shapes_clip(rng, frames, crop)
            for _ in range(batch_size)
        ]
        pixels = torch.from_numpy(np.stack(clips)).permute(0, 4, 1, 2, 3)
        yield pixels.float().div_(127.5).sub_(1.0).contiguous()


def _face_clip(rng: np.random.Generator, frames: int, crop: int, fps: float) -> np.ndarray:
    height = int(rng.integers(max(104, int(crop / 0.9) + 1), 160))
    scene = Scene.random(1, int(rng.integers(UNSEEN_SEED)), slot_width=float(rng.uniform(0.9, 1.3)))
    moving = talk(babble(rng, frames, fps), fps, rng, scene.gazes[0])
    gaze, turn = wander(frames, 6 * fps, rng, (rng.uniform(-1, 1), rng.uniform(-0.5, 0.5))), rng.normal(0, 0.1, 2)
    for frame, state in enumerate(moving):
        state.gaze = (float(gaze[frame, 0]), float(gaze[frame, 1]))
        state.turn = (float(turn[0]), float(turn[1] * np.sin(0.2 * frame)))
    moving[0] = scene.neutral(0)
    pixels = np.stack(list(scene.render([moving], height)))
    left, top, width, tall = scene.boxes(height)[0]
    x = left + width / 2 - crop / 2 + rng.uniform(-0.35, 0.35) * crop
    y = top + tall * rng.choice([0.35, 0.7]) - crop / 2 + rng.uniform(-0.35, 0.35) * crop
    x = int(np.clip(x, 0, pixels.shape[2] - crop))
    y = int(np.clip(y, 0, pixels.shape[1] - crop))
    return pixels[:, y : y + crop, x : x + crop]


def _shapes_clip(rng: np.random.Generator, frames: int, crop: int) -> np.ndarray:
    margin = crop // 4
    size = (crop + 2 * margin) * 2
    canvas = np.full((size, size, 3), 128, dtype=np.uint8)
    canvas = draw_shapes(rng, canvas, int(rng.integers(50, 250)), (0.02, 0.8))
    canvas = cv2.resize(canvas, (size // 2, size // 2), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        canvas = cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.3, 1.5)))
    drift = rng.normal(0, 0.5, 2) * (rng.random() < 0.6)
    views = []
    for frame in range(frames):
        place = np.array([[1, 0, -margin - drift[0] * frame], [0, 1, -margin - drift[1] * frame]], dtype=np.float32)
        views.append(cv2.warpAffine(canvas, place, (crop, crop), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))
    return np.stack(views)
