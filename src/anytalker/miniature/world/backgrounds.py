"""Rooms, landscapes and clutter behind the people of the drawn world, and the light that falls on them."""

from __future__ import annotations

import cv2
import numpy as np

from anytalker.miniature.world.people import blend, muted, shade

_ROWS = 32
"""Of a gradient that are computed at a time, few enough for a processor's cache."""


def draw_background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A wall, a room, a landscape or a clutter of shapes, out of focus: uint8 RGB (height, width, 3)."""
    kind = rng.random()
    canvas = _gradient(rng, width, height)
    if kind < 0.2:
        pass
    elif kind < 0.35:
        _stripes(rng, canvas)
    elif kind < 0.65:
        _room(rng, canvas)
    elif kind < 0.8:
        _landscape(rng, canvas)
    else:
        draw_shapes(rng, canvas, int(rng.integers(4, 40)), (0.05, 0.5))
    return cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.004, 0.014)) * height)


def _gradient(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    first = np.array(muted(rng, 0.55))
    second = np.clip(first * rng.uniform(0.6, 1.3) + rng.normal(0, 12, 3), 10, 245)
    angle = rng.uniform(0, 2 * np.pi)
    xs = np.arange(width, dtype=np.float32) / height
    ys = (np.arange(height, dtype=np.float32) / height)[:, None]
    across, down = (xs - 0.5) * np.cos(angle), (ys - 0.5) * np.sin(angle)
    canvas = np.empty((height, width, 3), dtype=np.uint8)
    for top in range(0, height, _ROWS):
        rows = slice(top, top + _ROWS)
        ramp = np.clip(0.5 + 0.5 * (across + down[rows]), 0, 1)
        for channel in range(3):
            canvas[rows, :, channel] = first[channel, None] * (1 - ramp) + second[channel, None] * ramp
    return canvas


def _box(canvas: np.ndarray, left: float, top: float, right: float, bottom: float, color) -> None:
    height = canvas.shape[0]
    corners = [int(value * height) for value in (left, top, right, bottom)]
    cv2.rectangle(canvas, (corners[0], corners[1]), (corners[2], corners[3]), color, -1)


def _stripes(rng: np.random.Generator, canvas: np.ndarray) -> None:
    step = float(rng.uniform(0.08, 0.3))
    color = shade(tuple(canvas[0, 0].astype(float)), float(rng.choice([0.85, 1.15])))  # type: ignore[arg-type]
    for index, start in enumerate(np.arange(0, canvas.shape[1] / canvas.shape[0], step)):
        if index % 2:
            _box(canvas, start, 0, start + step, 1, color)


def _room(rng: np.random.Generator, canvas: np.ndarray) -> None:
    wide = canvas.shape[1] / canvas.shape[0]
    floor = rng.uniform(0.72, 0.95)
    _box(canvas, 0, floor, wide, 1, muted(rng, 0.5))
    _box(canvas, 0, floor - 0.03, wide, floor, shade(muted(rng, 0.2), 1.3))
    x = float(rng.uniform(-0.1, 0.3))
    while x < wide:
        thing, size = rng.random(), float(rng.uniform(0.22, 0.45))
        if thing < 0.35:  # a window
            _box(canvas, x, 0.08, x + size, 0.08 + size, (240, 240, 236))
            _box(
                canvas,
                x + 0.02,
                0.1,
                x + size - 0.02,
                0.06 + size,
                blend((150, 195, 230), (250, 220, 180), rng.random()),
            )
            _box(canvas, x + size / 2 - 0.01, 0.1, x + size / 2 + 0.01, 0.06 + size, (240, 240, 236))
        elif thing < 0.65:  # a picture in its frame
            _box(canvas, x, 0.15, x + size, 0.15 + 0.7 * size, shade(muted(rng, 0.6), 0.6))
            _box(canvas, x + 0.025, 0.175, x + size - 0.025, 0.125 + 0.7 * size, muted(rng, 0.7))
        else:  # a shelf with books
            low = float(rng.uniform(0.3, 0.6))
            _box(canvas, x, low, x + size, low + 0.03, (96, 66, 44))
            book = x + 0.01
            while book < x + size - 0.04:
                thick = float(rng.uniform(0.02, 0.05))
                _box(canvas, book, low - rng.uniform(0.1, 0.18), book + thick, low, muted(rng, 0.8))
                book += thick + 0.004
        x += size + float(rng.uniform(0.15, 0.5))


def _landscape(rng: np.random.Generator, canvas: np.ndarray) -> None:
    height, width = canvas.shape[:2]
    top, low = np.array((110, 160, 220)) * rng.uniform(0.6, 1.1), np.array((225, 225, 215)) * rng.uniform(0.8, 1.05)
    ramp = np.linspace(0, 1, height)[:, None, None]
    canvas[:] = np.clip(top * (1 - ramp) + low * ramp, 0, 255).astype(np.uint8)
    xs = np.linspace(0, width / height, 40)
    green = np.array((70, 110, 60)) * rng.uniform(0.6, 1.2)
    for layer in range(3):
        base = 0.45 + 0.16 * layer
        hills = base + 0.08 * np.sin(xs * rng.uniform(2, 6) + rng.uniform(0, 6)) + 0.03 * np.sin(xs * 11 * rng.random())
        points = np.concatenate([np.stack([xs, hills], 1), [[xs[-1], 1.1], [0, 1.1]]]) * height
        haze = 0.55 - 0.25 * layer
        color = np.clip(green * (1 - haze) + np.array((190, 205, 215)) * haze, 0, 255)
        cv2.fillPoly(canvas, [points.astype(np.int32)], tuple(float(value) for value in color), cv2.LINE_AA)


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


def light_direction(rng: np.random.Generator) -> tuple[float, float]:
    """Where the light comes from: from above, more or less from one side; a unit vector, x right and y down."""
    angle = rng.uniform(-0.45, 0.45) * np.pi
    return float(np.sin(angle)), float(-np.cos(angle))


def draw_light(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Brightness and tint of the scene: float32 (height, width, 3) around 1, slowly varying."""
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.22)
    ramp = (xs / width - 0.5) * np.cos(angle) + (ys / height - 0.5) * np.sin(angle)
    tint = 1 + rng.uniform(-0.05, 0.05, 3)
    return ((rng.uniform(0.88, 1.06) + strength * ramp)[..., None] * tint).astype(np.float32)
