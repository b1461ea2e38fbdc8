"""What lies over the people of a shot: words, bars, flashes, things held before a mouth; and cards instead of them."""

from __future__ import annotations

import textwrap

import cv2
import numpy as np

from anytalker.miniature.world.brush import Brush
from anytalker.miniature.world.drawing import mouth_center
from anytalker.miniature.world.people import Person, muted, shade

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FLASH = (0.9, 0.55, 0.2)
"""How white the frames of a flash are."""


def draw_subtitle(picture: np.ndarray, words: str, height: float, band: float = 0.0) -> None:
    """Write words in one line, white with a dark edge; changes the picture.

    Args:
        picture: uint8 RGB (height, width, 3).
        words: what to write.
        height: of the line's middle, in 0..1 from the top.
        band: height of a dark band behind the words, in the same unit.
    """
    tall, wide = picture.shape[:2]
    top, low = (round(tall * (height + side * band / 2)) for side in (-1, 1))
    picture[max(0, top) : low] //= 4
    size = tall / 480
    (width, rise), _ = cv2.getTextSize(_plain(words), _FONT, size, 1)
    if width > 0.94 * wide:
        size *= 0.94 * wide / width
        (width, rise), _ = cv2.getTextSize(_plain(words), _FONT, size, 1)
    place = ((wide - width) // 2, round(height * tall) + rise // 2)
    thick = max(1, round(size * 2))
    cv2.putText(picture, _plain(words), place, _FONT, size, (10, 10, 10), 3 * thick, cv2.LINE_AA)
    cv2.putText(picture, _plain(words), place, _FONT, size, (250, 250, 240), thick, cv2.LINE_AA)


def draw_bars(picture: np.ndarray, height: float) -> None:
    """Black bars of a share of the picture's height above and below; changes the picture."""
    rows = bar_rows(picture.shape[0], height)
    if rows:
        picture[:rows] = picture[-rows:] = 0


def bar_rows(tall: int, height: float) -> int:
    """Rows of pixels of each bar."""
    return round(tall * height)


def draw_flash(picture: np.ndarray, frame: int, flashes: tuple[int, ...]) -> None:
    """Whiten the picture in the frames after a camera flash; changes the picture."""
    for flash in flashes:
        if 0 <= frame - flash < len(_FLASH):
            white = _FLASH[frame - flash]
            cv2.convertScaleAbs(picture, dst=picture, alpha=1 - white, beta=255 * white)


def draw_card(words: str, size: tuple[int, int], seed: int) -> np.ndarray:
    """A card with words: uint8 RGB (height, width, 3)."""
    rng = np.random.default_rng([seed, 9])
    back = shade(muted(rng, 0.6), 0.6)
    width, height = size
    card = np.empty((height, width, 3), np.uint8)
    card[:] = np.array(back, dtype=np.uint8)
    scale = height / 300
    for index, line in enumerate(textwrap.wrap(_plain(words), 24)[:4]):
        place = (round(0.08 * width), round(height * (0.3 + 0.15 * index)))
        cv2.putText(card, line, place, _FONT, scale, (245, 245, 240), max(1, round(2 * scale)), cv2.LINE_AA)
    row = round(0.16 * height)
    cv2.line(card, (round(0.08 * width), row), (round(0.5 * width), row), (200, 200, 200), 2)
    return card


def draw_figure(brush: Brush, person: Person) -> None:
    """What a body lacks where all of it is seen: waist, legs and shoes."""
    trousers = shade(person.collar, 0.6)
    for side in (-1, 1):
        leg = np.array([[0.05, 6.0], [1.5, 6.0], [1.35, 12.0], [0.25, 12.0]])
        brush.polygon(leg * (side, 1), trousers)
        brush.ellipse(side * 0.9, 12.1, 0.8, 0.3, (34, 32, 36))
    brush.polygon(np.array([[-2.1, 3.4], [2.1, 3.4], [1.6, 6.4], [-1.6, 6.4]]), person.clothes)


def draw_held(brush: Brush, person: Person, seed: int) -> None:
    """A microphone, a cup or a sheet of paper before the mouth."""
    rng = np.random.default_rng([seed, 8])
    x, y = mouth_center(person)
    color = shade(muted(rng, 0.5), 0.7)
    kind = int(rng.integers(3))
    if kind == 0:
        brush.polygon(np.array([[-0.12, y + 0.3], [0.12, y + 0.3], [0.3, y + 2.4], [0.02, y + 2.4]]), (40, 40, 44))
        brush.ellipse(x, y + 0.12, 0.46, 0.48, (70, 70, 76))
        brush.ellipse(x - 0.1, y, 0.2, 0.2, (110, 110, 118))
    elif kind == 1:
        brush.polygon(np.array([[-0.6, y - 0.35], [0.6, y - 0.35], [0.48, y + 0.95], [-0.48, y + 0.95]]), color)
        brush.ellipse(0.0, y - 0.35, 0.6, 0.1, shade(color, 1.3))
    else:
        brush.polygon(np.array([[-0.8, y - 0.4], [0.9, y - 0.3], [0.8, y + 1.3], [-0.9, y + 1.2]]), (236, 234, 226))
        for row in (0.0, 0.3, 0.6, 0.9):
            brush.line(np.array([[-0.6, y - 0.1 + row], [0.6, y - 0.03 + row]]), (150, 150, 150), 0.04)


def _plain(words: str) -> str:
    """The letters that the font has."""
    return words.encode("ascii", "replace").decode("ascii")
