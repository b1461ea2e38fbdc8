"""Scenes of the miniature's world: people side by side, rendered frame by frame with their exact truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from anytalker.miniature.drawing import Brush, draw_body, draw_head, face_outline
from anytalker.miniature.people import FaceState, Person

UNSEEN_SEED = 1_000_000
"""Seeds from here up are never used in training."""

_SUPERSAMPLING = 3


@dataclass(frozen=True)
class Placement:
    """Where a person is: face centre and half face width, in units of the scene's height."""

    x: float
    y: float
    scale: float


@dataclass(frozen=True)
class Scene:
    """A room with people, left to right. `width` is in units of the height, `seed` gives room and light."""

    people: Sequence[Person]
    placements: Sequence[Placement]
    gazes: Sequence[tuple[float, float]]
    width: float
    seed: int

    @classmethod
    def random(cls, persons: int, seed: int, slot_width: float = 1.0) -> Scene:
        """Draw a scene of any number of people in slots of equal width. Same seed, same scene.

        Args:
            persons: number of people, at least 1.
            seed: any integer from 0; from `UNSEEN_SEED` up it is never trained on.
            slot_width: width of the room for one person, in units of the height.
        """
        rng = np.random.default_rng([seed, persons])
        people, placements, gazes = [], [], []
        for index in range(persons):
            people.append(Person.random(rng))
            scale = float(rng.uniform(0.215, 0.29))
            x = slot_width * (index + 0.5) + float(rng.uniform(-0.5, 0.5)) * max(0.0, slot_width - 3.1 * scale)
            y = float(rng.uniform(0.45, 0.53))
            placements.append(Placement(x, y, scale))
            gazes.append((float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.2, 0.3))))
        return cls(people, placements, gazes, slot_width * persons, int(rng.integers(2**31)))

    def boxes(self, height: int) -> list[tuple[int, int, int, int]]:
        """Face boxes (x, y, width, height) in pixels of a picture of that height: brows to chin, square."""
        found = []
        for person, place in zip(self.people, self.placements, strict=True):
            outline = face_outline(person)
            chin = float(outline[:, 1].max())
            side = 2.02
            left = (place.x - side / 2 * place.scale) * height
            top = (place.y + (chin + 0.06 - side) * place.scale) * height
            found.append(
                (
                    int(round(left)),
                    int(round(top)),
                    int(round(side * place.scale * height)),
                    int(round(side * place.scale * height)),
                )
            )
        return found

    def render(self, states: Sequence[Sequence[FaceState]], height: int) -> Iterator[np.ndarray]:
        """Render the scene frame by frame.

        Args:
            states: one list of face states a person, all of the same length; see `neutral` for the picture.
            height: height of the frames in pixels; the width is `width` times that.

        Yields:
            uint8 RGB frames (height, width, 3).
        """
        size = (int(round(self.width * height)), height)
        large = (size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING)
        still = draw_background(np.random.default_rng(self.seed), *large)
        light = draw_light(np.random.default_rng(self.seed + 1), *size)
        brushes = [
            Brush(still, (place.x * large[1], place.y * large[1]), place.scale * large[1]) for place in self.placements
        ]
        for brush, person in zip(brushes, self.people, strict=True):
            draw_body(brush, person)
        for moment in zip(*states, strict=True):
            canvas = still.copy()
            for brush, person, state in zip(brushes, self.people, moment, strict=True):
                draw_head(Brush(canvas, brush.center, brush.scale), person, state)
            small = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)
            yield np.clip(small * light, 0, 255).astype(np.uint8)

    def picture(self, height: int) -> np.ndarray:
        """The still picture, everyone neutral: uint8 RGB (height, width, 3)."""
        return next(self.render([[self.neutral(index)] for index in range(len(self.people))], height))

    def neutral(self, index: int) -> FaceState:
        """The resting face of one person: lips closed, eyes open."""
        return FaceState(gaze=self.gazes[index])


def draw_background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A wall, a room or a clutter of overlapping shapes: uint8 RGB (height, width, 3)."""
    kind = rng.random()
    first, second = rng.uniform(40, 235, 3), rng.uniform(40, 235, 3)
    angle = rng.uniform(0, 2 * np.pi)
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32) / height
    ramp = np.clip(0.5 + 0.5 * ((xs - 0.5) * np.cos(angle) + (ys - 0.5) * np.sin(angle)), 0, 1)[..., None]
    canvas = np.ascontiguousarray((first * (1 - ramp) + second * ramp).astype(np.uint8))
    if kind < 0.25:
        return canvas
    if kind < 0.5:
        step = rng.uniform(0.08, 0.3) * height
        for index, start in enumerate(np.arange(0, width, step)):
            if index % 2:
                color = tuple(float(value) for value in np.clip(first * 0.85, 0, 255))
                cv2.rectangle(canvas, (int(start), 0), (int(start + step), height), color, -1)
        return canvas
    return draw_shapes(rng, canvas, int(rng.integers(4, 40)), (0.05, 0.5))


def draw_shapes(rng: np.random.Generator, canvas: np.ndarray, count: int, sizes: tuple[float, float]) -> np.ndarray:
    """Cover a canvas with opaque overlapping shapes, the "dead leaves" that have the statistics of photographs."""
    height, width = canvas.shape[:2]
    low, high = sizes
    for _ in range(count):
        radius = height * low * (high / low) ** rng.random() / 2
        center = rng.uniform(0, 1, 2) * (width, height)
        color = tuple(float(value) for value in rng.uniform(15, 245, 3))
        if rng.random() < 0.5:
            cv2.circle(canvas, (int(center[0]), int(center[1])), max(1, int(radius)), color, -1, cv2.LINE_AA)
        else:
            corners = cv2.boxPoints(
                ((center[0], center[1]), (radius * 2, radius * rng.uniform(0.5, 2)), rng.uniform(0, 90))
            )
            cv2.fillPoly(canvas, [corners.astype(np.int32)], color, cv2.LINE_AA)
    return canvas


def draw_light(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Brightness and tint of the scene: float32 (height, width, 3) around 1, slowly varying."""
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.22)
    ramp = (xs / width - 0.5) * np.cos(angle) + (ys / height - 0.5) * np.sin(angle)
    tint = 1 + rng.uniform(-0.05, 0.05, 3)
    return ((rng.uniform(0.85, 1.08) + strength * ramp)[..., None] * tint).astype(np.float32)
