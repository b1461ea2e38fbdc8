"""Draws the people of the miniature's world: vector shapes through OpenCV, supersampled, at any resolution."""

from __future__ import annotations

import cv2
import numpy as np

from anytalker.miniature.people import Color, FaceState, Person, blend, shade

_SHIFT = 4
_UNIT = 1 << _SHIFT


class Brush:
    """Draws filled shapes on a uint8 RGB canvas with subpixel coordinates and smooth edges.

    Coordinates are relative to `center` (pixels) in units of `scale` pixels, y downward.
    """

    def __init__(self, canvas: np.ndarray, center: tuple[float, float], scale: float) -> None:
        self.canvas = canvas
        self.center = center
        self.scale = scale

    def _pixels(self, points: np.ndarray) -> np.ndarray:
        moved = np.asarray(points, dtype=np.float64) * self.scale + np.asarray(self.center)
        return np.round(moved * _UNIT).astype(np.int32).reshape(-1, 1, 2)

    def polygon(self, points: np.ndarray, color: Color) -> None:
        """Fill the closed outline `points` (n, 2)."""
        cv2.fillPoly(self.canvas, [self._pixels(points)], color, cv2.LINE_AA, _SHIFT)

    def line(self, points: np.ndarray, color: Color, thickness: float) -> None:
        """Draw the open curve `points` (n, 2) with a thickness in the brush's units."""
        pixels = max(1, int(round(thickness * self.scale)))
        cv2.polylines(self.canvas, [self._pixels(points)], False, color, pixels, cv2.LINE_AA, _SHIFT)

    def ellipse(self, x: float, y: float, width: float, height: float, color: Color) -> None:
        """Fill an ellipse given its centre and half axes."""
        self.polygon(ellipse_points(x, y, width, height), color)

    def ring(self, x: float, y: float, width: float, height: float, color: Color, thickness: float) -> None:
        """Draw the outline of an ellipse given its centre and half axes."""
        points = ellipse_points(x, y, width, height)
        self.line(np.concatenate([points, points[:1]]), color, thickness)


def ellipse_points(x: float, y: float, width: float, height: float, count: int = 28) -> np.ndarray:
    """Outline (count, 2) of an ellipse with the given centre and half axes."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([x + width * np.cos(angle), y + height * np.sin(angle)], axis=1)


def draw_body(brush: Brush, person: Person) -> None:
    """Draw what stays still behind the head: long hair, neck, shoulders."""
    if person.hair_style == "long":
        brush.polygon(ellipse_points(0, 0.35, 1.28, 1.75), shade(person.hair_color, 0.85))
    brush.polygon(
        np.array(
            [[-2.1, 3.6], [-1.95, 2.1], [-1.2, 1.68], [-0.4, 1.5], [0.4, 1.5], [1.2, 1.68], [1.95, 2.1], [2.1, 3.6]]
        ),
        person.clothes,
    )
    brush.polygon(np.array([[-0.52, 1.55], [0, 2.15], [0.52, 1.55]]), person.collar)
    brush.polygon(
        np.array([[-0.42, 0.7], [-0.44, 1.58], [0, 1.9], [0.44, 1.58], [0.42, 0.7]]), shade(person.skin, 0.82)
    )


def draw_head(brush: Brush, person: Person, state: FaceState) -> None:
    """Draw the head with its expression; the brush's centre is the middle between face top and chin."""
    resting = brush.center
    brush.center = (
        resting[0] + state.shift[0] * brush.scale,
        resting[1] + state.shift[1] * brush.scale,
    )
    _draw_skull(brush, person, state)
    _draw_beard(brush, person, state)
    _draw_eyes(brush, person, state)
    _draw_nose(brush, person)
    _draw_mouth(brush, person, state)
    _draw_hair(brush, person)
    _draw_accessories(brush, person)
    brush.center = resting


def _draw_skull(brush: Brush, person: Person, state: FaceState) -> None:
    if person.hair_style == "bun":
        brush.ellipse(0, -person.face_height - 0.25, 0.42, 0.38, person.hair_color)
    if person.hair_style in ("curly", "long", "bun", "side", "fringe", "short"):
        grow = {"curly": 1.22, "long": 1.14, "short": 1.05}.get(person.hair_style, 1.08)
        brush.ellipse(0, -0.28, grow, person.face_height * 0.92 * grow, person.hair_color)
    for side in (-1, 1):
        brush.ellipse(side * 0.98, 0.05, 0.16, 0.26, shade(person.skin, 0.88))
        if person.earrings:
            brush.ellipse(side * 1.02, 0.36, 0.07, 0.09, (236, 200, 90))
    outline = face_outline(person, state.opening)
    brush.polygon(outline, person.skin)
    shadow = outline[(outline[:, 0] > 0.0)]
    inner = shadow[::-1] * np.array([0.8, 0.97])
    brush.polygon(np.concatenate([shadow, inner]), shade(person.skin, 0.92))
    if person.blush > 0.08:
        for side in (-1, 1):
            brush.ellipse(side * 0.56, 0.34, 0.2, 0.14, blend(person.skin, (222, 96, 96), person.blush))


