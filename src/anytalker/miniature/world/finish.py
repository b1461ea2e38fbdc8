"""What tells a photograph from a drawing: smaller features, soft light on faces, texture, grading and blur."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from anytalker.conventions import Box
from anytalker.miniature.world.people import Person

_TEXTURES = ((0.006, 0.5), (0.018, 0.35), (0.05, 0.25))
"""Size in units of the height, and share, of the noise that textures are mixed from."""
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def lifelike(person: Person, rng: np.random.Generator) -> Person:
    """The same person with eyes and a mouth as small as those of photographs."""
    return replace(
        person,
        eye_size=float(rng.uniform(0.14, 0.22)),
        mouth_width=float(rng.uniform(0.28, 0.42)),
        mouth_drop=float(rng.uniform(0.34, 0.5)),
    )


def finish(frames: np.ndarray, boxes: Sequence[Box], rng: np.random.Generator) -> np.ndarray:
    """Make a clip look less drawn; what is laid over it stands still, so nothing that moves is changed.

    Args:
        frames: uint8 (T, H, W, 3).
        boxes: a face box (x, y, width, height) in pixels for each person.
        rng: how strong everything is, and where.

    Returns:
        uint8 (T, H, W, 3).
    """
    size = frames.shape[1:3]
    gain = _light(rng, size) * _texture(rng, size)
    for box in boxes:
        gain *= _round(rng, size, box)
    gamma, contrast = rng.uniform(0.75, 1.35), rng.uniform(0.75, 1.1)
    saturation, tint = rng.uniform(0.55, 1.1), rng.normal(0, 0.03, 3).astype(np.float32)
    middle, blur = rng.uniform(0.4, 0.55), float(rng.uniform(0, 0.005)) * size[0]
    result = np.empty_like(frames)
    for number, frame in enumerate(frames):
        lit = np.clip(frame.astype(np.float32) / 255 * gain[..., None], 0, 1) ** gamma
        grey = (lit @ _LUMA)[..., None]
        graded = (grey + (lit - grey) * saturation - middle) * contrast + middle + tint
        if blur > 0.15:
            graded = cv2.GaussianBlur(graded, (0, 0), blur)
        result[number] = np.clip(graded * 255, 0, 255).round().astype(np.uint8)
    return result


def _noise(rng: np.random.Generator, size: tuple[int, int], grain: float) -> np.ndarray:
    """Smooth noise (H, W) of deviation 1 whose spots are about `grain` times the height."""
    height, width = size
    cells = max(2, round(1 / grain)), max(2, round(width / height / grain))
    drawn = rng.normal(0, 1, cells).astype(np.float32)
    return cv2.resize(drawn, (width, height), interpolation=cv2.INTER_CUBIC)


def _light(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return np.exp(rng.uniform(0, 0.25) * np.clip(_noise(rng, size, 0.5), -2, 1)).astype(np.float32)


def _texture(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    strength = rng.uniform(0, 0.12)
    mixed = sum(share * _noise(rng, size, grain) for grain, share in _TEXTURES)
    return np.clip(1 + strength * mixed, 0.5, 1.5)


def _round(rng: np.random.Generator, size: tuple[int, int], box: Box) -> np.ndarray:
    """Light that falls on a ball where the face is: brighter towards it, darker at the rim."""
    x, y, width, height = box
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    across, down = (columns - x - width / 2) / (0.6 * width), (rows - y - 0.4 * height) / (0.75 * height)
    distance = np.hypot(across, down)
    inside = np.clip((1.15 - distance) / 0.3, 0, 1)
    angle, strength, rim = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.45), rng.uniform(0, 0.25)
    shade = strength * (across * np.cos(angle) + down * np.sin(angle)) - rim * distance**2
    return np.exp(inside * np.clip(shade, -0.8, 0.15)).astype(np.float32)
