"""Voices go to the people that were chosen, and everybody else listens."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from anytalker import InputError
from anytalker.conditioning import binding
from anytalker.conditioning.binding import FaceMask, People, bind_faces, describe_people, parse_face

LEFT, MIDDLE, RIGHT, TINY = (10, 40, 60, 60), (120, 40, 60, 60), (220, 40, 60, 60), (90, 10, 12, 12)
PICTURE = Image.new("RGB", (300, 150))


@pytest.fixture(autouse=True)
def found(monkeypatch) -> None:
    def detect(picture, voices):
        everybody = [LEFT, TINY, MIDDLE, RIGHT]
        return everybody, [LEFT, MIDDLE, RIGHT][:voices]

    monkeypatch.setattr(binding, "detect_people", detect)


def mask(box) -> FaceMask:
    pixels = np.zeros((150, 300), dtype=np.uint8)
    x, y, width, height = box
    pixels[y : y + height, x : x + width] = 255
    return FaceMask(Image.fromarray(pixels))


def test_without_choices_voices_go_from_the_left_and_others_listen(monkeypatch) -> None:
    assert bind_faces(PICTURE, None, 2) == [LEFT, MIDDLE, RIGHT]
    monkeypatch.setattr(binding, "detect_people", lambda picture, voices: ([TINY, LEFT, RIGHT], [RIGHT]))
    assert bind_faces(PICTURE, None, 1) == [LEFT, RIGHT], "not the most prominent, nor somebody far away"


def test_known_faces_are_not_sought(monkeypatch) -> None:
    monkeypatch.setattr(binding, "detect_people", None)
    everybody = [TINY, LEFT, RIGHT]
    assert bind_faces(PICTURE, None, 1, known=everybody) == everybody
    assert bind_faces(PICTURE, [2], 1, known=everybody) == [LEFT, TINY, RIGHT]
    with pytest.raises(InputError, match="only 3 faces"):
        bind_faces(PICTURE, None, 4, known=everybody)


def test_a_line_says_who_speaks_and_who_listens() -> None:
    assert describe_people([RIGHT, LEFT], ["anna.wav"]) == (
        "anna.wav → person 2 from the left (at 220,40,60,60); person 1 listens."
    )
    assert describe_people([RIGHT, LEFT, MIDDLE, TINY], ["a.wav", None, "c.wav"]) == (
        "a.wav → person 4 from the left, c.wav → person 3; persons 1 and 2 listen."
    )


def test_as_many_as_there_are_voices_speak() -> None:
    assert bind_faces(PICTURE, None, 3) == [LEFT, MIDDLE, RIGHT]


def test_a_face_that_is_only_a_guess_is_said(monkeypatch) -> None:
    told: list[str] = []
    bind_faces(PICTURE, None, 3, told.append)
    assert told == []
    near = (LEFT[0] + 4, *LEFT[1:])
    monkeypatch.setattr(binding, "detect_people", lambda picture, voices: ([LEFT, RIGHT], [near, MIDDLE, RIGHT]))
    assert bind_faces(PICTURE, None, 3, told.append)[:3] == [near, MIDDLE, RIGHT]
    assert len(told) == 1
    assert "3 audios were given" in told[0]
    assert "what is at 120,40,60,60 (X" in told[0]


@pytest.mark.parametrize("choice", [4, np.int64(4), np.array(RIGHT), (250.0, 70.0), RIGHT, mask((200, 20, 90, 120))])
def test_every_way_to_choose_finds_the_same_person(choice) -> None:
    assert bind_faces(PICTURE, [choice, 1], 1) == [RIGHT, LEFT, MIDDLE]


def test_given_boxes_are_all_there_is() -> None:
    assert bind_faces(PICTURE, [RIGHT, LEFT], 2) == [RIGHT, LEFT]


def test_people_are_sought_once(monkeypatch) -> None:
    people = People(bind_faces(PICTURE, [RIGHT, (20.0, 60.0)], 1))
    monkeypatch.setattr(binding, "detect_people", None)
    assert bind_faces(PICTURE, people, 1) == [RIGHT, LEFT, MIDDLE]


def test_a_mask_without_a_face_is_taken_as_the_face() -> None:
    assert bind_faces(PICTURE, [mask((20, 110, 30, 30))], 1)[0] == (20, 110, 30, 30)


@pytest.mark.parametrize(
    ("choices", "voices", "reason"),
    [
        ([1], 2, "2 audios were given for 1 faces"),
        ([9], 1, "face 9 can't be chosen: 4 were found"),
        ([0], 1, "counted from 1"),
        ([(5.0, 5.0)], 1, "at the point 5,5; faces were found at 40,70"),
        ([1, LEFT], 2, "same person"),
        ([FaceMask(Image.new("L", (10, 10)), "small.png")], 1, "small.png is 10×10"),
        ([FaceMask(Image.new("L", (300, 150)), "black.png")], 1, "black.png is all black"),
        ([None], 1, "face None can't be used"),
        ([1.0], 1, "face 1.0 can't be used"),
        ([(1, 2, "3", 4)], 1, "can't be used; give a box"),
        ([{"in": 3}], 1, "can't be used; give a box"),
        (None, 4, "only 3 faces were found"),
    ],
)
def test_choices_that_fit_nobody_are_named(choices, voices, reason) -> None:
    with pytest.raises(InputError, match=reason):
        bind_faces(PICTURE, choices, voices)


def test_choices_are_read_from_text(tmp_path) -> None:
    assert parse_face("2") == 2
    assert parse_face("10,20.5") == (10.0, 20.5)
    assert parse_face("1,2,30,40") == (1, 2, 30, 40)
    mask((0, 0, 50, 50)).picture.save(tmp_path / "mask.png")
    assert parse_face(str(tmp_path / "mask.png")).picture.size == (300, 150)
    cut_out = Image.new("RGBA", (300, 150), (0, 0, 0, 0))
    cut_out.paste((255, 255, 255, 255), (200, 20, 290, 140))
    cut_out.save(tmp_path / "cut.png")
    assert bind_faces(PICTURE, [parse_face(str(tmp_path / "cut.png"))], 1)[0] == RIGHT
    for text in ("a,b", "", "1,2,3", "x"):
        with pytest.raises(InputError, match="malformed"):
            parse_face(text)
    with pytest.raises(InputError, match="no picture"):
        parse_face("nowhere.png")
