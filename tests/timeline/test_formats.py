"""Subtitles and RTTM: there and back, and messages that name the place."""

from __future__ import annotations

import pytest

from anytalker.errors import InputError
from anytalker.timeline import formats
from anytalker.timeline.formats import read_timeline, write_timeline
from anytalker.timeline.model import Timeline, Turn
from tests.timeline.conversations import random_timeline


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", ["srt", "vtt", "rttm"])
def test_round_trips_keep_what_the_format_holds(tmp_path, kind: str, seed: int) -> None:
    timeline = random_timeline(seed)
    path = tmp_path / f"talk.{kind}"
    write_timeline(timeline, path)
    found = read_timeline(path)

    def held(one):
        return sorted(
            (turn.start, turn.end, turn.person, "" if kind == "rttm" else str(turn.text)) for turn in one.turns
        )

    assert held(found) == held(timeline)
    first = path.read_bytes()
    write_timeline(found, path)
    assert sorted(path.read_bytes().split()) == sorted(first.split())


@pytest.mark.parametrize("kind", ["srt", "vtt", "rttm"])
def test_names_that_begin_like_lines_of_subtitles_are_kept(tmp_path, kind: str) -> None:
    names = ["-Anna", "– Ben", "- Carl"]
    turns = [Turn(person=name, start=at, end=at + 1, text="Well") for at, name in enumerate(names)]
    write_timeline(Timeline.of(turns), tmp_path / f"talk.{kind}")
    read = read_timeline(tmp_path / f"talk.{kind}")
    assert [person.name for person in read.people] == names


def test_markup_without_an_end_takes_no_time() -> None:
    assert formats._VTT_MARKUP.sub("", "<b " * 100_000) == "<b " * 100_000


def test_subtitles_of_other_programs(tmp_path) -> None:
    path = tmp_path / "a.srt"
    path.write_text(
        "\ufeff1\r\n00:00:01,000 --> 00:00:02,500\r\n- Anna: <i>Hello</i>\r\n there\r\n- Ben: Hi!\r\n\r\n\r\n"
    )
    assert [(turn.person, turn.text) for turn in read_timeline(path).turns] == [("Anna", "Hello there"), ("Ben", "Hi!")]
    path = tmp_path / "a.vtt"
    path.write_text(
        "WEBVTT - title\n\nSTYLE\n::cue { color: red }\n\nNOTE who\n\nintro\n00:01.000 --> 00:02.500 line:0\n"
        "<v.loud Anna Lee>Hello &amp; <b>goodbye</b>\n\n00:03.000 --> 00:04.000\nBen: Hi!\n"
    )
    turns = read_timeline(path).turns
    assert [(turn.person, turn.text) for turn in turns] == [
        ("Anna Lee", "Hello & goodbye"),
        ("Ben", "Hi!"),
    ]


CUE = "1\n00:00:01,000 --> 00:00:02,000\n"
BAD = {
    "nobody's": ("srt", CUE + "Hello\n", "cue 1 says nobody's name"),
    "nothing": ("srt", CUE, "cue 1 is empty"),
    "no words": ("srt", CUE + "Anna: 😀\n", "nothing that can be said"),
    "negative": ("srt", "1\n-00:00:01,000 --> 00:00:02,000\nAnna: Hi\n", "negative"),
    "backwards": ("srt", "1\n00:00:03,000 --> 00:00:02,000\nAnna: Hi\n", "the end must be later"),
    "no times": ("srt", "1\nsoon --> later\nAnna: Hi\n", "cue 1"),
    "no cue": ("srt", "Anna says hello\n", "is no cue"),
    "no header": ("vtt", CUE + "<v Anna>Hi\n", "doesn't begin with WEBVTT"),
    "empty": ("vtt", "WEBVTT\n", "holds no turns"),
    "a bad name": ("vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\n<v {x}>Hi\n", "can't be the name"),
    "few fields": ("rttm", "SPEAKER x 1 0.5\n", "line 1 is no RTTM"),
    "negative RTTM": ("rttm", "SPEAKER x 1 -0.5 1 <NA> <NA> a <NA> <NA>\n", "negative"),
    "two recordings": (
        "rttm",
        "SPEAKER x 1 0.5 1 <NA> <NA> a <NA> <NA>\nSPEAKER y 1 0.5 1 <NA> <NA> a <NA> <NA>\n",
        "line 2 is of the recording y, the lines before are of x",
    ),
    "nobody": ("rttm", ";; nothing\n", "holds no turns"),
    "no text": ("srt", "\0\0", "no text"),
    "many": ("rttm", "SPEAKER x 1 0.5 1 <NA> <NA> a <NA> <NA>\n" * 5001, "more than 5000"),
    "other": ("txt", "x", "must end in"),
}


@pytest.mark.parametrize(("kind", "text", "part"), BAD.values(), ids=BAD)
def test_what_can_not_be_read_is_named(tmp_path, kind: str, text: str, part: str) -> None:
    path = tmp_path / f"bad.{kind}"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_timeline(path)
    assert part in str(caught.value)
    assert "bad." in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text(tmp_path) -> None:
    (tmp_path / "bad.srt").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="UTF-8"):
        read_timeline(tmp_path / "bad.srt")
