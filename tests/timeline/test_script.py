"""Scripts: who says what, in plain text, Markdown and Fountain, and what is wrong with one."""

from __future__ import annotations

import numpy as np
import pytest

from anytalker.conventions import SAMPLE_RATE
from anytalker.errors import InputError
from anytalker.speech.engine import EspeakEngine
from anytalker.timeline.model import Person, SpokenVoice
from anytalker.timeline.script import parse_script, read_script
from anytalker.timeline.spoken import GAP_LEAST, GAP_MOST, INTERRUPTION, LEAD, timeline_of_script


class Metronome:
    """A voice that takes a tenth of a second a letter."""

    def __init__(self) -> None:
        self.asked = []

    def say(self, request):
        self.asked.append(request)
        return np.full(len(request.text) * SAMPLE_RATE // 10, 0.5, np.float32)

    def path(self, request):
        return None


def said(text: str, fountain: bool = False) -> list[tuple[str, str]]:
    return [(line.person, line.text) for line in parse_script(text, fountain=fountain).lines]


def test_plain_text_and_markdown() -> None:
    text = (
        "# Breakfast\n\n**Anna:** Hello, *everybody*!\n- Ben: Hi. I say\\: no\n  and more\n\n"
        "> ANNA: snake_case stays\n---\n\\Note: this goes on\nזהבה: שלום 😀 לכולם\n"
    )
    assert said(text) == [
        ("Anna", "Hello, everybody!"),
        ("Ben", "Hi. I say\\: no and more"),
        ("Anna", "snake_case stays Note: this goes on"),
        ("זהבה", "שלום 😀 לכולם"),
    ]
    script = parse_script("People: Ben, Anna, Carl\nAnna: Hello\nben: Hi")
    assert script.people == ["Ben", "Anna", "Carl"]


def test_tags() -> None:
    lines = parse_script(
        "Anna: Hello (laughs) there! [pause 0.5] How are you?\nBen: [de] [look at anna] Guten Tag --\n"
        "Carl: [with BEN] [strength 2] Hi\nAnna [fr]: Salut"
    ).lines
    assert [(line.text, line.pause) for line in lines[:2]] == [("Hello there!", None), ("How are you?", 0.5)]
    assert lines[0].direction == "laughs"
    assert (lines[2].text, lines[2].language, lines[2].look_at) == ("Guten Tag", "de", "Anna")
    assert lines[2].interrupted
    assert (lines[3].alongside, lines[3].strength) == ("Ben", 2)
    assert lines[4].language == "fr"


def test_fountain(tmp_path) -> None:
    path = tmp_path / "scene.fountain"
    path.write_text(
        "Title: A test\n\nINT. KITCHEN - DAY\n\nAnna comes in. SHE LOOKS AROUND.\n\n/* cut\n\nDAN\nNot here\n*/\n\n"
        "ANNA (O.S.)\n(whispers)\nIs *anybody* here?\n\nBEN ^\nYes. [[louder]]\n\n@McCoy\nMe, too.\n\nCUT TO:\n\n"
        "ANNA (CONT'D)\nGood.\n"
    )
    lines = read_script(path).lines
    assert [(line.person, line.text) for line in lines] == [
        ("ANNA", "Is anybody here?"),
        ("BEN", "Yes."),
        ("McCoy", "Me, too."),
        ("ANNA", "Good."),
    ]
    assert (lines[0].direction, lines[1].alongside) == ("whispers", "ANNA")


def test_a_pause_at_the_end_of_a_turn_comes_before_the_next_one() -> None:
    text = "Anna: Hello! [pause 2]\n\nBen: Hi.\n\n[pause 3]\n\nAnna: [pause 1] Well.\nBen: [with Anna] Yes. [pause 4]"
    lines = parse_script(text).lines
    assert [(line.person, line.text, line.pause) for line in lines] == [
        ("Anna", "Hello!", None),
        ("Ben", "Hi.", 2),
        ("Anna", "Well.", 1),
        ("Ben", "Yes.", None),
    ]


def test_comments_are_not_spoken_and_lines_keep_their_numbers() -> None:
    script = parse_script("Anna: Hello <!-- softly --> you\n<!-- not\nBen: said\n-->\nBen: Hi")
    assert [(line.number, line.text) for line in script.lines] == [(1, "Hello you"), (5, "Hi")]
    with pytest.raises(InputError, match="line 6: the brackets"):
        parse_script("ANNA\nYes [[a\nnote]] there\n\n\nBEN\n(what\n", fountain=True)


@pytest.mark.parametrize(
    ("text", "fountain"),
    [
        ("ANNA" + " " * 50_000 + "[\nHi\n", True),
        ("ANNA\nHi " + "/* [[ " * 50_000, True),
        ("Anna: a " + "-" * 50_000 + "!", False),
        ("Anna: Hi " + "<!-- " * 50_000, False),
    ],
)
def test_no_script_takes_forever(text: str, fountain: bool) -> None:
    with pytest.raises(InputError):
        parse_script(text, fountain=fountain)


BAD = {
    "nobody says it": ("Hello there\n", "line 1: nobody says 'Hello there'"),
    "nothing": ("# only a title\n", "nobody says anything"),
    "an empty turn": ("Anna: Hi\nBen:\n", "line 2: Ben says nothing"),
    "only a direction": ("Anna: (nods)\n", "line 1: Anna says nothing"),
    "only an emoji": ("Anna: 😀\n", "line 1: Anna says nothing"),
    "an open bracket": ("Anna: Hello [pause 0.5\n", "line 1: the brackets [] are not in pairs"),
    "a closing bracket": ("Anna: Hello laughs)\n", "line 1: the brackets () are not in pairs"),
    "brackets in brackets": ("Anna: Hello ((laughs))\n", "line 1: the brackets () are not in pairs"),
    "a negative pause": ("Anna: Hello [pause -1] you\n", "[pause -1] can't be used; give a number from 0 to 60"),
    "an endless pause": ("Anna: Hello [pause inf] you\n", "[pause inf] can't be used"),
    "an unknown tag": ("Anna: Hello [jumps] you\n", "there is no tag [jumps]; there are [pause 0.5]"),
    "an unknown speaker": ("People: Anna, Ben\nAnna: Hi\nCarl: Hi\n", "line 3: there is no Carl; there are Anna, Ben"),
    "with somebody unknown": ("Anna: Hi\nBen: [with Carl] Hi\n", "line 2: there is no Carl"),
    "with somebody who is silent": ("Anna: [with Ben] Hi\nBen: Hi\n", "[with Ben] stands before Ben says anything"),
    "with oneself": ("Anna: Hi\nAnna: [with Anna] Hi\n", "can't speak with themselves"),
    "10,000 lines": ("Anna: Hi\n" * 10000, "more than 5000 turns"),
    "60 people": ("\n".join(f"P{number}: Hi" for number in range(60)), "60 people; at most 50"),
    "a long turn": ("Anna: " + "word " * 2000, "has 9999 characters"),
}


@pytest.mark.parametrize(("text", "part"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_named_with_its_line(text: str, part: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_script(text, "talk.txt")
    assert part in str(caught.value)
    assert str(caught.value).startswith("talk.txt")
    assert "\n" not in str(caught.value)
    assert "type=" not in str(caught.value)


def test_turns_follow_as_people_take_them() -> None:
    text = "\n".join(f"{'Anna' if turn % 2 else 'Ben'}: {'word' * 5}" for turn in range(200))
    timeline = timeline_of_script(parse_script(text), engine=Metronome())
    gaps = [second.start - first.end for first, second in zip(timeline.turns, timeline.turns[1:], strict=False)]
    assert timeline.turns[0].start == LEAD
    assert 0.15 < np.median(gaps) < 0.25
    assert GAP_LEAST - 0.001 <= min(gaps) < 0 < 0.5 < max(gaps) <= GAP_MOST + 0.001
    assert timeline == timeline_of_script(parse_script(text), engine=Metronome())


def test_interruptions_overlaps_and_pauses_are_laid_out() -> None:
    text = "Anna: I wanted to say--\nBen: Stop it now.\nCarl: [with Ben] Yes.\n"
    text += "Anna: [pause 2] Well then. [pause 0.7] Good."
    anna, ben, carl, then, good = sorted(
        timeline_of_script(parse_script(text), engine=Metronome()).turns, key=lambda turn: (turn.start, turn.person)
    )
    assert anna.end - ben.start == pytest.approx(INTERRUPTION, abs=0.002)
    assert carl.start == ben.start
    assert then.start - max(ben.end, carl.end) == pytest.approx(2, abs=0.002)
    assert good.start - then.end == pytest.approx(0.7, abs=0.002)


def test_voices_are_chosen_by_name() -> None:
    engine = Metronome()
    people = [Person(name="ben", voice=SpokenVoice(name="de+f2", speed=1.5))]
    timeline = timeline_of_script(parse_script("Anna: Hello\nBen: Hallo\nAnna: [fr] Salut"), people, engine)
    assert [(one.place, one.voice, one.language, one.speed) for one in engine.asked] == [
        (0, None, None, 1.0),
        (1, "de+f2", None, 1.5),
        (0, None, "fr", 1.0),
    ]
    assert timeline.people[1].voice == people[0].voice
    with pytest.raises(InputError, match="nobody called Dan; there are Anna, Ben"):
        timeline_of_script(parse_script("Anna: Hello\nBen: Hi"), [Person(name="Dan")], engine)


def test_six_hours_are_enough() -> None:
    with pytest.raises(InputError, match="more than 6 hours from line 359 on"):
        timeline_of_script(parse_script("\n".join(["Anna: [pause 60] Hi"] * 361)), engine=Metronome())


def test_everybody_sounds_different() -> None:
    from anytalker.diarization.voice_encoder import embed_voice
    from anytalker.speech.engine import Request

    voices = np.stack(
        [embed_voice(EspeakEngine().say(Request("Good morning, how are you today?", place))) for place in range(6)]
    )
    likeness = voices @ voices.T - np.eye(6)
    assert likeness.max() < 0.85
