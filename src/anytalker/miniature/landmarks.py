"""The true face tracks of drawn people: boxes and the 106 points, for evaluation without any detector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anytalker.conventions import corners
from anytalker.evaluation.eye_motion.tracks import FaceTracks
from anytalker.miniature.world.brush import Brush
from anytalker.miniature.world.drawing import EYE_Y, face_outline, mouth_center
from anytalker.miniature.world.people import FaceState, Person
from anytalker.miniature.world.scenes import Scene

_EYES = ((35, 41, 42, 39, 37, 36), (89, 95, 96, 93, 91, 90))
_BROWS = ((43, 48, 49, 51, 50), (102, 103, 104, 105, 101))
_PUPILS = ((34, 38), (88, 92))


def scene_tracks(scene: Scene, states: Sequence[Sequence[FaceState]], height: int, fps: float) -> FaceTracks:
    """True tracks of a scene's people.

    Args:
        scene: who is there and where.
        states: for each person one state a frame.
        height: of the video in pixels.
        fps: its frame rate.
    """
    frames = len(states[0])
    landmarks = np.zeros((frames, len(states), 106, 2), dtype=np.float32)
    nothing = np.zeros((1, 1, 3), np.uint8)
    for index, (person, place) in enumerate(zip(scene.people, scene.placements, strict=True)):
        for frame, state in enumerate(states[index]):
            x, y = place.x + state.shift[0] * place.scale, place.y + state.shift[1] * place.scale
            center = (x * height, y * height)
            head = Brush(nothing, center, place.scale * height, state.turn, person.face_height)
            landmarks[frame, index] = head.place(face_points(person, state))
    boxes = corners(scene.boxes(height)).astype(np.float32)
    size = (round(scene.width * height), height)
    return FaceTracks(np.tile(boxes, (frames, 1, 1)), landmarks, size, fps)


def face_points(person: Person, state: FaceState) -> np.ndarray:
    """The 106 points (106, 2) in units of half a face width: outline, brows, lids, pupils, mouth, and a nose's line."""
    points = np.zeros((106, 2))
    outline = face_outline(person, state.opening)
    points[:33] = outline[np.linspace(9, 27, 33).astype(int)]
    size, openness = person.eye_size, 1 - state.blink
    for side, eye, brow, pupil in zip((-1, 1), _EYES, _BROWS, _PUPILS, strict=True):
        x = side * person.eye_spacing
        lids = np.array([[-1, 0], [-0.45, -0.66], [0.45, -0.66], [1, 0], [0.45, 0.66], [-0.45, 0.66]])
        points[list(eye)] = lids * (size, size * max(openness, 0.02)) + (x, EYE_Y)
        gaze = np.array([state.gaze[0] * size * 0.52, state.gaze[1] * size * 0.22])
        points[list(pupil)] = gaze + (x, EYE_Y)
        arch = np.array([[-1.2, 0.4], [-0.4, -0.35], [0.0, -0.35], [0.4, -0.35], [1.2, 0.4]]) * (size, 0.11)
        points[list(brow)] = arch + (x, EYE_Y - size * 1.2 - 0.05 - 0.12 * state.brow)
    x, y = mouth_center(person)
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    half = person.mouth_width * (0.74 + 0.52 * state.width)
    drop = person.mouth_drop * state.opening
    points[52:72] = np.stack([x + half * np.cos(angle), y + drop / 2 + (0.08 + drop / 2) * np.sin(angle)], axis=1)
    points[72:87] = np.stack([np.zeros(15), np.linspace(EYE_Y, person.nose_length, 15)], axis=1)
    return points
