"""From a timeline to one recording a person, in memory that doesn't grow with it."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from anytalker.conventions import SAMPLE_RATE
from anytalker.errors import InputError
from anytalker.media.recordings import write_wave
from anytalker.timeline.model import Timeline
from anytalker.timeline.streams import sound_files, streams

RAMP = np.linspace(-0.9, 0.9, 4 * SAMPLE_RATE, dtype=np.float32)


def timeline(*turns: dict) -> Timeline:
    return Timeline.checked({"people": [{"name": "Anna"}, {"name": "Ben"}], "turns": turns})


def turn(person: str, start: float, end: float, **more) -> dict:
    return {"person": person, "start": start, "end": end, **more}


def test_turns_lie_where_they_belong(tmp_path) -> None:
    write_wave(tmp_path / "a.wav", RAMP)
    talk = timeline(
        turn("Anna", 1, 2, sound={"file": "a.wav", "offset": 0.5}),
        turn("Anna", 2, 2.5, sound={"file": "a.wav"}),
        turn("Ben", 1.5, 5, sound={"file": "a.wav", "offset": 3}),
    )
    anna, ben = streams(talk, tmp_path)
    assert len(anna) == len(ben) == 5 * SAMPLE_RATE
    assert not anna[:SAMPLE_RATE].any()
    assert not anna[int(2.5 * SAMPLE_RATE) :].any()
    inner = slice(200, SAMPLE_RATE - 200)
    np.testing.assert_allclose(anna[SAMPLE_RATE : 2 * SAMPLE_RATE][inner], RAMP[8000:24000][inner], atol=1e-4)
    assert abs(anna[SAMPLE_RATE : SAMPLE_RATE + 1][0]) < 0.01
    assert not ben[int(2.5 * SAMPLE_RATE) :].any()
    assert sound_files(talk, tmp_path) == [tmp_path / "a.wav"]


def test_texts_fit_their_turns() -> None:
    said = []
    talk = timeline(
        turn("Anna", 0, 0.45, text="Good morning."),
        turn("Ben", 0, 0.2, text="How are you?"),
        turn("Anna", 1, 4, text="Fine."),
    )
    anna, ben = streams(talk, say=said.append)
    assert np.abs(anna[: int(0.45 * SAMPLE_RATE)]).max() > 0.3
    assert not anna[int(0.45 * SAMPLE_RATE) : SAMPLE_RATE].any()
    assert len(said) == 1
    assert said[0].startswith("Ben says 'How are you?' from 0 s on")
    assert np.abs(ben[3000:3200]).max() < np.abs(ben[:]).max()
    assert np.array_equal(streams(talk)[0][:], anna[:])


def test_what_can_not_be_heard_is_named(tmp_path) -> None:
    write_wave(tmp_path / "a.wav", RAMP)
    with pytest.raises(InputError, match=r"turn of Ben at 1 s has neither sound nor text"):
        streams(timeline(turn("Ben", 1, 2)))
    with pytest.raises(InputError, match=r"begins at 4 s of a\.wav, which lasts 4\.000 s"):
        streams(timeline(turn("Ben", 1, 2, sound={"file": "a.wav", "offset": 4})), tmp_path)
    with pytest.raises(InputError, match=r"There is no audio file .*b\.wav"):
        streams(timeline(turn("Ben", 1, 2, sound={"file": "b.wav"})), tmp_path)
    with pytest.raises(InputError, match="espeak-ng has no voice"):
        streams(timeline(turn("Ben", 1, 2, text="Hi", language="xyz")))


def test_hours_take_little_memory(tmp_path) -> None:
    write_wave(tmp_path / "a.wav", RAMP)
    turns = [turn("Anna", 60 * number, 60 * number + 3, sound={"file": "a.wav"}) for number in range(20)]
    tracemalloc.start()
    talk = timeline(*turns, turn("Ben", 1199, 1200, text="Good bye."))
    anna, ben = streams(talk, tmp_path, in_memory=2**16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(anna) == len(ben) == 1200 * SAMPLE_RATE
    assert np.abs(anna[SAMPLE_RATE * 60 * 19 :][: 2 * SAMPLE_RATE]).max() > 0.5
    assert peak < 30e6
