"""Conversations of synthetic voices: people take turns as real ones do, with gaps, interruptions and short replies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anytalker.miniature.voices.sentences import random_sentence
from anytalker.miniature.voices.speech import _BASE_VOICES, _VARIANTS, SAMPLE_RATE, _draw, synthesize

_REPLIES = {
    "en": "Yes.|Right.|Okay.|Oh, really?|I see.|No way!", "de": "Ja.|Genau.|Ach so.|Stimmt.|Na gut.",
    "fr": "Oui.|D'accord.|Ah bon?|Voilà.", "es": "Sí.|Claro.|Vale.|¿De verdad?", "it": "Sì.|Certo.|Va bene.|Davvero?",
    "pt": "Sim.|Claro.|Está bem.|Sério?", "pl": "Tak.|No właśnie.|Dobrze.|Naprawdę?", "tr": "Evet.|Tamam.|Hadi ya?",
    "nl": "Ja.|Precies.|Oké.|Echt waar?",
}  # fmt: skip
_GAP_MEAN, _GAP_SPREAD, _GAP_MOST = 0.2, 0.5, 1.2
"""Seconds from the end of a turn to the next one's start; Stivers et al. 2009, Heldner and Edlund 2010."""
_REPLIES_A_TURN, _STAYS = 0.3, 0.25
_SILENT = 0.01


@dataclass(frozen=True)
class Speaker:
    """A synthetic person's voice, for `synthesize`.

    Attributes:
        voice: a language and a variant such as `en-us+f2`.
        speed_wpm: words a minute.
        pitch: 0 (low) to 99 (high).
        pitch_range: 0 (monotonous) to 99 (lively).
    """

    voice: str
    speed_wpm: int
    pitch: int
    pitch_range: int

    @property
    def language(self) -> str:
        """The language's code."""
        return self.voice.partition("+")[0].partition("-")[0]

    def say(self, text: str) -> np.ndarray:
        """float32 (samples,) at 16 kHz, without silence at either end."""
        waveform = synthesize(text, self.voice, self.speed_wpm, self.pitch, self.pitch_range).waveform
        heard = np.flatnonzero(np.abs(waveform) > _SILENT * np.abs(waveform).max())
        return waveform[heard[0] : heard[-1] + 1]


@dataclass(frozen=True)
class Conversation:
    """What was said.

    Attributes:
        streams: float32 (persons, samples), each person alone, 16 kHz.
        speakers: whose they are.
    """

    streams: np.ndarray
    speakers: tuple[Speaker, ...]


def random_speakers(rng: np.random.Generator, count: int, held_out: bool = False) -> tuple[Speaker, ...]:
    """People of different voices: no two have the same variant, or the plain voice of any language.

    Args:
        rng: a generator.
        count: people, up to 10.
        held_out: draw from the one half of all languages' variants, or from the other.
    """
    speakers: list[Speaker] = []
    variants: set[str] = set()
    while len(speakers) < count:
        base, variant = _draw(rng, _BASE_VOICES), _draw(rng, _VARIANTS)
        number = list(_BASE_VOICES).index(base) + list(_VARIANTS).index(variant)
        if variant in variants or number % 2 != held_out:
            continue
        variants.add(variant)
        voice = f"{base}+{variant}" if variant else base
        pitch, pitch_range = int(rng.integers(10, 91)), int(rng.integers(20, 91))
        speakers.append(Speaker(voice, int(rng.integers(120, 231)), pitch, pitch_range))
    return tuple(speakers)


def random_conversation(
    rng: np.random.Generator, speakers: tuple[Speaker, ...], seconds: float, spread_db: float = 4.0
) -> Conversation:
    """Let people talk with each other.

    Turns are one to three sentences. The next begins 0.2 s (deviation 0.5 s) after the last ends, so that near a third
    of all changes overlap, and now and then a listener says a word or two meanwhile.

    Args:
        rng: a generator.
        speakers: who talks; everybody does, if there is time.
        seconds: length of the recording.
        spread_db: standard deviation of the people's loudness.
    """
    streams = np.zeros((len(speakers), round(seconds * SAMPLE_RATE)), dtype=np.float32)
    gains = 10 ** (rng.normal(0, spread_db, len(speakers)) / 20)
    free = np.zeros(len(speakers))  # when each one has finished
    order = rng.permutation(len(speakers))
    speaker, end, turns = int(order[0]), float(rng.uniform(0.2, 1.0)), 0
    while True:
        gap = float(np.clip(rng.normal(_GAP_MEAN, _GAP_SPREAD), -_GAP_MOST, _GAP_MOST))
        start = max(end + gap, free[speaker] + 0.1, 0.0)
        turn = speakers[speaker].say(random_text(rng, speakers[speaker].language))
        if start + len(turn) / SAMPLE_RATE > seconds:
            return Conversation(streams / max(1.0, float(np.abs(streams.sum(axis=0)).max())), speakers)
        _place(streams[speaker], turn * gains[speaker], start)
        free[speaker] = end = start + len(turn) / SAMPLE_RATE
        listeners = [index for index in range(len(speakers)) if index != speaker]
        if listeners and rng.random() < _REPLIES_A_TURN:
            listener = int(rng.choice(listeners))
            reply = speakers[listener].say(str(rng.choice(_REPLIES[speakers[listener].language].split("|"))))
            moment = float(rng.uniform(start, end))
            if moment > free[listener] and moment + len(reply) / SAMPLE_RATE < seconds:
                _place(streams[listener], reply * gains[listener], moment)
                free[listener] = moment + len(reply) / SAMPLE_RATE
        turns += 1
        if turns < len(order):
            speaker = int(order[turns])
        elif listeners and rng.random() > _STAYS:
            speaker = int(rng.choice(listeners))


def random_text(rng: np.random.Generator, language: str) -> str:
    return " ".join(random_sentence(rng, language) for _ in range(int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))))


def _place(stream: np.ndarray, samples: np.ndarray, start: float) -> None:
    first = round(start * SAMPLE_RATE)
    stream[first : first + len(samples)] += samples[: len(stream) - first]
