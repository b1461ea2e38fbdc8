"""The people of the drawn world: who they are (fixed for a clip) and what their faces do (frame by frame)."""

from __future__ import annotations

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
HAIR_STYLES = ("short", "long", "bun", "curly", "bald", "side", "fringe")
GLASSES = ("none", "none", "none", "round", "square")
BEARDS = ("none", "none", "none", "none", "full", "moustache", "goatee")
HATS = ("none", "none", "none", "none", "none", "none", "beanie", "cap")


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
        skin = _vary(rng, SKIN_TONES[rng.integers(len(SKIN_TONES))], 10)
        hair = _vary(rng, HAIR_COLORS[rng.integers(len(HAIR_COLORS))], 12)
        if sum(abs(a - b) for a, b in zip(skin, hair, strict=True)) < 60:
            hair = shade(hair, 0.55)
        redness = rng.uniform(0.25, 0.6)
        lips = blend(shade(skin, 0.82), (176, 50, 60), redness)
        clothes = tuple(float(value) for value in rng.uniform(25, 225, 3))
        return cls(
            skin=skin,
            hair_color=hair,
            hair_style=str(rng.choice(HAIR_STYLES)),
            clothes=clothes,  # type: ignore[arg-type]
            collar=shade(clothes, float(rng.uniform(0.6, 1.4))),  # type: ignore[arg-type]
            lips=lips,
            iris=IRIS_COLORS[rng.integers(len(IRIS_COLORS))],
            face_height=float(rng.uniform(1.18, 1.36)),
            jaw=float(rng.uniform(0.72, 0.95)),
            eye_spacing=float(rng.uniform(0.38, 0.46)),
            eye_size=float(rng.uniform(0.17, 0.215)),
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

    `opening` 0 (closed) .. 1 (wide open); `width` 0 (rounded) .. 1 (spread), 0.5 at rest; `teeth` 0..1;
    `blink` 0 (open) .. 1 (shut); `brow` 0 (rest) .. 1 (raised); gaze and head shift in units of half a face width,
    x to the right and y downward.
    """

    opening: float = 0.0
    width: float = 0.5
    teeth: float = 0.0
    blink: float = 0.0
    brow: float = 0.0
    gaze: tuple[float, float] = (0.0, 0.0)
    shift: tuple[float, float] = (0.0, 0.0)


def face_states(
    visemes: np.ndarray, fps: float, rng: np.random.Generator, gaze: tuple[float, float]
) -> list[FaceState]:
    """Turn visemes, one row a video frame, into a living face: lips follow them, the rest goes with them.

    Args:
        visemes: (frames, 3) float in 0..1: opening, width, teeth; all zeros in silence.
        fps: video frames a second.
        rng: source of the blinks.
        gaze: where the eyes rest during the clip.

    Returns:
        One state a frame. Head and brows move only with the voice (its slow emphasis), so a listener holds still
        but blinks.
    """
    frames = len(visemes)
    opening = visemes[:, 0]
    emphasis = _smooth(opening, max(3, int(round(0.35 * fps))))
    blink = np.zeros(frames)
    moment = rng.exponential(2.8)
    while moment < frames / fps:
        distance = np.abs((np.arange(frames) + 0.5) / fps - moment)
        blink = np.maximum(blink, np.clip(1.6 - distance / 0.055, 0, 1))
        moment += 0.6 + rng.exponential(2.8)
    voiced = np.clip(opening * 6, 0, 1)
    width = 0.5 + (visemes[:, 1] - 0.5) * voiced
    return [
        FaceState(
            opening=float(opening[i]),
            width=float(width[i]),
            teeth=float(visemes[i, 2] * voiced[i]),
            blink=float(blink[i]),
            brow=float(np.clip(emphasis[i] * 1.2 - 0.15, 0, 1)),
            gaze=gaze,
            shift=(0.0, float(-0.05 * emphasis[i])),
        )
        for i in range(frames)
    ]


def blend(first: Color, second: Color, amount: float) -> Color:
    """Mix two colours; `amount` 0 gives the first, 1 the second."""
    mixed = [(1 - amount) * a + amount * b for a, b in zip(first, second, strict=True)]
    return (mixed[0], mixed[1], mixed[2])


def shade(color: Color, factor: float) -> Color:
    """Darken (`factor` < 1) or lighten (> 1) a colour."""
    scaled = [min(255.0, max(0.0, value * factor)) for value in color]
    return (scaled[0], scaled[1], scaled[2])


def _vary(rng: np.random.Generator, color: Color, spread: float) -> Color:
    moved = [float(np.clip(value + rng.normal(0, spread), 4, 252)) for value in color]
    return (moved[0], moved[1], moved[2])


def _smooth(signal: np.ndarray, width: int) -> np.ndarray:
    kernel = np.hanning(width + 2)[1:-1]
    padded = np.pad(signal, (width, width), mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="same")[width:-width]
