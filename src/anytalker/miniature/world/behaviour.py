"""How the drawn people behave: speakers, people who are alone, and the listeners of the duo set, who look and react."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anytalker.miniature.world.people import FaceState

LOOK = 0.85
"""How far the eyes go sideways to look at a neighbour."""

LOOK_TURN = 0.1
"""How far the head follows them, in radians."""

LOOK_DELAY = 1 / 6
"""Seconds until the eyes follow a change of speaker: always as long, since a model draws what it can't know blurred."""


def talk(visemes: np.ndarray, fps: float, rng: np.random.Generator, gaze: tuple[float, float]) -> list[FaceState]:
    """A person alone, one row of visemes a video frame: lips follow the voice, the rest goes with it.

    Args:
        visemes: (frames, 4) float in 0..1: opening, width, teeth, tongue; all zeros in silence.
        fps: video frames a second.
        rng: source of blinks and glances.
        gaze: where the eyes rest.

    Returns:
        One state a frame. Head and brows move with the emphasis of the voice; eyes blink and wander now and then,
        whether the person speaks or not.
    """
    glances = wander(len(visemes), fps, rng, gaze)
    return _states(visemes, fps, rng, glances, np.zeros((len(visemes), 2)), np.zeros(len(visemes)))


def converse(
    visemes: Sequence[np.ndarray], fps: float, rng: np.random.Generator, gazes: Sequence[tuple[float, float]]
) -> list[list[FaceState]]:
    """People side by side who talk to each other: whoever listens looks at whoever speaks, nods and raises brows.

    Args:
        visemes: one array (frames, 4) a person, left to right, all of one length; see `talk`.
        fps: video frames a second.
        rng: source of everything else they do.
        gazes: where each person's eyes rest while nobody speaks, and while they speak themselves.

    Returns:
        For each person one state a frame.
    """
    speaking = np.stack([is_speaking(track, fps) for track in visemes])
    states = []
    for index, track in enumerate(visemes):
        side = attention(speaking, index)
        frames = len(track)
        gaze = np.empty((frames, 2))
        for frame in range(frames):
            rest = np.asarray(gazes[index]) * (0.5, 1.0)
            gaze[frame] = (side[frame] * LOOK, 0.0) if side[frame] else rest
        rng.integers(2, 6)  # not needed any more, but a seed's other choices stay what they were
        delay = int(round(LOOK_DELAY * fps))
        gaze = np.concatenate([np.repeat(gaze[:1], delay, 0), gaze])[:frames]
        gaze = np.stack([_smooth(gaze[:, axis], 3) for axis in range(2)], axis=1)
        turn = np.zeros((frames, 2))
        turn[:, 0] = _smooth(gaze[:, 0], int(round(0.4 * fps))) / LOOK * LOOK_TURN
        listening = speaking.any(axis=0) & ~speaking[index]
        nods, brows = _reactions(listening, fps, rng)
        turn[:, 1] += nods
        states.append(_states(track, fps, rng, gaze, turn, brows))
    return states


def is_speaking(visemes: np.ndarray, fps: float, gap_seconds: float = 0.35) -> np.ndarray:
    """Boolean (frames,): within an utterance; pauses up to `gap_seconds` belong to it."""
    open_mouth = visemes[:, 0] > 0.05
    reach = int(round(gap_seconds * fps / 2))
    kernel = np.ones(2 * reach + 1)
    grown = np.convolve(open_mouth, kernel, mode="same") > 0
    return np.convolve(~grown, kernel, mode="same") == 0


def attention(speaking: np.ndarray, person: int) -> np.ndarray:
    """Where a person looks: −1 to the left, 1 to the right, at whoever else speaks; 0 elsewhere.

    Args:
        speaking: boolean (people, frames), people from left to right.
        person: whose eyes these are. While speaking, and while nobody does, they are free; of several speakers the
            nearest is looked at, the left one of two as near.
    """
    people, frames = speaking.shape
    side = np.zeros(frames)
    for frame in np.flatnonzero(~speaking[person]):
        others = [other for other in range(people) if other != person and speaking[other, frame]]
        if others:
            nearest = min(others, key=lambda other: abs(other - person))
            side[frame] = np.sign(nearest - person)
    return side


def wander(frames: int, fps: float, rng: np.random.Generator, gaze: tuple[float, float]) -> np.ndarray:
    """Gaze (frames, 2) that rests at `gaze` and glances elsewhere for moments."""
    track = np.tile(np.asarray(gaze, dtype=float), (frames, 1))
    moment = rng.exponential(2.5)
    while moment < frames / fps:
        length = rng.uniform(0.4, 1.2)
        first, last = int(moment * fps), int((moment + length) * fps) + 1
        track[max(1, first) : last] = (rng.uniform(-0.9, 0.9), rng.uniform(-0.4, 0.4))
        moment += length + 0.5 + rng.exponential(2.5)
    return track


def _reactions(listening: np.ndarray, fps: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Nods (radians, down is positive) and raised brows of a listener: (frames,) each."""
    frames = len(listening)
    nods, brows = np.zeros(frames), np.zeros(frames)
    times = np.arange(frames) / fps
    moment = rng.uniform(0.2, 1.5)
    while moment < frames / fps:
        if listening[int(moment * fps)]:
            length = rng.uniform(0.45, 0.8)
            phase = np.clip((times - moment) / length, 0, 1)
            if rng.random() < 0.6:
                nods += rng.uniform(0.06, 0.12) * np.sin(np.pi * phase) ** 2
            else:
                brows += rng.uniform(0.5, 1.0) * np.sin(np.pi * phase)
        moment += 0.6 + rng.exponential(1.0)
    return nods, np.clip(brows, 0, 1)


def _states(
    visemes: np.ndarray,
    fps: float,
    rng: np.random.Generator,
    gaze: np.ndarray,
    turn: np.ndarray,
    brows: np.ndarray,
) -> list[FaceState]:
    frames = len(visemes)
    opening = visemes[:, 0]
    emphasis = _smooth(opening, max(3, int(round(0.35 * fps))))
    blink = _blinks(frames, fps, rng)
    voiced = np.clip(opening * 6, 0, 1)
    width = 0.5 + (visemes[:, 1] - 0.5) * voiced
    return [
        FaceState(
            opening=float(opening[i]),
            width=float(width[i]),
            teeth=float(visemes[i, 2] * voiced[i]),
            tongue=float(visemes[i, 3] * voiced[i]),
            blink=float(blink[i]),
            brow=float(np.clip(emphasis[i] * 1.2 - 0.15 + brows[i], 0, 1)),
            gaze=(float(gaze[i, 0]), float(gaze[i, 1])),
            turn=(float(turn[i, 0]), float(turn[i, 1])),
            shift=(0.0, float(-0.05 * emphasis[i])),
        )
        for i in range(frames)
    ]


def _blinks(frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    blink = np.zeros(frames)
    moment = rng.exponential(2.8)
    while moment < frames / fps:
        distance = np.abs((np.arange(frames) + 0.5) / fps - moment)
        blink = np.maximum(blink, np.clip(1.6 - distance / 0.055, 0, 1))
        moment += 0.6 + rng.exponential(2.8)
    return blink


def _smooth(signal: np.ndarray, width: int) -> np.ndarray:
    kernel = np.hanning(width + 2)[1:-1]
    padded = np.pad(signal, (width, width), mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="same")[width:-width]
