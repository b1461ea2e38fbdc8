"""A folder of drawn videos, good and bad ones, through the whole evaluation."""

from __future__ import annotations

import json
import sys
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest

from anytalker import cli
from anytalker.conditioning.timeline import speaking_spans
from anytalker.errors import AnyTalkerError, InputError
from anytalker.evaluation.clips import Folders, find_clips
from anytalker.evaluation.run import evaluate
from anytalker.evaluation.scoring import ScoringSettings
from anytalker.media.recordings import SAMPLE_RATE, mix
from anytalker.media.video import write_video
from anytalker.miniature.corpus import CorpusSettings, render_clip
from anytalker.miniature.landmarks import scene_tracks
from tests.evaluation.videos import write_uneven_video

pytestmark = pytest.mark.slow

FPS = 24.0


def write_clip(folder: Path, name: str, seed: int, persons: int, frames: int = 73) -> None:
    """A rendered conversation with its record, its tracks, and everybody's voice."""
    clip = render_clip(seed, CorpusSettings(persons=persons, frames=frames, unseen=True, silent_share=0.0))
    write_video(folder / f"{name}.mp4", clip.frames, FPS, mix(clip.voices), SAMPLE_RATE)
    scene_tracks(clip.scene, clip.states, 128, FPS).save(folder / f"{name}.tracks.safetensors")
    voices = folder / "voices"
    voices.mkdir(exist_ok=True)
    persons_known = []
    for index, (voice, box) in enumerate(zip(clip.voices, clip.boxes, strict=True)):
        import wave

        with wave.open(str(voices / f"{name}_{index}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes((np.clip(voice, -1, 1) * 32767).astype("<i2").tobytes())
        persons_known.append({"box_xywh": list(box), "audio": None, "speaking": speaking_spans(voice)})
    (folder / f"{name}.json").write_text(json.dumps({"persons": persons_known}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three good clips, and every kind of bad one."""
    place = tmp_path_factory.mktemp("videos")
    for name, seed, persons in (("one", 11, 1), ("three", 11, 3), ("two", 11, 2)):
        write_clip(place, name, seed, persons)
    noise = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), dtype=np.uint8)
    write_video(place / "bad-no-faces.mp4", noise // 8 + 100, FPS, np.zeros(SAMPLE_RATE, np.float32))
    write_video(place / "bad-one-frame.mp4", noise[:1], FPS)
    whole = (place / "two.mp4").read_bytes()
    (place / "bad-truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (place / "bad-text.mp4").write_text("no video at all")
    clip = render_clip(14, CorpusSettings(persons=2, frames=49, unseen=True))
    write_video(place / "bad-no-sound.mp4", clip.frames, FPS)
    scene_tracks(clip.scene, clip.states, 128, FPS).save(place / "bad-no-sound.tracks.safetensors")
    write_uneven_video(place / "bad-uneven.mp4", clip.frames)
    scene_tracks(clip.scene, clip.states, 128, FPS).save(place / "bad-uneven.tracks.safetensors")
    return place


@pytest.fixture(scope="module")
def lines(folder, tmp_path_factory) -> dict[str, dict]:
    report = tmp_path_factory.mktemp("report")
    outcome = evaluate(find_clips(folder), ScoringSettings(), report)
    assert outcome.failed == 2
    return {line["clip"]: line for line in outcome.lines}


def test_good_clips_have_every_score(lines) -> None:
    for name, people in (("one", 1), ("two", 2), ("three", 3)):
        line = lines[name]
        assert line["people"] == people
        assert {"sync_c", "sync_d", "sync_c_star", "sync_offset"} <= set(line["scores"]), line["problems"]
        assert ("interactivity" in line["scores"]) == (people > 1)
        assert line["scores"]["sync_offset"] == pytest.approx(0, abs=1)
        assert len(line["timeline"]["mouth"]) == len(line["timeline"]["eyes"]) == people
    for name in ("two", "three"):
        assert lines[name]["scores"]["binding"] == 1
        assert lines[name]["scores"]["interactivity"] > 0
        assert lines[name]["scores"]["silence"] < 0.7
    assert "There is one person" in lines["one"]["problems"]["interactivity"]


def test_bad_clips_are_named_and_the_others_go_on(lines) -> None:
    assert "failure" in lines["bad-text"]
    assert "bad-text.mp4" in lines["bad-text"]["failure"]
    assert "bad-truncated.mp4" in lines["bad-truncated"]["failure"]
    assert "No face" in lines["bad-no-faces"]["problems"]["sync_c"]
    assert "No face" in lines["bad-one-frame"]["problems"]["interactivity"]
    assert "no sound" in lines["bad-no-sound"]["problems"]["sync_c"]
    assert lines["bad-no-sound"]["scores"]["interactivity"] > 0
    assert "varies" in lines["bad-uneven"]["notes"][0]


def test_recordings_are_used_where_given(folder, tmp_path, lines) -> None:
    clips = [clip for clip in find_clips(folder, Folders(voices=folder / "voices")) if clip.name == "two"]
    line = evaluate(clips, ScoringSettings(), tmp_path).lines[0]
    assert line["scores"]["binding"] == 1
    assert line["scores"]["sync_c"] >= lines["two"]["scores"]["sync_c"] - 0.1


def test_an_interrupted_evaluation_goes_on(folder, tmp_path) -> None:
    clips = [clip for clip in find_clips(folder) if clip.name in ("one", "two")]
    settings = ScoringSettings(metrics=("interactivity",))

    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 1:
            raise Stopped

    with pytest.raises(Stopped):
        evaluate(clips, settings, tmp_path, on_progress=stop)
    scored: list[int] = []
    outcome = evaluate(clips, settings, tmp_path, on_progress=lambda done, total: scored.append(done))
    assert scored == [1, 2]
    afresh = evaluate(clips, settings, tmp_path / "afresh")
    assert [line | {"seconds": 0} for line in outcome.lines] == [line | {"seconds": 0} for line in afresh.lines]
    again: list[int] = []
    evaluate(clips, ScoringSettings(metrics=("silence",)), tmp_path, on_progress=lambda done, total: again.append(done))
    assert again == [0, 1, 2]


def test_a_scoring_process_that_was_ended_is_said(folder, tmp_path, monkeypatch) -> None:
    ended: Future[dict] = Future()
    ended.set_exception(BrokenProcessPool("a process was terminated abruptly"))
    monkeypatch.setattr(ProcessPoolExecutor, "submit", lambda *arguments: ended)
    clips = [clip for clip in find_clips(folder) if clip.name in ("one", "two")]
    with pytest.raises(AnyTalkerError, match="What is scored is kept: run it again"):
        evaluate(clips, ScoringSettings(metrics=("interactivity",)), tmp_path, 2)


def test_two_videos_of_one_name_are_refused(tmp_path) -> None:
    for name in ("a.mov", "a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.mov and .*a\.mp4 .*'a'.* Rename one"):
        evaluate(find_clips(tmp_path), ScoringSettings(), tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_real_videos_stand_beside(folder, tmp_path) -> None:
    clips = [clip for clip in find_clips(folder, Folders(real=folder)) if clip.name == "two"]
    outcome = evaluate(clips, ScoringSettings(metrics=("interactivity", "psnr", "ssim")), tmp_path)
    found = {summary.metric: summary for summary in outcome.summaries}
    assert found["psnr"].mean == 100
    assert found["ssim"].mean == pytest.approx(1, abs=1e-3)
    assert found["interactivity"].distance == 0
    assert set(found) == {"interactivity", "psnr", "ssim"}


@pytest.mark.parametrize("real_fps", [12.0, 25.0, 48.0])
def test_real_videos_of_another_rate_are_compared_moment_by_moment(real_fps, tmp_path) -> None:
    def film(folder: str, fps: float) -> None:
        (tmp_path / folder).mkdir()
        shown = [np.full((64, 64, 3), 20 + 100 * number / fps, np.uint8) for number in range(round(2 * fps))]
        write_video(tmp_path / folder / "fade.mp4", np.stack(shown), fps)

    film("made", FPS)
    film("real", real_fps)
    clips = find_clips(tmp_path / "made", Folders(real=tmp_path / "real"))
    outcome = evaluate(clips, ScoringSettings(metrics=("psnr",), detector="none"), tmp_path / "report")
    # Half a frame is at most 100 / 24 grey levels.
    assert outcome.lines[0]["scores"]["psnr"] > 20 * np.log10(255 / 6)


def test_the_command_line(folder, tmp_path, capsys, monkeypatch) -> None:
    place = tmp_path / "some"
    place.mkdir()
    for path in folder.iterdir():
        if path.is_file() and path.stem.split(".")[0] in ("one", "bad-text"):
            (place / path.name).write_bytes(path.read_bytes())

    def run(*arguments) -> int:
        monkeypatch.setattr(sys, "argv", ["anytalker", "evaluate", *map(str, arguments), "--workers", "1"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    assert run("interactivity", place, "--report", tmp_path / "out") == 0
    assert "1 of 2 clips could not be scored" in capsys.readouterr().err
    assert (tmp_path / "out" / "report.html").is_file()
    assert run("interactivity", place, "--report", tmp_path / "out", "--strict") == 1
    (tmp_path / "other.safetensors").write_bytes(b"no weights")
    assert run(place, "--syncnet", tmp_path / "other.safetensors", "--report", tmp_path / "none") == 2
    assert "other.safetensors" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    assert run("beauty", place) == 2
    assert "'beauty" in capsys.readouterr().err
    assert run(tmp_path / "nowhere") == 2
