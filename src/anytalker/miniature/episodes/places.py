"""Where people and their faces are in the frames of a shot."""

from __future__ import annotations

import numpy as np

from anytalker.miniature.episodes.plan import Move, Plan, Seat, Shot, View
from anytalker.miniature.world.drawing import face_outline
from anytalker.miniature.world.people import Person

WIDER = 1.25
"""How much larger a picture is drawn over which a camera moves."""

Box = tuple[int, int, int, int]


def position(seat: Seat, frame: int) -> float:
    """Where the face's centre is at a frame of the shot, in units of the picture's height; walks start softly."""
    if not seat.path:
        return seat.x
    frames, xs = zip(*seat.path, strict=True)
    along = np.clip((frame - frames[0]) / max(1, frames[-1] - frames[0]), 0, 1)
    return float(xs[0] + (xs[-1] - xs[0]) * along * along * (3 - 2 * along))


def window(move: Move, frame: int, frames: int, seed: int) -> tuple[float, float, float]:
    """What a moving camera sees: left, top and size in 0..1 of the larger picture."""
    share = float(np.clip(frame / max(1, frames - 1), 0, 1))
    parts = [first + (last - first) * share for first, last in zip(_parts(move.first), _parts(move.last), strict=True)]
    x, y, size = parts
    if move.shake:
        phases = np.random.default_rng([seed, 7]).uniform(0, 6.28, (2, 3))
        waves = np.sin(np.array([0.19, 0.43, 0.71]) * frame + phases) @ (0.5, 0.3, 0.2)
        x, y = x + move.shake * waves[0], y + move.shake * waves[1]
    return float(np.clip(x, 0, 1)) * (1 - size), float(np.clip(y, 0, 1)) * (1 - size), size


def _parts(view: View) -> tuple[float, float, float]:
    return view.x, view.y, view.size


def face_box(person: Person, x: float, y: float, scale: float) -> tuple[float, float, float]:
    """A square from brows to chin: left, top and side, in the units of the arguments."""
    chin = float(face_outline(person)[:, 1].max())
    side = 2.02
    return x - side / 2 * scale, y + (chin + 0.06 - side) * scale, side * scale


def face_boxes(plan: Plan, shot: Shot, seat: Seat) -> list[Box | None]:
    """Boxes (x, y, width, height) in pixels of a person's face, one if it stays, or one a frame.

    None in a frame where the face's centre is out of the picture.
    """
    person = plan.cast[seat.member].person
    moving = bool(seat.path or shot.move)
    found: list[Box | None] = []
    for frame in range(shot.frames if moving else 1):
        left, top, side = face_box(person, position(seat, frame), seat.y, seat.scale)
        if shot.move:
            x, y, size = window(shot.move, frame, shot.frames, shot.seed)
            left, top, side = (left - x * plan.width / plan.height) / size, (top - y) / size, side / size
        box = tuple(round(value * plan.height) for value in (left, top, side, side))
        inside = 0 <= box[0] + box[2] / 2 < plan.width and 0 <= box[1] + box[3] / 2 < plan.height
        found.append((box[0], box[1], box[2], box[3]) if inside else None)
    return found
