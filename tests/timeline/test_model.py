"""The timeline: checked at the door, and the same after a round trip."""

from __future__ import annotations

import json

import numpy as np
import pytest

from anytalker.errors import InputError
from anytalker.timeline.model import Person, Timeline, Turn
from tests.timeline.conversations import random_timeline

TURN = {"person": "Anna", "start": 0.0, "end": 1.0, "text": "Hello"}
GOOD = {"people": [{"name": "Anna"}, {"name": "Ben"}], "turns": [TURN]}


@pytest.mark.parametrize("seed", range(20))
def test_json_holds_everything(tmp_path, seed: int) -> None:
    timeline = random_timeline(seed)
    timeline.write(tmp_path / "talk.json")
    assert Timeline.read(tmp_path / "talk.json") == timeline


BAD = {
    "unknown person": (
        {"turns": [TURN | {"person": "Carl"}]},
        "Turn 1 names Carl, who isn't there; there are Anna, Ben",
    ),
    "unknown look": ({"turns": [TURN | {"look_at": "Carl"}]}, "names Carl"),
    "negative time": (
        {"turns": [TURN | {"start": -1}]},
        "turn 1, start: input should be greater than or equal to 0, not '-1'",
    ),
    "no time": ({"turns": [{"person": "Anna", "text": "x"}]}, "turn 1, start: field required"),
    "not a number": ({"turns": [TURN | {"end": "soon"}]}, "turn 1, end"),
    "not finite": ({"turns": [TURN | {"end": float("nan")}]}, "turn 1, end"),
    "backwards": ({"turns": [TURN | {"start": 2}]}, "starts at 2 s and ends at 1 s"),
    "empty in milliseconds": ({"turns": [TURN | {"start": 0.9999}]}, "the end must be later"),
    "nothing said": ({"turns": [TURN | {"text": " … 😀 "}]}, "nothing that can be said"),
    "twice at once": ({"turns": [TURN, TURN | {"start": 0.5, "end": 2}]}, "Anna would speak twice at 0.5 s"),
    "no turns": ({"turns": []}, "has no turns"),
    "nobody": ({"people": []}, "has no people"),
    "two of a name": ({"people": [{"name": "Anna"}, {"name": "ANNA"}]}, "same name"),
    "a name with a colon": ({"people": [{"name": "An:na"}]}, "can't be the name of a person"),
    "unknown field": ({"turns": [TURN | {"volume": 2}]}, "turn 1, volume"),
    "too many": ({"turns": [TURN] * 5001}, "has 5001 turns; at most 5000"),
    "too strong": ({"turns": [TURN | {"strength": 11}]}, "strength"),
    "later version": ({"version": 2}, "version"),
    "a face that is none": ({"people": [{"name": "Anna", "face": [1, 2, 3]}]}, "face"),
}


@pytest.mark.parametrize(("change", "part"), BAD.values(), ids=BAD)
def test_what_does_not_fit_is_named(tmp_path, change: dict, part: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(GOOD | change))
    with pytest.raises(InputError) as caught:
        Timeline.read(path)
    assert part in str(caught.value)
    assert "bad.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1]", "{", "null", '{"turns": 3}', "[" * 100000, "\0"])
def test_files_that_are_no_timelines(tmp_path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"bad\.json"):
        Timeline.read(path)


def test_a_video_record_holds_one(tmp_path) -> None:
    timeline = Timeline.checked(GOOD)
    (tmp_path / "record.json").write_text(json.dumps({"model": "tiny", "timeline": timeline.as_json()}))
    assert Timeline.read(tmp_path / "record.json") == timeline


def test_names_are_the_same_in_any_case_and_direction() -> None:
    turns = [Turn(person="ANNA", start=0, end=1, text="Hi"), Turn(person="\u202bבן\u202c", start=1, end=2, text="שלום")]
    timeline = Timeline.of(turns, [Person(name="Anna")])
    assert [person.name for person in timeline.people] == ["Anna", "בן"]
    assert [turn.person for turn in timeline.turns] == ["Anna", "בן"]
    assert timeline.person("anna").name == "Anna"


@pytest.mark.parametrize("seed", range(5))
def test_overlaps_and_pauses_follow_from_the_turns(seed: int) -> None:
    timeline = random_timeline(seed)
    moments = np.random.default_rng(seed).uniform(0, timeline.seconds, 500).round(4) + 0.00005
    for moment in moments:
        count = sum(turn.start <= moment < turn.end for turn in timeline.turns)
        assert any(start <= moment < end for start, end in timeline.overlaps) == (count > 1)
        assert any(start <= moment < end for start, end in timeline.pauses) == (count == 0)


def test_files_are_named_from_another_folder(tmp_path) -> None:
    data = GOOD | {"turns": [TURN | {"sound": {"file": "voices/a.wav:left", "offset": 2}}]}
    moved = Timeline.checked(data).relocated(tmp_path / "one", tmp_path / "two")
    assert moved.turns[0].sound.file == "../one/voices/a.wav:left"
    assert moved.relocated(tmp_path / "two", tmp_path / "one") == Timeline.checked(data)


def test_a_timeline_ends_with_its_video() -> None:
    timeline = Timeline.checked(GOOD | {"turns": [TURN, TURN | {"start": 2, "end": 3}]})
    assert [(turn.start, turn.end) for turn in timeline.until(2.5).turns] == [(0, 1), (2, 2.5)]
    assert timeline.until(0) is None
