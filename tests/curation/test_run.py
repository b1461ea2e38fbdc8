"""A curation from footage to records: what is written, that it goes on where it was, and that bad files are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from anytalker.curation import run as run_module
from anytalker.curation import work as work_module
from anytalker.curation.config import CurationConfig
from anytalker.curation.engine import run_here
from anytalker.curation.run import Outcome, check_dataset, curate, find_footage
from anytalker.curation.survey import Survey
from anytalker.curation.work import FileWork
from anytalker.data.records import read_records
from anytalker.diarization import resegmentation
from anytalker.errors import InputError
from anytalker.media.recordings import load_audio
from anytalker.media.video import read_video
from anytalker.miniature.episodes.film import write_episode
from anytalker.miniature.episodes.recipes import plan_episode
from tests.test_cli import run

CONFIG = CurationConfig()


@pytest.fixture(scope="module")
def footage(tmp_path_factory) -> Path:
    """A folder with a quarter of a minute of an episode, a file that is no video, and notes."""
    folder = tmp_path_factory.mktemp("footage")
    write_episode(plan_episode(1_000_052, 0.25, 320, 176), folder / "talk.mp4")
    (folder / "broken.mp4").write_bytes(b"no video at all" * 100)
    (folder / "footage.json").write_text(json.dumps({"licence": "CC0"}))
    return folder


@pytest.fixture(scope="module")
def made(footage, tmp_path_factory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("dataset") / "dataset"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resegmentation, "_STEPS", 10)  # when exactly turns begin and end doesn't matter here
        return folder, curate(find_footage([footage]), folder, CONFIG)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*.jsonl") if path.is_file()} | {
        str(path.relative_to(folder)): path.read_bytes() for path in (folder / "clips").rglob("*") if path.is_file()
    }


def test_records_are_what_training_reads(made) -> None:
    folder, outcome = made
    records = [*read_records(folder / "single.jsonl"), *read_records(folder / "multi.jsonl")]
    assert len(records) == len(outcome.dataset.kept) >= 2
    for record in records:
        frames, fps = read_video(record.video_path)
        assert (len(frames), fps) == (record.n_frames, 25)
        assert frames.shape[1:3] == (record.height, record.width)
        assert record.source.end - record.source.start == pytest.approx(record.n_frames / 25, abs=1e-6)
        assert record.source.licence == "CC0"
        assert record.split is not None
        assert any(person.audio_path for person in record.persons)
        for person in record.persons:
            assert len(person.face_boxes) == record.n_frames
            if person.audio_path is not None:
                assert abs(len(load_audio(person.audio_path)) / 16000 - record.n_frames / 25) < 0.02


def test_clips_don_t_claim_to_be_synthetic(made) -> None:
    import av

    folder, outcome = made
    with av.open(str(folder / outcome.dataset.kept[0].video_path)) as container:
        assert "Cut from talk.mp4" in container.metadata["comment"]
        assert "ynthetic" not in str(container.metadata)


def test_all_footage_is_kept_or_dropped_for_a_reason(made) -> None:
    folder, outcome = made
    frames = next(found.frames for found in outcome.dataset.surveys if found.frames)
    told = np.zeros(frames, bool)
    spans = [one["source"] for one in lines(folder / "dropped.jsonl")] + [
        one["source"] for name in ("single.jsonl", "multi.jsonl") for one in lines(folder / name)
    ]
    for span in spans:
        if span["path"].endswith("talk.mp4"):
            told[round(span["start"] * 25) : round(span["end"] * 25)] = True
    assert told.mean() > 0.95
    assert all(one["reason"] and one["stage"] for one in lines(folder / "dropped.jsonl"))


def test_cuts_are_those_of_the_episode(made, footage) -> None:
    found = {Path(one["path"]).name: one["cuts"] for one in lines(made[0] / "cuts.jsonl")}
    true = json.loads((footage / "talk.json").read_text())["cuts"]
    assert found["talk.mp4"] == pytest.approx(true, abs=0.5)


def test_a_bad_file_is_named_and_the_rest_goes_on(made) -> None:
    folder, outcome = made
    assert any("broken.mp4" in reason for reason in outcome.dataset.failed)
    assert any("broken.mp4" in one["source"]["path"] for one in lines(folder / "dropped.jsonl"))
    assert (folder / "report" / "index.html").is_file()


def test_a_second_run_does_nothing_twice(made, footage, monkeypatch) -> None:
    folder, _ = made
    before = contents(folder)

    def refuse(*_: object) -> None:
        raise AssertionError("it was done before")

    monkeypatch.setattr(work_module, "survey", refuse)
    monkeypatch.setattr(work_module, "run_stages", refuse)
    curate(find_footage([footage]), folder, CONFIG)
    assert contents(folder) == before


def test_a_killed_run_ends_in_the_same_dataset(made, footage, tmp_path) -> None:
    folder, _ = made
    killed = tmp_path / "dataset"
    shutil.copytree(folder, killed)
    results = sorted((killed / ".curation").rglob("shot-*.json"))
    with_clips = [path for path in results if json.loads(path.read_text())["kept"]]
    for path in (with_clips[0], results[-1]):
        path.unlink()
    for name in ("single.jsonl", "multi.jsonl", "dropped.jsonl"):
        (killed / name).unlink()
    stray = killed / "clips" / ".1234.partial.mp4"
    stray.write_bytes(b"half a clip")
    curate(find_footage([footage]), killed, CONFIG)
    assert contents(killed) == contents(folder)
    assert not stray.exists()


def test_the_command_says_what_was_kept_and_what_failed(made, footage, capsys) -> None:
    folder, outcome = made
    assert run("curate", footage, folder, "--workers", "0") == 0
    out, err = capsys.readouterr()
    assert f"Kept {sum(len(clip.persons) == 1 for clip in outcome.dataset.kept)} clips of one person" in out
    assert "index.html" in out
    assert "broken.mp4" in err
    assert run("curate", footage, folder, "--workers", "0", "--strict") == 1


def test_footage_without_a_licence_can_be_left_out(footage, tmp_path) -> None:
    unlicensed = tmp_path / "footage"
    unlicensed.mkdir()
    shutil.copy(footage / "broken.mp4", unlicensed / "other.mp4")
    outcome = curate(find_footage([unlicensed]), tmp_path / "dataset", CONFIG, require_licence=True)
    assert [path.name for path in outcome.unlicensed] == ["other.mp4"]
    assert not outcome.dataset.surveys


def test_every_file_counts_once_and_no_clips_are_footage(tmp_path, monkeypatch) -> None:
    video = tmp_path / "footage" / "talk.mp4"
    for path in (video, tmp_path / "footage" / "dataset" / "clips" / "talk" / "clip.mp4"):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"video")
    (tmp_path / "footage" / "dataset" / "curation.json").write_text("{}")
    (tmp_path / "footage" / "link.mp4").symlink_to(video)
    monkeypatch.chdir(tmp_path)
    found = find_footage([Path("footage"), video])
    assert found == [video.resolve()]
    check_dataset(tmp_path / "footage" / "dataset", found)
    assert len(find_footage([tmp_path / "footage" / "dataset"])) == 1


def test_works_know_their_places_whatever_happens_meanwhile(footage, tmp_path, monkeypatch) -> None:
    growing = tmp_path / "growing.mp4"
    shutil.copy(footage / "broken.mp4", growing)
    folders = []

    def engine(works, *_) -> None:
        folders.append(works[0].folder)
        growing.write_bytes(b"longer " * 1000)
        assert works[0].folder == folders[-1]
        run_here(works, 0, lambda *_: None)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "dataset" / ".curation").mkdir(parents=True)  # all that a run had time for that was killed at once
    monkeypatch.setattr(run_module, "run_here", engine)
    for _ in range(2):
        curate([growing], Path("dataset"), CONFIG)
    assert all(folder.is_absolute() for folder in folders)
    assert folders[0] != folders[1]
    assert [path for path in (tmp_path / "dataset" / ".curation").iterdir() if path.is_dir()] == folders[1:]


def test_parts_of_a_long_shot_are_not_short_shots(tmp_path, monkeypatch) -> None:
    config = CurationConfig.model_validate({"shots": {"min_seconds": 15}})
    work = FileWork(tmp_path / "talk.mp4", tmp_path / "dataset", config)
    found = Survey(path="talk.mp4", frames=900, shots=[(0, 525), (525, 880)])
    monkeypatch.setattr(work_module, "_sound", lambda work: None)
    monkeypatch.setattr(work_module, "_opened", lambda folder: (found, np.zeros(0, np.float32)))
    monkeypatch.setattr(
        work_module, "run_stages", lambda piece, stages: ([], [piece.drop("camera", "the camera moves")])
    )
    reasons = [work_module._examined(work, part).dropped[0].reason for part in work.parts(found)]
    assert reasons == ["the camera moves"] * 2 + ["shorter than 15 s"]


def test_places_are_checked_first(footage, tmp_path) -> None:
    with pytest.raises(InputError, match="no file or folder"):
        find_footage([tmp_path / "missing"])
    with pytest.raises(InputError, match="holds no videos"):
        find_footage([tmp_path])
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="not empty"):
        check_dataset(tmp_path, [])
    with pytest.raises(InputError, match="holds footage"):
        check_dataset(footage, find_footage([footage]))
    assert (tmp_path / "mine.txt").read_text() == "precious"
    with pytest.raises(InputError, match="can't be read: File name too long"):
        find_footage([tmp_path / ("x" * 300)])
    with pytest.raises(InputError, match="can't be read: File name too long"):
        check_dataset(tmp_path / ("x" * 300), [])
    with pytest.raises(InputError, match="can't be written: Not a directory"):
        curate(find_footage([footage]), tmp_path / "mine.txt" / "dataset", CONFIG)
