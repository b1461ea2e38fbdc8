"""From one recording of everybody to a timeline: who speaks when, and whose voice is whose."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anytalker.conventions import SAMPLE_RATE
from anytalker.errors import InputError
from anytalker.media.recordings import load_audio, read_recording
from anytalker.media.sound import Sound
from anytalker.timeline.model import MAX_TURNS, Person, Timeline, Turn, TurnSound, same_name

SAMPLE_SECONDS = 6.0
"""Of a voice that is written out, to tell by ear whose it is."""
_CHANNELS = ("left", "right")
_LEAST = 0.1
"""Seconds of the shortest turn."""


@dataclass(frozen=True)
class _Heard:
    """Voices of a recording.

    Attributes:
        turns: (voice, start, end), voices in the order of their first word.
        files: a name of the recording, or of one channel of it, a voice.
        embeddings: (voices, d) of norm 1.
    """

    turns: list[tuple[int, float, float]]
    files: list[str]
    embeddings: np.ndarray


def timeline_of_recording(
    path: str | Path,
    faces: int | None = None,
    speakers: int | None = None,
    references: Mapping[str, str | Path] | None = None,
) -> Timeline:
    """Find out who speaks when in a recording of everybody.

    Two channels with a person each are recognised; in any other recording voices are told apart by their sound, and
    nobody is separated from anybody: where two people speak at once, the louder one has the turn.

    Args:
        path: any audio or video file.
        faces: people in the picture. They are taken to be as many as the voices, unless `speakers` says otherwise.
        speakers: how many voices there are; None: as many as faces, and without these it is found out.
        references: name → a recording of that person's voice. Whose voice none of them is, is called "Speaker 3" by
            the order of first words.

    Returns:
        People with references in their order, then the others in the order of their first words.

    Raises:
        InputError: if nobody speaks, or there are more voices than faces or fewer than references.
    """
    references = dict(references or {})
    known = {name: load_audio(reference) for name, reference in references.items()}
    heard = _heard(path, faces, speakers, bool(known))
    count = len(heard.files)
    if faces is not None and count > faces:
        raise InputError(
            f"{path} has {count} voices, but the picture shows {faces} {'people' if faces != 1 else 'person'}. Give a "
            f"picture of {count}, or --speakers {faces} if there are no more."
        )
    if len(known) > count:
        raise InputError(f"{len(known)} voices were given with --voice-of, but {path} has {count}.")
    names = _names(heard, known)
    first = [names.index(name) for name in references]
    order = [*first, *(voice for voice in range(count) if voice not in first)]
    turns = [
        Turn(person=names[voice], start=start, end=end, sound=TurnSound(file=heard.files[voice], offset=start))
        for voice, start, end in heard.turns
    ]
    if len(turns) > MAX_TURNS:
        raise InputError(f"{path} has {len(turns)} turns; at most {MAX_TURNS} are possible. Cut it into parts.")
    return Timeline.checked({"people": [Person(name=names[voice]) for voice in order], "turns": turns})


def with_sound_of(timeline: Timeline, path: str | Path) -> Timeline:
    """A timeline whose turns without text and sound are heard in a recording of everybody, at the same times."""
    turns = [
        turn
        if turn.sound is not None or turn.text is not None
        else turn.model_copy(update={"sound": TurnSound(file=str(path), offset=turn.start)})
        for turn in timeline.turns
    ]
    return timeline.model_copy(update={"turns": tuple(turns)})


def voice_samples(
    timeline: Timeline, streams: Sequence[Sound], seconds: float = SAMPLE_SECONDS
) -> dict[str, np.ndarray]:
    """A short sample of everybody's voice, to tell by ear whose it is.

    Args:
        timeline: who speaks when.
        streams: everybody's recording on its clock, (samples,) at 16 kHz.
        seconds: how long a sample is at most.

    Returns:
        Name → float32 (samples,): the longest turn nobody else speaks in, or simply the longest.
    """
    found: dict[str, np.ndarray] = {}
    for person, stream in zip(timeline.people, streams, strict=True):
        turns = timeline.turns_of(person.name)
        if turns:
            alone = [
                turn
                for turn in turns
                if all(end <= turn.start or start >= turn.end for start, end in timeline.overlaps)
            ]
            longest = max(alone or turns, key=lambda turn: turn.seconds)
            end = min(longest.end, longest.start + seconds)
            found[person.name] = stream[round(longest.start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
    return found


def _heard(path: str | Path, faces: int | None, speakers: int | None, compare: bool) -> _Heard:
    recording = read_recording(path)
    if recording.two_voices and speakers in (None, 2):
        heard = _of_channels(path, compare)
    else:
        heard = _of_mixture(path, Sound(recording.samples), faces, speakers)
    if not heard.turns:
        raise InputError(f"Nobody speaks in {path}: is it music or noise only? Give a recording with voices.")
    return heard


def _of_channels(path: str | Path, compare: bool) -> _Heard:
    """A person a channel."""
    from anytalker.diarization.voice_activity import speech_spans
    from anytalker.diarization.voice_encoder import embed_voice

    files = [f"{path}:{side}" for side in _CHANNELS]
    sounds = [load_audio(file) for file in files]
    spans = [[span for span in speech_spans(sound) if span[1] - span[0] >= _LEAST] for sound in sounds]
    order = sorted((side for side in range(2) if spans[side]), key=lambda side: spans[side][0])
    embeddings = [embed_voice(_within(sounds[side], spans[side])) for side in order] if compare else []
    turns = sorted((voice, *span) for voice, side in enumerate(order) for span in spans[side])
    return _Heard(turns, [files[side] for side in order], np.array(embeddings))


def _of_mixture(path: str | Path, sound: Sound, faces: int | None, speakers: int | None) -> _Heard:
    """Voices told apart by their sound. They are counted first: more than faces must not be forced together."""
    from anytalker.diarization.diarize import diarize

    embedder = _Remembering()
    found = diarize(sound, speakers, embedder=embedder)
    if speakers is None and faces is not None and 0 < found.num_speakers < faces:
        found = diarize(sound, faces, embedder=embedder)
    turns = [(turn.speaker, turn.start, turn.end) for turn in found.turns]
    return _Heard(turns, [str(path)] * found.num_speakers, found.embeddings)


class _Remembering:
    """The package's embedder of voices, which doesn't do the same windows again."""

    def __init__(self) -> None:
        from anytalker.diarization.voice_encoder import GE2EEmbedder

        self._embedder = GE2EEmbedder()
        self.directions, self.variances = self._embedder.directions, self._embedder.variances
        self._known: dict[bytes, np.ndarray] = {}

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """See `VoiceEmbedder`."""
        key = hashlib.sha256(np.ascontiguousarray(windows).data).digest()
        if key not in self._known:
            self._known[key] = self._embedder(windows)
        return self._known[key]


def _within(samples: np.ndarray, spans: Sequence[tuple[float, float]]) -> np.ndarray:
    return np.concatenate([samples[round(a * SAMPLE_RATE) : round(b * SAMPLE_RATE)] for a, b in spans])


def _names(heard: _Heard, known: Mapping[str, np.ndarray]) -> list[str]:
    """What each voice is called: by the references that are most like them, one each."""
    names = {voice: f"Speaker {voice + 1}" for voice in range(len(heard.files))}
    if known:
        from scipy.optimize import linear_sum_assignment

        from anytalker.diarization.voice_activity import speech_spans
        from anytalker.diarization.voice_encoder import embed_voice

        references = []
        for name, samples in known.items():
            spans = speech_spans(samples)
            if not spans:
                raise InputError(
                    f"Nobody speaks in the recording of {name} that --voice-of names. Give one with a voice."
                )
            references.append(embed_voice(_within(samples, spans)))
        likeness = np.array(references) @ heard.embeddings.T
        for row, voice in zip(*linear_sum_assignment(-likeness), strict=True):
            names[int(voice)] = list(known)[row]
    if len({same_name(name) for name in names.values()}) < len(names):
        raise InputError("Two people have the same name; give each --voice-of another one.")
    return list(names.values())
