"""Draws the people of the miniature's world, part by part, at any resolution."""

from __future__ import annotations

import numpy as np

from anytalker.miniature.world.brush import Brush, ellipse_points
from anytalker.miniature.world.people import FaceState, Person, blend, shade

EYE_Y = -0.16
"""Height of the eyes, in units of half a face width from the middle of the face."""


def draw_body(brush: Brush, person: Person) -> None:
    """Draw what stays still behind the head: long hair, neck, shoulders."""
    back = shade(person.hair_color, 0.8)
    if person.hair_style == "long":
        brush.polygon(ellipse_points(0, 0.35, 1.28, 1.75), back)
    if person.hair_style == "bob":
        brush.polygon(ellipse_points(0, 0.0, 1.25, 1.42), back)
    shoulders = [[-2.1, 3.6], [-1.98, 2.2], [-1.7, 1.88], [-1.2, 1.7], [-0.4, 1.5]]
    mirrored = [[-x, y] for x, y in reversed(shoulders)]
    brush.polygon(np.array(shoulders + mirrored), person.clothes)
    brush.polygon(np.array([[0.35, 1.5], [1.2, 1.7], [1.98, 2.2], [2.1, 3.6], [0.9, 3.6]]), shade(person.clothes, 0.88))
    brush.polygon(np.array([[-0.56, 1.53], [0, 2.2], [0.56, 1.53]]), person.collar)
    neck = shade(person.skin, 0.86)
    brush.polygon(np.array([[-0.42, 0.7], [-0.46, 1.58], [-0.2, 1.84], [0.2, 1.84], [0.46, 1.58], [0.42, 0.7]]), neck)
    brush.polygon(ellipse_points(0.05, person.face_height * 0.98, 0.43, 0.34), shade(person.skin, 0.7))


def draw_head(brush: Brush, person: Person, state: FaceState, light: tuple[float, float] = (-0.6, -0.6)) -> None:
    """Draw the head with its expression; the brush's centre is the middle between face top and chin.

    Args:
        brush: placed on the resting head.
        person: who it is.
        state: what the face does.
        light: direction the light comes from, x to the right and y downward.
    """
    center = (brush.center[0] + state.shift[0] * brush.scale, brush.center[1] + state.shift[1] * brush.scale)
    head = Brush(brush.canvas, center, brush.scale, state.turn, person.face_height)
    _draw_skull(head, person, state)
    head.shade_egg(light, 0.4)
    _draw_beard(head, person, state)
    _draw_eyes(head, person, state)
    _draw_nose(head, person)
    _draw_mouth(head, person, state)
    _draw_hair(head, person)
    _draw_hat(head, person)
    _draw_glasses(head, person)


def _draw_skull(brush: Brush, person: Person, state: FaceState) -> None:
    hair = person.hair_color
    if person.hair_style == "bun":
        brush.ellipse(0, -person.face_height - 0.22, 0.42, 0.36, shade(hair, 0.9))
    if person.hair_style == "afro":
        brush.ellipse(0, -0.45, 1.42, 1.28, hair)
    elif person.hair_style != "bald":
        grow = {"curly": 1.22, "long": 1.14, "bob": 1.14, "short": 1.05}.get(person.hair_style, 1.08)
        brush.ellipse(0, -0.28, grow, person.face_height * 0.92 * grow, hair)
    for side in (-1, 1):
        brush.ellipse(side * 0.98, 0.05, 0.16, 0.26, shade(person.skin, 0.9))
        brush.ellipse(side * 1.0, 0.06, 0.08, 0.15, shade(person.skin, 0.72))
        if person.earrings:
            brush.ellipse(side * 1.02, 0.38, 0.075, 0.1, (238, 202, 92))
    brush.polygon(face_outline(person, state.opening), person.skin)
    if person.blush > 0.08:
        for side in (-1, 1):
            for size, amount in ((0.24, 0.5), (0.15, 1.0)):
                color = blend(person.skin, (222, 96, 96), person.blush * amount)
                brush.ellipse(side * 0.56, 0.32, size, size * 0.7, color)


