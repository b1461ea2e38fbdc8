"""What is heard in a shot: voices, music, noise, and when who speaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from anytalker.miniature.episodes.music import play_music
from anytalker.miniature.episodes.plan import FPS, Line, Member, Shot
from anytalker.miniature.voices.augmentation import noise
from anytalker.miniature.voices.speech import (
    NEUTRAL,
    SAMPLE_RATE,
    Utterance,
    random_utterance,
    resample_visemes,
)

FRAME = SAMPLE_RATE // FPS
"""Samples a video frame."""

LEVEL = 0.06
"""Loudness (RMS) of a voice while it speaks."""

PAUSE = 0.3
"""Pauses up to this many seconds belong to what is said."""

_STEP = 0.01


@dataclass(frozen=True)
class Spoken:
    """A line that has been spoken.

    Attributes:
        speaker: index in the cast of whose voice is heard.
        mouth: index in the cast of whose lips move; None: nobody's who is visible.
        heard: spans (start, end) in seconds of the shot in which the voice is heard.
        mouthing: spans in which the lips move, if they are seen.
        dubbed: the lips say something else.
    """

    speaker: int
    mouth: int | None
    heard: list[tuple[float, float]]
    mouthing: list[tuple[float, float]]
    dubbed: bool


@dataclass
class ShotSound:
    """Sound and lips of a shot.

    Attributes:
        waveform: float32 (samples,) of the mix, 16 kHz.
        visemes: mouth shapes (frames, 4) for everyone of the cast whose lips move, by index.
        spoken: what is said.
    """

    waveform: np.ndarray
    visemes: dict[int, np.ndarray] = field(default_factory=dict)
    spoken: list[Spoken] = field(default_factory=list)


def record(shot: Shot, cast: Sequence[Member]) -> ShotSound:
    """Let a shot's people say their lines, and mix what is heard. Lips start with their line, the sound after `delay`.

    Args:
        shot: the plan.
        cast: of the episode.
    """
    samples = shot.frames * FRAME
    voices = np.zeros(samples, dtype=np.float32)
    sound = ShotSound(voices)
    for line in shot.lines:
        seen = said = _utterance(line, cast[line.speaker])
        if line.dubbed and line.mouth is not None:
            length = said.seconds
            seen = random_utterance(np.random.default_rng([line.seed, 1]), 0.9 * length, length, cast[line.mouth].voice)
        begin = (line.start + shot.delay) * FRAME
        waveform = _levelled(said.waveform)
        skip = max(0, -begin)
        heard = waveform[skip : skip + samples - begin - skip]
        voices[begin + skip : begin + skip + len(heard)] += heard
        spans = [(begin / SAMPLE_RATE + start, begin / SAMPLE_RATE + end) for start, end in voiced_spans(waveform)]
        at = line.start / FPS
        mouthing = [(at + start, at + end) for start, end in voiced_spans(seen.waveform)]
        sound.spoken.append(Spoken(line.speaker, line.mouth, spans, mouthing, line.dubbed))
        if line.mouth is not None:
            _move_lips(sound.visemes, line.mouth, seen, line.start, shot.frames)
    rng = np.random.default_rng([shot.seed, 5])
    voices += (noise(rng, samples) * LEVEL * 10 ** (-shot.noise / 20)).astype(np.float32)
    if shot.music is not None:
        voices += play_music(rng, samples) * np.float32(LEVEL * 10 ** (-shot.music / 20))
    _fade(voices)
    np.clip(voices, -1, 1, out=voices)
    return sound


def voiced_spans(waveform: np.ndarray) -> list[tuple[float, float]]:
    """Spans (start, end) in seconds in which a clean voice (samples,) is heard, short pauses included."""
    step = round(_STEP * SAMPLE_RATE)
    steps = len(waveform) // step
    if not steps:
        return []
    energy = np.sqrt(np.mean(np.square(waveform[: steps * step].reshape(steps, step), dtype=np.float64), axis=1))
    loud = np.flatnonzero(energy > 0.02 * np.percentile(energy, 95))
    if not len(loud):
        return []
    breaks = np.flatnonzero(np.diff(loud) > round(PAUSE / _STEP))
    firsts, lasts = np.concatenate([[0], breaks + 1]), np.concatenate([breaks, [len(loud) - 1]])
    return [
        (float(loud[first] * _STEP), float((loud[last] + 1) * _STEP)) for first, last in zip(firsts, lasts, strict=True)
    ]


def _utterance(line: Line, member: Member) -> Utterance:
    return random_utterance(np.random.default_rng([line.seed, 0]), *line.seconds, member.voice)


def _levelled(waveform: np.ndarray) -> np.ndarray:
    """The voice at `LEVEL` while it is heard."""
    loud = waveform[np.abs(waveform) > 0.02 * np.abs(waveform).max()]
    return waveform * np.float32(LEVEL / max(1e-6, float(np.sqrt(np.mean(np.square(loud, dtype=np.float64))))))


def _move_lips(visemes: dict[int, np.ndarray], mouth: int, seen: Utterance, start: int, frames: int) -> None:
    track = visemes.setdefault(mouth, np.tile(np.asarray(NEUTRAL, dtype=np.float32), (frames, 1)))
    length = min(frames - start, int(np.ceil(seen.seconds * FPS)))
    track[start : start + length] = resample_visemes(seen.visemes, length, FPS)


def _fade(waveform: np.ndarray, samples: int = 80) -> None:
    """Begin and end in silence, so that a cut doesn't click."""
    ramp = np.linspace(0, 1, samples, dtype=np.float32)
    waveform[:samples] *= ramp
    waveform[-samples:] *= ramp[::-1]
