"""The people on the page: found, picked, drawn, and given voices out of a script or one recording."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from anytalker.errors import InputError
from anytalker.media.recordings import load_audio, write_wave
from anytalker.studio import fill
from anytalker.studio.cast import Cast


def test_people_of_a_picture_are_found_from_left_to_right(desk, picture) -> None:
    cast = desk.cast_of(picture)
    assert [one.name for one in cast.members] == ["Person 1", "Person 2"]
    assert cast.members[0].box[0] < cast.members[1].box[0]
    assert not cast.consent


def test_a_picture_without_faces_can_be_worked_on(desk, tmp_path) -> None:
    Image.new("RGB", (320, 200), "navy").save(tmp_path / "empty.png")
    cast = desk.cast_of(tmp_path / "empty.png")
    assert cast.members == ()
    assert cast.clicked(100, 100).members[0].box == (75, 75, 50, 50)


def test_what_is_no_picture_is_refused_and_leaves_nothing(desk, tmp_path) -> None:
    (tmp_path / "note.png").write_text("a note")
    with pytest.raises(InputError, match="picture"):
        desk.cast_of(tmp_path / "note.png")
    assert list(desk.folder.iterdir()) == []


def test_a_click_removes_a_person_and_finds_them_again(example) -> None:
    x, y, width, height = example.members[0].box
    middle = (x + width // 2, y + height // 2)
    one = example.clicked(*middle)
    assert [member.name for member in one.members] == ["Ben"]
    both = one.clicked(*middle)
    assert len(both.members) == 2
    assert both.members[1] == one.members[0], "the row on the right keeps its voice"
    assert both.members[0].voice is None


def test_a_box_is_drawn_by_its_corners_and_cut_at_the_edge(example) -> None:
    alone = Cast(example.picture)
    assert alone.drawn((90, 120), (-10, 20)).members[0].box == (0, 20, 90, 100)
    with pytest.raises(InputError):
        alone.drawn((90, 120), (90, 120))


def test_nobody_is_there_twice(example) -> None:
    with pytest.raises(InputError, match="same person"):
        example.with_box(example.members[0].box)


def test_the_picture_shows_names(example) -> None:
    plain, named = example.opened(), example.marked()
    assert named.size == plain.size
    assert named.tobytes() != plain.tobytes()
    anna, ben = example.members
    assert example.with_rows({anna.id: replace(anna, name="Cleo")}).marked().tobytes() != named.tobytes()
    assert example.with_rows({ben.id: replace(ben, listens=True)}).marked().tobytes() != named.tobytes()
    assert example.marked((40, 40)).tobytes() != named.tobytes()


def test_only_uploads_are_read(desk, recording, tmp_path) -> None:
    assert desk.checked(str(recording)) == recording.resolve()
    (desk.uploads / "link.wav").symlink_to("/etc/hostname")
    for path in ("/etc/passwd", str(desk.uploads / ".." / ".." / "jobs.sqlite3"), str(desk.uploads / "link.wav")):
        with pytest.raises(InputError):
            desk.checked(path)


def test_a_script_fills_the_rows_by_name(desk, example) -> None:
    filled = fill.from_script(desk, example, "Ben: Hello there!\nCleo: Good morning.")
    assert [one.name for one in filled.members] == ["Cleo", "Ben"]
    cleo, ben = (load_audio(one.voice) for one in filled.members)
    assert len(cleo) == len(ben)
    assert abs(ben[:8000]).max() > 0.1 > abs(cleo[:4000]).max(), "Ben begins"


@pytest.mark.parametrize(
    ("script", "said"), [("A: Hi.\nB: Hi.\nC: Hi.", "3 people speak"), ("", "script"), ("no colon", "script")]
)
def test_scripts_that_do_not_fit_are_refused(desk, example, script, said) -> None:
    with pytest.raises(InputError, match=f"(?i){said}"):
        fill.from_script(desk, example, script)


def test_the_page_speaks_of_no_files_and_options(desk, example, monkeypatch) -> None:
    def refuse(path, faces):
        raise InputError(f"{path} has 3 voices, and there are 2 people. Draw them, or --speakers 2 if that is all.")

    monkeypatch.setattr("anytalker.timeline.recording.timeline_of_recording", refuse)
    with pytest.raises(InputError, match=r"^The recording has 3 voices, and there are 2 people\. Draw them\.$"):
        fill.from_recording(desk, example, example.members[0].voice)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_diarization")
def test_one_recording_fills_the_rows_by_voice(desk, example) -> None:
    desk.uploads.mkdir(exist_ok=True)
    anna, ben = (load_audio(one.voice) for one in example.members)
    write_wave(desk.uploads / "both.wav", (anna + ben) / 2)
    filled = fill.from_recording(desk, example, str(desk.uploads / "both.wav"))
    assert all(one.voice for one in filled.members)
    first, second = (load_audio(one.voice) for one in filled.members)
    assert float((first**2).sum()) > 0.1 < float((second**2).sum())


def test_voices_need_people(desk) -> None:
    with pytest.raises(InputError, match="Drop a picture"):
        fill.from_script(desk, None, "A: Hi.")