def face_outline(person: Person, opening: float = 0.0) -> np.ndarray:
    """Outline (36, 2) of the face; the chin falls a little with the mouth's opening."""
    angle = np.linspace(0, 2 * np.pi, 36, endpoint=False) - np.pi / 2
    x, y = np.cos(angle), np.sin(angle)
    narrowing = np.where(y > 0, 1 - (1 - person.jaw) * y**2 * 0.9, 1.0)
    height = np.where(y > 0, person.face_height * (1 + 0.07 * opening), person.face_height)
    return np.stack([x * narrowing, y * height], axis=1)


def _draw_eyes(brush: Brush, person: Person, state: FaceState) -> None:
    size = person.eye_size
    openness = 1.0 - state.blink
    for side in (-1, 1):
        x = side * person.eye_spacing
        brush.ellipse(x, EYE_Y - 0.02, size * 1.2, size * 0.9, shade(person.skin, 0.86))
        if openness > 0.15:
            _draw_eyeball(brush, person, state, x, openness)
        edge = np.array([[-1, 0.05], [-0.55, -0.5], [0, -0.68], [0.55, -0.5], [1, 0.05]])
        edge = edge * np.array([size * 1.05, size * (openness * 1.02 - 0.05)]) + np.array([x, EYE_Y])
        brush.line(edge, shade(person.skin, 0.34), 0.05)
        brow_y = EYE_Y - size * 1.2 - 0.05 - 0.12 * state.brow
        tilt = side * person.brow_tilt
        brow = np.array([[-1.2, 0.4], [-0.4, -0.35], [0.4, -0.35], [1.2, 0.4]]) * np.array([size, 0.11])
        brow[:, 1] += np.linspace(tilt, -tilt, 4)
        brush.line(brow + np.array([x, brow_y]), shade(person.hair_color, 0.7), person.brow_thickness)


def _draw_eyeball(brush: Brush, person: Person, state: FaceState, x: float, openness: float) -> None:
    size = person.eye_size
    tall = size * 0.7 * openness
    brush.ellipse(x, EYE_Y, size, tall, (246, 246, 244))
    iris_x = x + float(np.clip(state.gaze[0], -1, 1)) * size * 0.52
    iris_y = EYE_Y + float(np.clip(state.gaze[1], -1, 1)) * size * 0.22
    radius = size * 0.48
    brush.ellipse(iris_x, iris_y, radius, min(radius, tall * 0.97), person.iris)
    brush.ellipse(iris_x, iris_y, radius * 0.52, min(radius * 0.52, tall * 0.8), (16, 14, 16))
    if openness > 0.5:
        brush.ellipse(iris_x - radius * 0.3, iris_y - radius * 0.35, radius * 0.22, radius * 0.22, (252, 252, 252))


def _draw_nose(brush: Brush, person: Person) -> None:
    width, length = person.nose_width, person.nose_length
    bridge = np.array([[-0.06, -0.22], [0.06, -0.22], [width * 0.8, length], [-width * 0.8, length]])
    brush.polygon(bridge, shade(person.skin, 1.03), 1.1)
    brush.polygon(
        np.array([[0.05, -0.15], [width, length - 0.02], [width * 0.25, length]]), shade(person.skin, 0.88), 1.1
    )
    brush.ellipse(0, length - 0.05, width * 0.6, 0.09, shade(person.skin, 1.08), 1.15)
    for side in (-1, 1):
        brush.ellipse(side * width * 0.55, length + 0.02, width * 0.26, 0.035, shade(person.skin, 0.5), 1.1)


def mouth_center(person: Person) -> tuple[float, float]:
    """Where the lips meet at rest, in units of half a face width from the middle of the face."""
    return 0.0, person.face_height * 0.53


