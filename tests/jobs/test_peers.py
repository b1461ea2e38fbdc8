"""Jobs of other projects: read as they are, and written in our form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from anytalker import InputError
from anytalker.conditioning.binding import bind_faces
from anytalker.jobs.job import read_jobs
from anytalker.pipelines.options import GenerationOptions
from tests.test_cli import run

TWO = {
    "prompt": "two people talk",
    "cond_image": "examples/two.png",
    "audio_type": "para",
    "cond_audio": {"person1": "examples/anna.wav", "person2": "examples/ben.wav"},
    "bbox": {"person1": [10, 20, 90, 80], "person2": [12, 120, 92, 180]},
}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Their repository: paths begin at its root, jobs lie deeper."""
    (tmp_path / "examples").mkdir()
    for name in ("two.png", "anna.wav", "ben.wav"):
        (tmp_path / "examples" / name).write_bytes(b"")
    return tmp_path


def read(folder: Path, value, name: str = "talk.json"):
    path = folder / "examples" / name
    path.write_text(json.dumps(value))
    return read_jobs(path)


def test_multitalk_names_regions_by_rows_and_columns(folder) -> None:
    (job,) = read(folder, TWO).values()
    examples = folder / "examples"
    assert (job.image, job.audio) == (examples / "two.png", [examples / "anna.wav", examples / "ben.wav"])
    assert job.faces == [{"in": [20, 10, 60, 80]}, {"in": [120, 12, 60, 80]}]
    assert (job.prompt, job.mode) == ("two people talk", "pad")
    faces = [(30, 20, 30, 30), (40, 60, 10, 10), (130, 20, 30, 30)]
    chosen = bind_faces(Image.new("RGB", (200, 100)), job.faces[::-1], 2, known=faces)
    assert chosen[:2] == [faces[2], faces[0]]
    with pytest.raises(InputError, match="No face was found in 120,12,60,80"):
        bind_faces(Image.new("RGB", (200, 100)), job.faces, 2, known=faces[:2])


def test_people_are_counted_beyond_nine(folder) -> None:
    crowd = {f"person{number}": f"{number}.wav" for number in range(1, 12)}
    job = read(folder, {"cond_image": "examples/two.png", "cond_audio": crowd})["talk"]
    assert [path.stem for path in job.audio] == [str(number) for number in range(1, 12)]


def test_infinitetalk_has_videos_and_one_person(folder) -> None:
    single = {"prompt": "a talk", "cond_video": "examples/two.png", "cond_audio": {"person1": "examples/anna.wav"}}
    job = read(folder, single)["talk"]
    assert (job.image.name, len(job.audio), job.faces) == ("two.png", 1, None)
    added = read(folder, [TWO | {"audio_type": "add"}, single])
    assert list(added) == ["talk-1", "talk-2"]
    assert added["talk-1"].mode == "concat"


def test_longcats_others_listen(folder) -> None:
    boxes = TWO["bbox"] | {"others": [0, 90, 20, 110, 0, 181, 20, 199]}
    job = read(folder, {"a": TWO | {"bbox": boxes, "cond_audio": TWO["cond_audio"] | {"person2": "None"}}})["a"]
    assert [path and path.name for path in job.audio] == ["anna.wav", None, None, None]
    assert job.faces[2:] == [{"in": [90, 0, 20, 20]}, {"in": [181, 0, 18, 20]}]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cond_image": None}, "no picture"),
        ({"cond_audio": ["a.wav"]}, "cond_audio must hold"),
        ({"audio_type": "both"}, "audio_type is 'both'"),
        ({"bbox": {"person1": [0, 0, 9, 9]}}, "no box for person2"),
        ({"bbox": {"person1": [9, 0, 0, 9], "person2": [0, 0, 9, 9]}}, "top, left, bottom, right"),
        ({"bbox": TWO["bbox"] | {"others": [1, 2, 3]}}, "four for each person"),
        ({"bbox": [1, 2]}, "bbox must hold"),
        ({"tts_audio": {"text": "hello"}}, "text in place of recordings"),
    ],
)
def test_what_is_wrong_is_named(folder, changes, reason) -> None:
    with pytest.raises(InputError, match=rf"talk\.json: job 'talk': .*{reason}"):
        read(folder, TWO | changes)


def test_jobs_are_converted(folder, capsys) -> None:
    path = folder / "examples" / "talk.json"
    path.write_text(json.dumps(TWO))
    assert run("convert-jobs", path, folder / "jobs.json") == 0
    assert "1 job is in" in capsys.readouterr().out
    written = json.loads((folder / "jobs.json").read_text())
    assert set(written["talk"]) == {"image", "audio", "faces", "prompt"}
    assert read_jobs(folder / "jobs.json") == read_jobs(path)
    assert isinstance(read_jobs(path)["talk"].options, GenerationOptions)
    assert run("convert-jobs", path, folder / "jobs.json") == 2
    assert "there already" in capsys.readouterr().err
    assert run("convert-jobs", path, folder / "nowhere" / "jobs.json") == 2
    assert "can't be written" in capsys.readouterr().err
