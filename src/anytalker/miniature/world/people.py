"""The people of the drawn world: who they are (fixed for a clip) and the state of a face (frame by frame)."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

Color = tuple[float, float, float]

SKIN_TONES: tuple[Color, ...] = (
    (255, 224, 196),
    (244, 204, 170),
    (231, 184, 143),
    (214, 160, 118),
    (184, 128, 88),
    (150, 100, 66),
    (118, 77, 52),
    (90, 58, 42),
)
HAIR_COLORS: tuple[Color, ...] = (
    (28, 24, 24),
    (58, 40, 30),
    (96, 62, 38),
    (140, 92, 48),
    (196, 154, 88),
    (226, 198, 138),
    (150, 62, 36),
    (150, 150, 156),
    (222, 222, 226),
)
IRIS_COLORS: tuple[Color, ...] = ((62, 40, 26), (84, 58, 34), (60, 90, 60), (58, 96, 140), (90, 110, 120))
HAIR_STYLES = ("short", "long", "bun", "curly", "bald", "side", "fringe", "afro", "bob")
GLASSES = ("none", "none", "none", "round", "square")
BEARDS = ("none", "none", "none", "none", "full", "moustache", "goatee", "stubble")
HATS = ("none", "none", "none", "none", "none", "none", "beanie", "cap", "brim")


@dataclass(frozen=True)
class Person:
    """Everything about a drawn person that stays the same in a clip. Lengths are in units of half a face width.

    Colours are RGB in 0..255. `face_height` is half the height of the face, `mouth_width` half the width of the
    closed mouth, `mouth_drop` how far the lower lip falls when the mouth is wide open.
    """

    skin: Color
    hair_color: Color
    hair_style: str
    clothes: Color
    collar: Color
    lips: Color
    iris: Color
    face_height: float
    jaw: float
    eye_spacing: float
    eye_size: float
    brow_thickness: float
    brow_tilt: float
    nose_length: float
    nose_width: float
    mouth_width: float
    mouth_drop: float
    lip_thickness: float
    smile: float
    glasses: str
    beard: str
    hat: str
    earrings: bool
    blush: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> Person:
        """Draw a person; the same generator state gives the same person."""
        skin = _vary(rng, SKIN_TONES[rng.integers(len(SKIN_TONES))], 0.06, 4)
        hair = _vary(rng, HAIR_COLORS[rng.integers(len(HAIR_COLORS))], 0.12, 6)
        if sum(abs(a - b) for a, b in zip(skin, hair, strict=True)) < 60:
            hair = shade(hair, 0.55)
        redness = rng.uniform(0.25, 0.6)
        lips = blend(shade(skin, 0.82), (176, 50, 60), redness)
        clothes = muted(rng, 0.65)
        return cls(
            skin=skin,
            hair_color=hair,
            hair_style=str(rng.choice(HAIR_STYLES)),
            clothes=clothes,
            collar=shade(clothes, float(rng.uniform(0.6, 1.4))),
            lips=lips,
            iris=IRIS_COLORS[rng.integers(len(IRIS_COLORS))],
            face_height=float(rng.uniform(1.18, 1.36)),
            jaw=float(rng.uniform(0.72, 0.95)),
            eye_spacing=float(rng.uniform(0.39, 0.46)),
            eye_size=float(rng.uniform(0.2, 0.245)),
            brow_thickness=float(rng.uniform(0.05, 0.1)),
            brow_tilt=float(rng.uniform(-0.07, 0.02)),
            nose_length=float(rng.uniform(0.26, 0.36)),
            nose_width=float(rng.uniform(0.12, 0.2)),
            mouth_width=float(rng.uniform(0.34, 0.44)),
            mouth_drop=float(rng.uniform(0.42, 0.52)),
            lip_thickness=float(rng.uniform(0.06, 0.11)),
            smile=float(rng.uniform(-0.02, 0.08)),
            glasses=str(rng.choice(GLASSES)),
            beard=str(rng.choice(BEARDS)),
            hat=str(rng.choice(HATS)),
            earrings=bool(rng.random() < 0.15),
            blush=float(rng.uniform(0.0, 0.25)),
        )


@dataclass
class FaceState:
    """What a face does at one moment. The default is the neutral face that pictures show.

    `opening` 0 (closed) .. 1 (wide open); `width` 0 (rounded) .. 1 (spread), 0.5 at rest; `teeth` and `tongue` 0..1;
    `blink` 0 (open) .. 1 (shut); `brow` 0 (rest) .. 1 (raised); `gaze` of the eyes, each part from -1 to 1, and `turn`
    of the head in radians: x to the right of the picture, y downward; `shift` of the head in half face widths.
    """

    opening: float = 0.0
    width: float = 0.5
    teeth: float = 0.0
    tongue: float = 0.0
    blink: float = 0.0
    brow: float = 0.0
    gaze: tuple[float, float] = (0.0, 0.0)
    turn: tuple[float, float] = (0.0, 0.0)
    shift: tuple[float, float] = (0.0, 0.0)


def blend(first: Color, second: Color, amount: float) -> Color:
    """Mix two colours; `amount` 0 gives the first, 1 the second."""
    mixed = [(1 - amount) * a + amount * b for a, b in zip(first, second, strict=True)]
    return (mixed[0], mixed[1], mixed[2])


def shade(color: Color, factor: float) -> Color:
    """Darken (`factor` < 1) or lighten (> 1) a colour."""
    scaled = [min(255.0, max(0.0, value * factor)) for value in color]
    return (scaled[0], scaled[1], scaled[2])


def muted(rng: np.random.Generator, saturation: float) -> Color:
    """A random colour of at most the given saturation in 0..1, neither very dark nor glaring."""
    hue, strength, value = rng.random(), saturation * rng.random() ** 0.7, rng.uniform(0.25, 0.9)
    red, green, blue = colorsys.hsv_to_rgb(hue, strength, value)
    return (255 * red, 255 * green, 255 * blue)


def _vary(rng: np.random.Generator, color: Color, brightness: float, spread: float) -> Color:
    factor = 1 + rng.normal(0, brightness)
    moved = [float(np.clip(value * factor + rng.normal(0, spread), 4, 250)) for value in color]
    return (moved[0], moved[1], moved[2])