def _draw_mouth(brush: Brush, person: Person, state: FaceState) -> None:
    _, y = mouth_center(person)
    opening = float(np.clip(state.opening, 0, 1))
    half = person.mouth_width * (0.74 + 0.52 * state.width - 0.1 * opening)
    x = np.linspace(-1, 1, 17)
    bow = 1 - x**2
    corners = y - person.smile * x**2
    upper = corners - 0.1 * opening * bow
    lower = corners + person.mouth_drop * opening * np.sqrt(bow)
    lip = person.lip_thickness * (1.15 - 0.3 * state.width)
    bulge = 0.75 + 0.25 * np.cos(3 * np.pi * x)
    outer_top = np.stack([x * half, upper - lip * bow * bulge], axis=1)
    outer_bottom = np.stack([x * half, lower + lip * 1.3 * bow], axis=1)
    inner_top, inner_bottom = np.stack([x * half * 0.93, upper], axis=1), np.stack([x * half * 0.93, lower], axis=1)
    brush.polygon(np.concatenate([outer_top, outer_bottom[::-1]]), person.lips)
    brush.polygon(np.concatenate([outer_top, inner_top[::-1]]), shade(person.lips, 0.84))
    shine = np.stack([x * half, lower + lip * 0.55 * bow], axis=1)[6:11]
    brush.line(shine, shade(person.lips, 1.25), 0.035)
    if opening <= 0.02:
        brush.line(inner_top, shade(person.lips, 0.45), 0.035)
        return
    brush.polygon(np.concatenate([inner_top, inner_bottom[::-1]]), (50, 14, 20))
    drop = person.mouth_drop * opening
    if opening > 0.12:
        raised = y + drop * (0.78 - 0.5 * state.tongue)
        brush.ellipse(0, raised, half * 0.55, drop * (0.2 + 0.14 * state.tongue), (190, 80, 88))
    shown = min(0.45, 0.1 + 0.5 * state.teeth) * person.mouth_drop
    teeth = np.minimum(upper + shown * np.sqrt(bow), lower)
    row = np.concatenate([inner_top[2:-2], np.stack([x * half * 0.93, teeth], axis=1)[2:-2][::-1]])
    brush.polygon(row, (240, 238, 230))
    if state.teeth > 0.4 and opening > 0.2:
        low = np.maximum(lower - 0.1 * state.teeth * person.mouth_drop * np.sqrt(bow), teeth)
        row = np.concatenate([np.stack([x * half * 0.93, low], axis=1)[3:-3], inner_bottom[3:-3][::-1]])
        brush.polygon(row, (226, 222, 212))


def _draw_beard(brush: Brush, person: Person, state: FaceState) -> None:
    if person.beard == "none":
        return
    color = shade(blend(person.hair_color, person.skin, 0.25), 0.85)
    if person.beard == "stubble":
        color = blend(person.skin, shade(person.hair_color, 0.8), 0.3)
    _, y = mouth_center(person)
    if person.beard in ("full", "stubble"):
        outline = face_outline(person, state.opening)
        low = outline[outline[:, 1] > 0.12 * person.face_height]
        top = np.array([[-0.62, y - 0.2], [-0.3, y - 0.28], [0.3, y - 0.28], [0.62, y - 0.2]])
        brush.polygon(np.concatenate([low, top]), color)
    if person.beard == "goatee":
        brush.ellipse(0, person.face_height * (0.87 + 0.06 * state.opening), 0.27, 0.2, color)
    if person.beard in ("moustache", "goatee"):
        lift = 0.06 * state.opening
        shape = np.array(
            [[-0.4, y - 0.07], [-0.14, y - 0.25], [0, y - 0.21], [0.14, y - 0.25], [0.4, y - 0.07], [0, y - 0.12]]
        )
        brush.polygon(shape - np.array([0, lift]), color)


