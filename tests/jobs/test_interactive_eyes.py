"""The benchmark: whose videos are kept, and which are scored."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from anytalker import cli
from anytalker.errors import AnyTalkerError, InputError
from anytalker.jobs.interactive_eyes import generate_benchmark, missing_videos, read_benchmark
from anytalker.loading.found import FoundModel
from anytalker.media.video import RunRecord, write_video


class Pipeline:
    """Makes grey videos as bright as there are steps, and counts them; refuses what it is told to."""

    def __init__(self, *refused: str) -> None:
        self.made: list[str] = []
        self.refused = refused

    def set_progress_bar_config(self, disable: bool) -> None:
        """Shows none."""

    def __call__(
        self, picture, voices, generator, num_inference_steps=None, max_frames=None, rounding="up"
    ) -> SimpleNamespace:
        if picture.stem in self.refused:
            raise AnyTalkerError("no face")
        self.made.append(picture.stem)
        frames = np.full((max_frames or 9, 32, 32, 3), 20 * (num_inference_steps or 1), np.uint8)
        record = {"model": "tiny", "settings": {}, "width": 32, "height": 32, "fps": 24.0, "frames": len(frames)}
        return SimpleNamespace(
            save=lambda path: write_video(path, frames, 24.0),
            record=lambda seed: RunRecord(**record, seed=seed, persons=[], seconds={}),
        )


@pytest.fixture
def bench(tmp_path) -> Path:
    """Two clips in the authors' layout."""
    place = tmp_path / "bench"
    for folder in ("frames", "audio_left"):
        (place / folder).mkdir(parents=True)
    for name in ("talk", "walk"):
        Image.new("RGB", (32, 32)).save(place / "frames" / f"{name}.png")
        (place / "audio_left" / f"{name}_left.wav").write_bytes(b"voice")
    spans = {f"{name}.mp4": {"left": [[0, 1]], "right": []} for name in ("talk", "walk")}
    (place / "speaker_duration.json").write_text(json.dumps(spans))
    return place


def test_videos_made_in_the_same_way_are_kept(bench, tmp_path) -> None:
    items, output = read_benchmark(bench), tmp_path / "videos"
    first = Pipeline("walk")
    second, told = Pipeline(), []
    options = {"num_inference_steps": 2, "max_frames": 5}
    assert generate_benchmark(items, first, "tiny", output, 3, **options) == {"walk": "no face"}
    assert [item.name for item in missing_videos(items, "tiny", output, 3, **options)] == ["walk"]
    assert generate_benchmark(items, second, "tiny", output, 3, lambda *done: told.append(done), **options) == {}
    assert (first.made, second.made, told) == (["talk"], ["walk"], [(2, 2)])
    assert missing_videos(items, "tiny", output, 3, **options) == []
    assert json.loads((output / "talk.json").read_text())["seed"] == 3


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"seed": 9, "max_frames": 5}, "made with max_frames its default, seed 0; asked for is max_frames 5, seed 9"),
        ({"num_inference_steps": 5}, "with num_inference_steps its default; asked for is num_inference_steps 5"),
    ],
)
def test_videos_made_with_other_options_are_refused(bench, tmp_path, other, said: str) -> None:
    items, output = read_benchmark(bench), tmp_path / "videos"
    generate_benchmark(items, Pipeline(), "tiny", output)
    before, second = (output / "talk.mp4").read_bytes(), Pipeline()
    with pytest.raises(InputError, match=r"talk\.mp4") as refusal:
        generate_benchmark(items, second, "tiny", output, **other)
    assert said in str(refusal.value)
    assert "another --output" in str(refusal.value)
    assert second.made == []
    assert (output / "talk.mp4").read_bytes() == before


def test_videos_made_by_another_model_or_from_other_files_are_refused(bench, tmp_path, monkeypatch) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    found = FoundModel(folder, {"transformer": folder}, None, folder / "anytalker.json")
    monkeypatch.setattr("anytalker.jobs.interactive_eyes.model_folder", lambda model: folder)
    monkeypatch.setattr("anytalker.jobs.job.find_model", lambda model: found)
    items, output = read_benchmark(bench), tmp_path / "videos"
    generate_benchmark(items, Pipeline(), "tiny", output)
    with pytest.raises(InputError, match=r"made with model tiny; asked for is model 1\.3b"):
        missing_videos(items, "1.3b", output)
    for changed in (folder / "model.safetensors", items[0].picture, items[0].voices[0]):
        state = changed.stat()
        os.utime(changed, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))
        with pytest.raises(InputError, match=r"talk\.mp4 was made from other files"):
            missing_videos(items, "tiny", output)
        os.utime(changed, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert missing_videos(items, "tiny", output) == []


def test_nothing_unrelated_is_overwritten(bench, tmp_path) -> None:
    items, output, pipeline = read_benchmark(bench), tmp_path / "videos", Pipeline()
    output.mkdir()
    (output / "talk.json").write_text('{"my": "notes"}')
    with pytest.raises(InputError, match=r"talk\.json would be overwritten"):
        generate_benchmark(items, pipeline, "tiny", output)
    assert pipeline.made == []
    assert (output / "talk.json").read_text() == '{"my": "notes"}'


@pytest.mark.parametrize("record", [None, "{", "[]", '{"persons": []}', '{"made_from": 3}'])
def test_videos_of_unknown_making_are_refused(bench, tmp_path, record: str | None) -> None:
    output = tmp_path / "videos"
    output.mkdir()
    (output / "walk.mp4").write_bytes(b"somebody's video")
    if record is not None:
        (output / "walk.json").write_text(record)
    with pytest.raises(InputError, match=r"walk\.mp4 is there, but its record doesn't say"):
        missing_videos(read_benchmark(bench), "tiny", output)


def test_the_command_scores_only_its_own_videos(bench, tmp_path, capsys, monkeypatch) -> None:
    def run(*options: str) -> int:
        folders = ["--output", tmp_path / "videos", "--report", tmp_path / "report", "--workers", "1"]
        monkeypatch.setattr(sys, "argv", ["anytalker", "benchmark", *map(str, [bench, *folders, *options])])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    pipeline = Pipeline("walk", "talk")
    monkeypatch.setattr("anytalker.cli.console.load_pipeline", lambda model, device: pipeline)
    (tmp_path / "videos").mkdir()
    for name in ("another.mp4", "talk.mov"):
        write_video(tmp_path / "videos" / "partial.mp4", np.zeros((5, 32, 32, 3), np.uint8), 24.0)
        (tmp_path / "videos" / "partial.mp4").rename(tmp_path / "videos" / name)
    assert run("--steps", "1") != 0
    assert "None of the 2 clips" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()
    pipeline.refused = ("walk",)
    assert run("--steps", "1") == 0
    printed = capsys.readouterr()
    assert "Scored 1 of 2 clips" in printed.out
    assert "walk: no face" in printed.err
    lines = [json.loads(line) for line in (tmp_path / "report" / "scores.jsonl").read_text().splitlines()]
    assert [(line["clip"], line["frames"]) for line in lines] == [("talk", 9)]
    assert run("--steps", "5", "--seed", "9") == 2
    assert "num_inference_steps 1" in " ".join(capsys.readouterr().err.split())
    assert pipeline.made == ["talk"]
