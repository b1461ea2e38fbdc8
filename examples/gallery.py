"""A gallery of the drawn world: python examples/gallery.py docs/gallery.png

People on the left at rest, then speaking; below, a conversation of two people, half a second from frame to frame.
"""

from __future__ import annotations

import sys

import cv2
import numpy as np

from anytalker.miniature.corpus import CorpusSettings, render_clip
from anytalker.miniature.world.people import FaceState
from anytalker.miniature.world.scenes import UNSEEN_SEED, Scene

SHAPES = (
    (0.0, 0.5, 0.0, 0.0),
    (0.3, 0.95, 0.9, 0.0),
    (0.95, 0.5, 0.2, 0.0),
    (0.5, 0.05, 0.0, 0.0),
    (0.45, 0.6, 0.1, 1.0),
)


def people(rows: int, height: int) -> np.ndarray:
    """Rooms with five people each, who say nothing, "ee", "ah", "oo" and "l"."""
    rooms = []
    for seed in range(rows):
        scene = Scene.random(len(SHAPES), UNSEEN_SEED + 100 + seed)
        states = [
            [FaceState(opening, width, teeth, tongue, gaze=gaze)]
            for (opening, width, teeth, tongue), gaze in zip(SHAPES, scene.gazes, strict=True)
        ]
        rooms.append(next(scene.render(states, height)))
    return np.concatenate(rooms)


def conversation(seed: int, width: int) -> np.ndarray:
    """Eight moments of two people who talk to each other, in two rows."""
    clip = render_clip(seed, CorpusSettings(persons=2, frames=97, unseen=True))
    moments = clip.frames[6::12]
    rows = [np.concatenate(list(moments[i : i + 4]), axis=1) for i in (0, 4)]
    sheet = np.concatenate(rows)
    return cv2.resize(sheet, (width, sheet.shape[0] * width // sheet.shape[1]), interpolation=cv2.INTER_AREA)


def main() -> None:
    """Draw the gallery."""
    top = people(3, 192)
    sheet = np.concatenate([top, conversation(3, top.shape[1])])
    cv2.imwrite(sys.argv[1], sheet[..., ::-1])


if __name__ == "__main__":
    main()