def _draw_hair(brush: Brush, person: Person) -> None:
    top = -person.face_height
    if person.hair_style == "bald" or person.hat != "none":
        return
    if person.hair_style in ("curly", "afro"):
        reach = 1.0 if person.hair_style == "curly" else 1.12
        for index, angle in enumerate(np.linspace(np.pi * 1.02, np.pi * 1.98, 9)):
            color = shade(person.hair_color, 1.08 if index % 2 else 0.94)
            brush.ellipse(reach * np.cos(angle), -0.42 + 0.97 * reach * np.sin(angle), 0.28, 0.28, color)
        return
    dips = {
        "short": ([-1.0, -0.35], [-0.78, top * 0.66], [0.0, top * 0.74], [0.78, top * 0.66], [1.0, -0.35]),
        "long": ([-1.02, 0.15], [-0.84, top * 0.5], [0.0, top * 0.8], [0.84, top * 0.5], [1.02, 0.15]),
        "bob": ([-1.04, 0.35], [-0.88, top * 0.36], [0.0, top * 0.5], [0.88, top * 0.36], [1.04, 0.35]),
        "bun": ([-1.0, -0.3], [-0.7, top * 0.68], [0.0, top * 0.8], [0.7, top * 0.68], [1.0, -0.3]),
        "side": ([-1.0, -0.3], [-0.75, top * 0.78], [0.3, top * 0.46], [0.85, top * 0.44], [1.0, -0.3]),
        "fringe": ([-1.0, -0.3], [-0.86, top * 0.4], [0.0, top * 0.44], [0.86, top * 0.4], [1.0, -0.3]),
    }[person.hair_style]
    angle = np.linspace(0, -np.pi, 14)
    cap = np.stack([1.06 * np.cos(angle), 1.08 * person.face_height * np.sin(angle) - 0.05], axis=1)
    brush.polygon(np.concatenate([np.array(dips), cap]), person.hair_color)
    for width, tone in ((0.82, 0.82), (0.66, 1.12), (0.48, 0.9), (0.3, 1.2)):
        strand = np.stack([width * np.cos(angle[3:10]), person.face_height * np.sin(angle[3:10]) - 0.04], axis=1)
        brush.line(strand, shade(person.hair_color, tone), 0.05)


def _draw_hat(brush: Brush, person: Person) -> None:
    if person.hat == "none":
        return
    top = -person.face_height
    angle = np.linspace(0, -np.pi, 14)
    dome = np.stack([1.1 * np.cos(angle), top * 0.52 + 0.82 * person.face_height * np.sin(angle)], axis=1)
    brush.polygon(dome, person.collar)
    brush.line(dome[3:6] * (0.85, 0.96), shade(person.collar, 1.25), 0.1)
    reach = {"beanie": 1.14, "cap": 1.2, "brim": 1.6}[person.hat]
    thick = {"beanie": 0.2, "cap": 0.12, "brim": 0.1}[person.hat] * person.face_height
    x = np.linspace(-reach, reach, 9)
    sag = 0.12 * (x / reach) ** 2
    rim = np.stack([x, top * 0.52 - sag], axis=1), np.stack([x, top * 0.52 - thick - sag], axis=1)[::-1]
    brush.polygon(np.concatenate(rim), shade(person.collar, 0.72))


def _draw_glasses(brush: Brush, person: Person) -> None:
    if person.glasses == "none":
        return
    color = (34, 32, 36)
    for side in (-1, 1):
        x = side * person.eye_spacing
        if person.glasses == "round":
            brush.ring(x, EYE_Y, 0.33, 0.31, color, 0.05)
        else:
            corners = np.array([[-0.34, -0.24], [0.34, -0.24], [0.31, 0.25], [-0.31, 0.25], [-0.34, -0.24]])
            brush.line(corners + np.array([x, EYE_Y]), color, 0.05)
        brush.line(np.array([[x + side * 0.33, EYE_Y - 0.04], [side * 0.98, EYE_Y - 0.02]]), color, 0.04)
    inner = person.eye_spacing - 0.32
    brush.line(np.array([[-inner, EYE_Y - 0.03], [inner, EYE_Y - 0.03]]), color, 0.05)
