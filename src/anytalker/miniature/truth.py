"""Reads the state of a known drawn face back from pixels: the truth that generated videos are held against.

People of the drawn world are known exactly, so a frame can be compared with renders of the same person in many states;
the closest render tells how far the mouth is open and where the eyes look. Nothing is learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from anytalker.miniature.behaviour import LOOK_TURN
from anytalker.miniature.drawing import EYE_Y, mouth_center
from anytalker.miniature.people import FaceState
from anytalker.miniature.scenes import Scene

_OPENINGS = np.linspace(0, 1, 13)
_WIDTHS = (0.2, 0.5, 0.85)
_GAZES = np.linspace(-1, 1, 13)
_TURNS = np.linspace(-1.2, 1.2, 5) * LOOK_TURN
_SHIFTS = (0.0, -0.03)


def read_openings(frames: np.ndarray, scene: Scene, person: int) -> np.ndarray:
    """How far a person's mouth is open in each frame.

    Args:
        frames: float (T, H, W, 3) in [0, 1], showing the scene at its own aspect.
        scene: who is there and where.
        person: index from the left.

    Returns:
        (T,) in 0 (closed) .. 1 (wide open).
    """
    height = frames.shape[1]
    place, drawn = scene.placements[person], scene.people[person]
    x, y = mouth_center(drawn)
    region = _region(frames, place, (x, y + 0.2), (0.62, 0.55))
    rest = scene.neutral(person)
    variants = list(product(_OPENINGS, _WIDTHS, _TURNS[::2], _SHIFTS))
    states = [
        replace(rest, opening=float(opening), width=width, turn=(float(turn), 0.0), shift=(0.0, shift))
        for opening, width, turn, shift in variants
    ]
    found = _closest(region, _renders(scene, person, states, height, (x, y + 0.2), (0.62, 0.55)))
    return np.array([variant[0] for variant in variants])[found]


def read_gazes(frames: np.ndarray, scene: Scene, person: int) -> np.ndarray:
    """Where a person's eyes look in each frame: (T,) from −1 (left of the picture) to 1; see `read_openings`."""
    height = frames.shape[1]
    center, reach = (0.0, EYE_Y), (0.75, 0.2)
    region = _region(frames, scene.placements[person], center, reach)
    rest = scene.neutral(person)
    variants = list(product(_GAZES, _TURNS, _SHIFTS))
    states = [
        replace(rest, gaze=(float(gaze), rest.gaze[1]), turn=(float(turn), 0.0), shift=(0.0, shift))
        for gaze, turn, shift in variants
    ]
    found = _closest(region, _renders(scene, person, states, height, center, reach))
    return np.array([variant[0] for variant in variants])[found]


def _region(frames: np.ndarray, place, center: tuple[float, float], reach: tuple[float, float]) -> np.ndarray:
    height = frames.shape[1]
    left, right = (int((place.x + (center[0] + side * reach[0]) * place.scale) * height) for side in (-1, 1))
    top, bottom = (int((place.y + (center[1] + side * reach[1]) * place.scale) * height) for side in (-1, 1))
    return frames[:, max(0, top) : bottom, max(0, left) : right]


def _renders(
    scene: Scene,
    person: int,
    states: Sequence[FaceState],
    height: int,
    center: tuple[float, float],
    reach: tuple[float, float],
) -> np.ndarray:
    alone = replace(
        scene, people=[scene.people[person]], placements=[scene.placements[person]], gazes=[scene.gazes[person]]
    )
    rendered = np.stack(list(alone.render([list(states)], height))).astype(np.float32) / 255
    return _region(rendered, scene.placements[person], center, reach)


def _closest(seen: np.ndarray, known: np.ndarray) -> np.ndarray:
    """For each seen region (T, h, w, 3), the index of the closest known one (K, h, w, 3)."""
    seen, known = seen.reshape(len(seen), -1).astype(np.float64), known.reshape(len(known), -1).astype(np.float64)
    distances = (known**2).sum(1)[None] - 2 * seen @ known.T
    return distances.argmin(axis=1)
