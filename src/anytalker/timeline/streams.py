"""From a timeline to sound: one recording a person, all on one clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from anytalker.conventions import SAMPLE_RATE
from anytalker.errors import InputError
from anytalker.media.channels import split_channel
from anytalker.media.recordings import load_audio
from anytalker.media.sound import IN_MEMORY, Sound
from anytalker.speech.engine import Request, SpeechEngine
from anytalker.timeline.model import Person, Timeline, Turn

_AT_ONCE = 2**20
"""Samples that are made at a time."""
_FADE = round(0.01 * SAMPLE_RATE)
"""Samples of a fade, 10 ms."""
_FASTEST = 1.6
"""How much faster a text is spoken at most where its turn is too short for it."""
_TOLERANCE = 0.02
"""Share by which speech may be longer than its turn before it is spoken faster; twice that, and it is said."""


def streams(
    timeline: Timeline,
    folder: str | Path = ".",
    engine: SpeechEngine | None = None,
    in_memory: int = IN_MEMORY,
    say: Callable[[str], None] = lambda message: None,
) -> list[Sound]:
    """What each person says, on the timeline's clock.

    Everything is silent outside of turns. A sound that is longer than its turn is cut, a text that takes longer is
    spoken faster, up to 1.6 times, and then cut.

    Args:
        timeline: who says what when.
        folder: where relative names of sound files start.
        engine: what speaks texts; None: espeak-ng.
        in_memory: samples up to which a recording is kept in memory.
        say: told, in a sentence, when a text had to be cut.

    Returns:
        One recording (samples,) at 16 kHz a person, in their order, all of one length.

    Raises:
        InputError: if a turn has neither sound nor text, a file can't be read or ends before the turn begins.
    """
    files = _Files(Path(folder), in_memory)
    length = round(timeline.seconds * SAMPLE_RATE)
    found: list[Sound] = []
    for place, person in enumerate(timeline.people):
        source = _Source(person, place, files, engine, say)
        turns = timeline.turns_of(person.name)
        found.append(Sound.joined(_joined(turns, source, length), in_memory).placed(0, length))
    return found


def sound_files(timeline: Timeline, folder: str | Path = ".") -> list[Path]:
    """The sound files that a timeline names, each once, without their channels."""
    names = dict.fromkeys(turn.sound.file for turn in timeline.turns if turn.sound is not None)
    return list(dict.fromkeys(split_channel(Path(folder) / name)[0] for name in names))


def _joined(turns: list[Turn], source: _Source, length: int) -> Iterator[np.ndarray]:
    """A person's stream, part by part."""
    position = 0
    for turn in turns:
        first, last = round(turn.start * SAMPLE_RATE), round(turn.end * SAMPLE_RATE)
        yield from _silence(first - position)
        yield from source(turn, last - first)
        position = last
    yield from _silence(length - position)


def _silence(count: int) -> Iterator[np.ndarray]:
    for start in range(0, count, _AT_ONCE):
        yield np.zeros(min(_AT_ONCE, count - start), np.float32)


class _Files:
    """Recordings by name, each decoded once."""

    def __init__(self, folder: Path, in_memory: int) -> None:
        self._folder, self._in_memory = folder, in_memory
        self._read: dict[str, Sound] = {}

    def __getitem__(self, name: str) -> Sound:
        if name not in self._read:
            self._read[name] = Sound(load_audio(self._folder / name), self._in_memory)
        return self._read[name]


class _Source:
    """Where one person's turns come from."""

    def __init__(
        self, person: Person, place: int, files: _Files, engine: SpeechEngine | None, say: Callable[[str], None]
    ) -> None:
        self._person, self._place, self._files, self._engine, self._say = person, place, files, engine, say

    def __call__(self, turn: Turn, length: int) -> Iterator[np.ndarray]:
        """A turn's samples in parts, `length` in all."""
        if turn.sound is not None:
            return self._cut(turn, length)
        if turn.text is None:
            raise InputError(
                f"The turn of {turn.person} at {turn.start:g} s has neither sound nor text. Give one of them, or the "
                "whole recording with --recording."
            )
        return iter([self._spoken(turn, length)])

    def _cut(self, turn: Turn, length: int) -> Iterator[np.ndarray]:
        assert turn.sound is not None
        recording, first = self._files[turn.sound.file], round(turn.sound.offset * SAMPLE_RATE)
        if first >= len(recording):
            raise InputError(
                f"The turn of {turn.person} at {turn.start:g} s begins at {turn.sound.offset:g} s of "
                f"{turn.sound.file}, which lasts {len(recording) / SAMPLE_RATE:.3f} s."
            )
        sound = recording.placed(-first, length)
        for start in range(0, length, _AT_ONCE):
            part = sound[start : min(length, start + _AT_ONCE)]
            yield _faded(part, start == 0, start + len(part) == length)

    def _spoken(self, turn: Turn, length: int) -> np.ndarray:
        request = request_of(turn, self._person, self._place)
        engine = self._engine or default_engine()
        samples = engine.say(request)
        if len(samples) > (1 + _TOLERANCE) * length:
            samples = engine.say(replace(request, speed=request.speed * min(_FASTEST, len(samples) / length)))
        if len(samples) > (1 + 2 * _TOLERANCE) * length:
            self._say(
                f"{turn.person} says {request.text[:40]!r} from {turn.start:g} s on in "
                f"{len(samples) / SAMPLE_RATE:.1f} s at the fastest; it is cut at the turn's end, {turn.end:g} s."
            )
        fitted = np.zeros(length, np.float32)
        fitted[: len(samples)] = _faded(samples[:length], False, len(samples) > length)
        return fitted


def request_of(turn: Turn, person: Person, place: int, number: int | None = None) -> Request:
    """How a turn's text is spoken, for the person at a place, counted from 0."""
    voice = person.voice
    assert turn.text is not None
    return Request(
        turn.text,
        place,
        person.name,
        voice.name if voice else None,
        turn.language,
        voice.speed if voice else 1.0,
        voice.pitch if voice else 1.0,
        number,
    )


def default_engine() -> SpeechEngine:
    """espeak-ng."""
    from anytalker.speech.engine import EspeakEngine

    return EspeakEngine()


def _faded(samples: np.ndarray, begins: bool, ends: bool) -> np.ndarray:
    """With 10 ms of fading where a recording is cut."""
    count = min(_FADE, len(samples) // 2)
    ramp = np.linspace(0, 1, count, dtype=np.float32)
    if begins and count:
        samples = np.concatenate([samples[:count] * ramp, samples[count:]])
    if ends and count:
        samples = np.concatenate([samples[:-count], samples[-count:] * ramp[::-1]])
    return samples
