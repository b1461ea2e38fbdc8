"""Scenes of the miniature's world: people side by side, rendered frame by frame with their exact truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from anytalker.conventions import PixelBox
from anytalker.miniature.world.backgrounds import draw_background, draw_light, light_direction
from anytalker.miniature.world.brush import Brush
from anytalker.miniature.world.drawing import draw_body, draw_head, face_outline
from anytalker.miniature.world.people import FaceState, Person

UNSEEN_SEED = 1_000_000
"""Seeds from here up are never used in training."""

_SUPERSAMPLING = 3
_MARGIN = 4
"""Pixels that are drawn around a part of a picture, since shapes that are cut have other edges."""


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
            scale = float(rng.uniform(0.28, 0.312))
            x = slot_width * (index + 0.5) + float(rng.uniform(-0.5, 0.5)) * max(0.0, slot_width - 2.7 * scale)
            y = float(rng.uniform(0.5, 0.54))
            placements.append(Placement(x, y, scale))
            gazes.append((float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.2, 0.3))))
        return cls(people, placements, gazes, slot_width * persons, int(rng.integers(2**31)))

    def boxes(self, height: int) -> list[PixelBox]:
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

    def render(
        self, states: Sequence[Sequence[FaceState]], height: int, part: tuple[slice, slice] | None = None
    ) -> Iterator[np.ndarray]:
        """Render the scene frame by frame.

        Args:
            states: one list of face states a person, all of the same length; see `neutral` for the picture.
            height: height of the frames in pixels; the width is `width` times that.
            part: rows and columns of the frames that are wanted; None: all.

        Yields:
            uint8 RGB frames (height, width, 3), or their part.
        """
        size = (int(round(self.width * height)), height)
        large = (size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING)
        still = draw_background(np.random.default_rng(self.seed), *large)
        light = draw_light(np.random.default_rng(self.seed + 1), *size)
        direction = light_direction(np.random.default_rng(self.seed + 2))
        brushes = [
            Brush(still, (place.x * large[1], place.y * large[1]), place.scale * large[1]) for place in self.placements
        ]
        for brush, person in zip(brushes, self.people, strict=True):
            draw_body(brush, person)
        rows, columns = part or (slice(0, size[1]), slice(0, size[0]))
        top, left = (max(0, wanted.start - _MARGIN) for wanted in (rows, columns))
        bottom, right = min(rows.stop + _MARGIN, size[1]), min(columns.stop + _MARGIN, size[0])
        cut = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
        still = still[_SUPERSAMPLING * top : _SUPERSAMPLING * bottom, _SUPERSAMPLING * left : _SUPERSAMPLING * right]
        light = light[rows, columns]
        for moment in zip(*states, strict=True):
            canvas = still.copy()
            for brush, person, state in zip(brushes, self.people, moment, strict=True):
                center = brush.center[0] - _SUPERSAMPLING * left, brush.center[1] - _SUPERSAMPLING * top
                draw_head(Brush(canvas, center, brush.scale), person, state, direction)
            small = cv2.resize(canvas, (right - left, bottom - top), interpolation=cv2.INTER_AREA)[cut]
            yield np.clip(small * light, 0, 255).astype(np.uint8)

    def picture(self, height: int) -> np.ndarray:
        """The still picture, everyone neutral: uint8 RGB (height, width, 3)."""
        return next(self.render([[self.neutral(index)] for index in range(len(self.people))], height))

    def neutral(self, index: int) -> FaceState:
        """The resting face of one person: lips closed, eyes open."""
        return FaceState(gaze=self.gazes[index])