def face_outline(person: Person, opening: float = 0.0) -> np.ndarray:
    """Outline (36, 2) of the face; the chin falls a little with the mouth's opening."""
    angle = np.linspace(0, 2 * np.pi, 36, endpoint=False) - np.pi / 2
    x, y = np.cos(angle), np.sin(angle)
    narrowing = np.where(y > 0, 1 - (1 - person.jaw) * y**2 * 0.9, 1.0)
    height = np.where(y > 0, person.face_height * (1 + 0.07 * opening), person.face_height)
    return np.stack([x * narrowing, y * height], axis=1)


def _draw_eyes(brush: Brush, person: Person, state: FaceState) -> None:
    eye_y, size = -0.16, person.eye_size
    lid = shade(person.skin, 0.72)
    for side in (-1, 1):
        x = side * person.eye_spacing
        brush.ellipse(x, eye_y - 0.02, size * 1.22, size * 0.86, shade(person.skin, 0.84))
        openness = 1.0 - state.blink
        if openness > 0.15:
            brush.ellipse(x, eye_y, size, size * 0.62 * openness, (246, 246, 244))
            reach = size * 0.55
            iris_x = x + float(np.clip(state.gaze[0], -1, 1)) * reach
            iris_y = eye_y + float(np.clip(state.gaze[1], -1, 1)) * reach * 0.4
            radius = size * 0.46
            brush.ellipse(iris_x, iris_y, radius, min(radius, size * 0.6 * openness), person.iris)
            brush.ellipse(iris_x, iris_y, radius * 0.5, min(radius * 0.5, size * 0.5 * openness), (18, 16, 18))
        edge = np.array([[-1, 0.05], [-0.55, -0.5], [0, -0.68], [0.55, -0.5], [1, 0.05]])
        edge = edge * np.array([size * 1.05, size * (openness * 0.95 - 0.05)]) + np.array([x, eye_y])
        brush.line(edge, shade(lid, 0.5), 0.045)
        brow_y = eye_y - size * 1.25 - 0.05 - 0.1 * state.brow
        brow = np.array([[-1.25 * size, side * person.brow_tilt], [0, -0.055], [1.25 * size, -side * person.brow_tilt]])
        brush.line(brow + np.array([x, brow_y]), shade(person.hair_color, 0.7), person.brow_thickness)


def _draw_nose(brush: Brush, person: Person) -> None:
    width, length = person.nose_width, person.nose_length
    brush.polygon(np.array([[-0.07, -0.2], [0.07, -0.2], [width, length], [-width, length]]), shade(person.skin, 1.07))
    curve = np.array(
        [
            [-width, length - 0.03],
            [-width * 0.5, length + 0.05],
            [0, length + 0.02],
            [width * 0.5, length + 0.05],
            [width, length - 0.03],
        ]
    )
    brush.line(curve, shade(person.skin, 0.66), 0.04)


def mouth_center(person: Person) -> tuple[float, float]:
    """Where the lips meet at rest, in units of half a face width from the middle of the face."""
    return 0.0, person.face_height * 0.53


def _draw_mouth(brush: Brush, person: Person, state: FaceState) -> None:
    _, y = mouth_center(person)
    opening = float(np.clip(state.opening, 0, 1))
    half = person.mouth_width * (0.74 + 0.52 * state.width - 0.1 * opening)
    x = np.linspace(-1, 1, 15)
    bow = 1 - x**2
    corners = y - person.smile * x**2
    upper = corners - 0.1 * opening * bow
    lower = corners + person.mouth_drop * opening * np.sqrt(bow)
    lip = person.lip_thickness
    bulge = 0.75 + 0.25 * np.cos(3 * np.pi * x)
    outer_top = np.stack([x * half, upper - lip * bow * bulge], axis=1)
    outer_bottom = np.stack([x * half, lower + lip * 1.25 * bow], axis=1)[::-1]
    brush.polygon(np.concatenate([outer_top, outer_bottom]), person.lips)
    inside = np.stack([x * half * 0.93, upper], axis=1), np.stack([x * half * 0.93, lower], axis=1)
    if opening > 0.02:
        brush.polygon(np.concatenate([inside[0], inside[1][::-1]]), (52, 14, 20))
        if opening > 0.3:
            tongue = y + person.mouth_drop * opening * 0.72
            brush.ellipse(0, tongue, half * 0.52, person.mouth_drop * opening * 0.22, (186, 78, 84))
        shown = min(0.45, 0.1 + 0.5 * state.teeth) * person.mouth_drop
        teeth = np.minimum(upper + shown * np.sqrt(bow), lower)
        row = np.concatenate([inside[0][2:-2], np.stack([x * half * 0.93, teeth], axis=1)[2:-2][::-1]])
        brush.polygon(row, (240, 238, 230))
    else:
        brush.line(inside[0], shade(person.lips, 0.5), 0.035)


