"""A brush for vector shapes: subpixel coordinates, smooth edges, and heads that turn in depth."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from anytalker.miniature.world.people import Color

_SHIFT = 4
_UNIT = 1 << _SHIFT


class Brush:
    """Draws filled shapes on a uint8 RGB canvas.

    Coordinates are relative to `center` (pixels) in units of `scale` pixels, y downward. With a `turn` (radians, x to
    the right, y downward) points move as if they lay on an egg of half height `height` that is turned so, its tip held
    at the chin: most in the middle and above, hardly at the lips, not at all at the outline.
    """

    def __init__(
        self,
        canvas: np.ndarray,
        center: tuple[float, float],
        scale: float,
        turn: tuple[float, float] = (0.0, 0.0),
        height: float = 1.3,
    ) -> None:
        self.canvas = canvas
        self.center = center
        self.scale = scale
        self.turn = turn
        self.height = height

    def place(self, points: np.ndarray, depth: float = 1.0) -> np.ndarray:
        """Where points (n, 2) lie on the canvas, in pixels; `depth` over 1 for what stands out, like a nose."""
        points = np.asarray(points, dtype=np.float64)
        if self.turn != (0.0, 0.0):
            x, y = points[:, 0], points[:, 1]
            across, along = x / 1.1, y / (1.1 * self.height)
            front = depth * np.sqrt(np.maximum(1 - (across * across + along * along), 0))
            low = (0.75 * self.height - y) / (0.75 * self.height + 0.16)
            front *= np.minimum(np.maximum(low, 0), 1) ** 1.5
            points = points.copy()
            points[:, 0] += front * np.sin(self.turn[0])
            points[:, 1] += front * np.sin(self.turn[1])
        return points * self.scale + self.center

    def _pixels(self, points: np.ndarray, depth: float) -> np.ndarray:
        return np.rint(self.place(points, depth) * _UNIT).astype(np.int32).reshape(-1, 1, 2)

    def polygon(self, points: np.ndarray, color: Color, depth: float = 1.0) -> None:
        """Fill the closed outline `points` (n, 2)."""
        cv2.fillPoly(self.canvas, [self._pixels(points, depth)], color, cv2.LINE_AA, _SHIFT)

    def line(self, points: np.ndarray, color: Color, thickness: float, depth: float = 1.0) -> None:
        """Draw the open curve `points` (n, 2) with a thickness in the brush's units."""
        pixels = max(1, int(round(thickness * self.scale)))
        cv2.polylines(self.canvas, [self._pixels(points, depth)], False, color, pixels, cv2.LINE_AA, _SHIFT)

    def ellipse(self, x: float, y: float, width: float, height: float, color: Color, depth: float = 1.0) -> None:
        """Fill an ellipse given its centre and half axes."""
        self.polygon(ellipse_points(x, y, width, height), color, depth)

    def ring(self, x: float, y: float, width: float, height: float, color: Color, thickness: float) -> None:
        """Draw the outline of an ellipse given its centre and half axes."""
        points = ellipse_points(x, y, width, height)
        self.line(np.concatenate([points, points[:1]]), color, thickness)

    def shade_egg(self, light: tuple[float, float], strength: float) -> None:
        """Brighten the egg's side towards the light (a direction, x right, y down) and darken the far one, smoothly."""
        reach_x, reach_y = 1.04 * self.scale, 1.03 * self.height * self.scale
        left, right = int(self.center[0] - reach_x), int(self.center[0] + reach_x) + 1
        top, bottom = int(self.center[1] - reach_y), int(self.center[1] + reach_y) + 1
        left, top = max(0, left), max(0, top)
        region = self.canvas[top:bottom, left:right]
        if not region.size:
            return
        xs = ((np.arange(left, left + region.shape[1]) - self.center[0]) / reach_x).astype(np.float32)[None, :]
        ys = ((np.arange(top, top + region.shape[0]) - self.center[1]) / reach_y).astype(np.float32)[:, None]
        inside = np.maximum(1 - (xs**2 + ys**2), 0)
        fade = np.minimum(inside * 5, 1)
        gain = 1 + strength * fade * (xs * light[0] + ys * light[1] + 0.3 * np.sqrt(inside) - 0.1)
        cv2.multiply(region, cv2.merge([gain, gain, gain]), dst=region, dtype=cv2.CV_8U)


def ellipse_points(x: float, y: float, width: float, height: float, count: int = 28) -> np.ndarray:
    """Outline (count, 2) of an ellipse with the given centre and half axes."""
    cosines, sines = _circle(count)
    points = np.empty((count, 2))
    points[:, 0], points[:, 1] = x + width * cosines, y + height * sines
    return points


@cache
def _circle(count: int) -> tuple[np.ndarray, np.ndarray]:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.cos(angle), np.sin(angle)
