"""From one recording of everybody to turns, and whose voice is whose."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from anytalker.conventions import SAMPLE_RATE
from anytalker.diarization import resegmentation
from anytalker.errors import InputError
from anytalker.media.recordings import write_wave
from anytalker.miniature.episodes.music import play_music
from anytalker.timeline.model import Timeline, Turn
from anytalker.timeline.recording import timeline_of_recording, voice_samples, with_sound_of
from anytalker.timeline.script import parse_script
from anytalker.timeline.spoken import timeline_of_script
from anytalker.timeline.streams import streams

SCRIPT = (
    "Anna: Good morning everybody, did you see the game last night?\n"
    "Ben: [pause 0.4] Yes I did, and I could not believe the ending.\n"
    "Anna: [pause 0.4] And the goalkeeper ran all the way to the other side.\n"
    "Ben: [pause 0.4] You can watch it again tonight, I recorded everything.\n"
)


@pytest.fixture(scope="module")
def talk(tmp_path_factory) -> Path:
    """A folder with a conversation: mix.wav, two.wav with a person a channel, anna.wav and ben.wav with a turn each."""
    folder = tmp_path_factory.mktemp("talk")
    truth = timeline_of_script(parse_script(SCRIPT))
    truth.write(folder / "truth.json")
    voices = [voice[:] for voice in streams(truth)]
    write_wave(folder / "mix.wav", sum(voices))
    for name, samples in voice_samples(truth, voices).items():
        write_wave(folder / f"{name.lower()}.wav", samples)
    with wave.open(str(folder / "two.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.stack(voices, axis=1) * 32767).astype("<i2").tobytes())
    return folder


@pytest.fixture(scope="module", autouse=True)
def learned_once():
    """The same voices of the same recording are learned once."""
    known: dict[tuple, object] = {}

    def learn(sound, examples):
        key = (sound[:].tobytes(), repr(examples))
        known[key] = known.get(key) or really_learn(sound, examples)
        return known[key]

    really_learn = resegmentation._learn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resegmentation, "_learn", learn)
        yield


def rows(timeline: Timeline) -> list[tuple[str, float, float]]:
    return [(turn.person, turn.start, turn.end) for turn in timeline.turns]


def check_turns(found: Timeline, truth: Timeline, names: dict[str, str]) -> None:
    """Everybody speaks when they should, to a fifth of a second in all for each turn."""
    for turn in truth.turns:
        own = [(start, end) for name, start, end in rows(found) if name == names[turn.person]]
        heard = sum(max(0.0, min(end, turn.end) - max(start, turn.start)) for start, end in own)
        assert turn.seconds - heard < 0.4, turn


def test_voices_are_told_apart(talk) -> None:
    truth = Timeline.read(talk / "truth.json")
    found = timeline_of_recording(talk / "mix.wav", faces=2)
    assert [person.name for person in found.people] == ["Speaker 1", "Speaker 2"]
    check_turns(found, truth, {"Anna": "Speaker 1", "Ben": "Speaker 2"})
    first, second = streams(found)
    mixed = sum(voice[:] for voice in streams(truth))[: len(first)]
    middle = slice(round((truth.turns[1].start + 0.3) * SAMPLE_RATE), round((truth.turns[1].end - 0.3) * SAMPLE_RATE))
    assert not first[middle].any()
    np.testing.assert_allclose(second[middle], mixed[middle], atol=1e-3)


def test_samples_name_the_voices(talk) -> None:
    found = timeline_of_recording(talk / "mix.wav", 2, None, {"Ben": talk / "ben.wav"})
    assert [person.name for person in found.people] == ["Ben", "Speaker 1"]
    check_turns(found, Timeline.read(talk / "truth.json"), {"Anna": "Speaker 1", "Ben": "Ben"})
    two = timeline_of_recording(talk / "two.wav", 2, None, {"B": talk / "ben.wav", "A": talk / "anna.wav"})
    assert [person.name for person in two.people] == ["B", "A"]
    assert {turn.person: turn.sound.file[-5:] for turn in two.turns} == {"A": ":left", "B": "right"}


def test_a_person_a_channel(talk) -> None:
    found = timeline_of_recording(talk / "two.wav", faces=3)
    check_turns(found, Timeline.read(talk / "truth.json"), {"Anna": "Speaker 1", "Ben": "Speaker 2"})
    assert {turn.sound.file for turn in found.turns} == {f"{talk / 'two.wav'}:{side}" for side in ("left", "right")}


def test_more_voices_than_faces(talk) -> None:
    for name in ("mix.wav", "two.wav"):
        with pytest.raises(InputError, match=rf"{name} has 2 voices, but the picture shows 1 person\."):
            timeline_of_recording(talk / name, faces=1)
    assert len(timeline_of_recording(talk / "mix.wav", faces=1, speakers=1).people) == 1
    references = dict.fromkeys("ABC", talk / "ben.wav")
    with pytest.raises(InputError, match=r"3 voices were given with --voice-of, but .*mix\.wav has 2"):
        timeline_of_recording(talk / "mix.wav", 2, None, references)


def test_nobody_speaks_in_music(tmp_path) -> None:
    write_wave(tmp_path / "music.wav", 0.1 * play_music(np.random.default_rng(0), 8 * SAMPLE_RATE))
    with pytest.raises(InputError, match=r"Nobody speaks in .*music\.wav: is it music"):
        timeline_of_recording(tmp_path / "music.wav", faces=2)


def test_turns_of_other_programs_are_heard_in_the_recording() -> None:
    turns = [Turn(person="A", start=1, end=2), Turn(person="B", start=2, end=3, text="Hello")]
    first, second = with_sound_of(Timeline.of(turns), "talk.wav").turns
    assert (first.sound.file, first.sound.offset, second.sound) == ("talk.wav", 1, None)
