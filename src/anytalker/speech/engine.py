"""What speaks: one interface, and espeak-ng behind it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from anytalker.errors import InputError
from anytalker.speech.espeak import speak

VARIANTS = {
    "f2": 50, "m1": 35, "m7": 65, "belinda": 65, "Andrea": 65, "f4": 35,
    "m2": 65, "m3": 65, "f3": 65, "m6": 35, "m4": 35, "f1": 35,
}  # fmt: skip
"""espeak-ng's variants of a voice and their pitch, in the order in which people get them: each sounds, to the voice
encoder of `anytalker.diarization`, as unlike those before it as can be."""
_WORDS_A_MINUTE, _PITCH, _LIVELY = 165, 50, 55
"""espeak-ng's usual speed, pitch (0 to 99) and range of pitch (0 to 99)."""
_QUIET = 0.01
"""Share of the peak below which both ends are silence."""
_PEAK = 0.6


@dataclass(frozen=True)
class Request:
    """A text to be spoken.

    Attributes:
        text: in one line.
        place: the speaker's, counted from 0: different places have different voices.
        speaker: their name.
        voice: what the engine calls the voice; None: by the place.
        language: such as "de"; None: that of the voice.
        speed: 1 is usual.
        pitch: 1 is usual.
        number: of the turn, from 1, for engines that take what was recorded.
    """

    text: str
    place: int = 0
    speaker: str = ""
    voice: str | None = None
    language: str | None = None
    speed: float = 1.0
    pitch: float = 1.0
    number: int | None = None


class Speaker(Protocol):
    """Anything that speaks, a server that never says the same text twice in the same way included."""

    def say(self, request: Request) -> np.ndarray:
        """float32 (samples,) at 16 kHz in [-1, 1], without silence at either end.

        Raises:
            InputError: if it can't be said.
        """


class SpeechEngine(Speaker, Protocol):
    """Anything whose speech can be had again, made again or kept."""

    def path(self, request: Request) -> Path | None:
        """Where the sound of a text that was said lies; None where saying it again gives the same."""


class EspeakEngine:
    """espeak-ng: offline, many languages, the same samples for the same request."""

    def say(self, request: Request) -> np.ndarray:
        """See `Speaker.say`."""
        base, _, variant = (request.voice or "").partition("+")
        own, low = list(VARIANTS.items())[request.place % len(VARIANTS)]
        pitch = _PITCH if variant else low
        speed = min(450, max(80, round(_WORDS_A_MINUTE * request.speed)))
        voice = f"{request.language or base or 'en-us'}+{variant or own}"
        samples, _ = speak(request.text, voice, speed, min(99, max(0, round(pitch * request.pitch))), _LIVELY)
        return trimmed(samples, request.text)

    def path(self, request: Request) -> None:
        """See `SpeechEngine.path`."""


def trimmed(samples: np.ndarray, text: str) -> np.ndarray:
    """Speech (samples,) without silence at either end, its peak at 0.6.

    Raises:
        InputError: if nothing is to be heard.
    """
    peak = float(np.abs(samples).max(initial=0))
    if peak < 1e-4:
        raise InputError(f"Nothing is to be heard of the text {text[:60]!r}; give words of the voice's language.")
    heard = np.flatnonzero(np.abs(samples) > _QUIET * peak)
    return (samples[heard[0] : heard[-1] + 1] * (_PEAK / peak)).astype(np.float32)