def _draw_beard(brush: Brush, person: Person, state: FaceState) -> None:
    if person.beard == "none":
        return
    color = shade(blend(person.hair_color, person.skin, 0.25), 0.85)
    _, y = mouth_center(person)
    if person.beard == "full":
        outline = face_outline(person, state.opening)
        low = outline[outline[:, 1] > 0.12 * person.face_height]
        top = np.array([[-0.62, y - 0.22], [-0.3, y - 0.3], [0.3, y - 0.3], [0.62, y - 0.22]])
        brush.polygon(np.concatenate([low, top]), color)
    if person.beard == "goatee":
        brush.ellipse(0, person.face_height * 0.86, 0.26, 0.2, color)
    if person.beard in ("moustache", "goatee"):
        brush.polygon(np.array([[-0.36, y - 0.1], [-0.12, y - 0.26], [0.12, y - 0.26], [0.36, y - 0.1]]), color)


def _draw_hair(brush: Brush, person: Person) -> None:
    top = -person.face_height
    if person.hair_style == "bald" or person.hat != "none":
        return
    if person.hair_style == "curly":
        for angle in np.linspace(np.pi * 1.02, np.pi * 1.98, 9):
            brush.ellipse(1.0 * np.cos(angle), -0.42 + 0.95 * np.sin(angle), 0.27, 0.27, person.hair_color)
        return
    dips = {
        "short": ([-1.0, -0.35], [-0.78, top * 0.66], [0.0, top * 0.74], [0.78, top * 0.66], [1.0, -0.35]),
        "long": ([-1.02, 0.15], [-0.84, top * 0.5], [0.0, top * 0.8], [0.84, top * 0.5], [1.02, 0.15]),
        "bun": ([-1.0, -0.3], [-0.7, top * 0.68], [0.0, top * 0.8], [0.7, top * 0.68], [1.0, -0.3]),
        "side": ([-1.0, -0.3], [-0.75, top * 0.78], [0.3, top * 0.46], [0.85, top * 0.44], [1.0, -0.3]),
        "fringe": ([-1.0, -0.3], [-0.86, top * 0.4], [0.0, top * 0.44], [0.86, top * 0.4], [1.0, -0.3]),
    }[person.hair_style]
    angle = np.linspace(0, -np.pi, 14)
    cap = np.stack([1.06 * np.cos(angle), 1.08 * person.face_height * np.sin(angle) - 0.05], axis=1)
    brush.polygon(np.concatenate([np.array(dips), cap]), person.hair_color)
    streak = np.stack([0.55 * np.cos(angle[3:8]), person.face_height * 0.95 * np.sin(angle[3:8]) - 0.05], axis=1)
    brush.line(streak, shade(person.hair_color, 1.35), 0.06)


def _draw_accessories(brush: Brush, person: Person) -> None:
    top = -person.face_height
    if person.hat != "none":
        angle = np.linspace(0, -np.pi, 14)
        dome = np.stack([1.08 * np.cos(angle), top * 0.52 + 0.82 * person.face_height * np.sin(angle)], axis=1)
        brush.polygon(dome, person.collar)
        rim = np.array([[-1.12, top * 0.54], [1.12, top * 0.54], [1.12, top * 0.7], [-1.12, top * 0.7]])
        brush.polygon(rim, shade(person.collar, 0.75))
    if person.glasses != "none":
        color = (34, 32, 36)
        for side in (-1, 1):
            x = side * person.eye_spacing
            if person.glasses == "round":
                brush.ring(x, -0.15, 0.3, 0.28, color, 0.05)
            else:
                corners = np.array([[-0.31, -0.22], [0.31, -0.22], [0.29, 0.22], [-0.29, 0.22], [-0.31, -0.22]])
                brush.line(corners + np.array([x, -0.14]), color, 0.05)
        bridge = np.array([[-(person.eye_spacing - 0.29), -0.17], [person.eye_spacing - 0.29, -0.17]])
        brush.line(bridge, color, 0.05)
