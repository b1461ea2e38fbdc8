"""The ablation: every row gets the same budget and its own data, and what is measured is written down."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from anytalker import InputError
from anytalker.miniature import ablation, exam
from anytalker.miniature.ablation import ROWS, row_configs, run_ablation
from tests.training.fixtures import make_config, write_shards


def test_rows_share_the_budget_and_differ_in_data(tmp_path) -> None:
    base = make_config(tmp_path, steps=40, batch_size=4)
    for row in ROWS:
        runs = row_configs(row, base, [Path("duo")], tmp_path / "out")
        assert sum(run.steps for run in runs) == 40
        assert runs[0].batches.join == [1] * row.single + [2] * row.joined
        assert len(runs) == 1 + row.multi
        if row.multi:
            assert runs[1].data.single == [Path("duo")]
            assert runs[1].model == runs[0].output / "model"
    assert [row.name for row in ROWS] == ["CM", "RS", "RS+CM", "RS+RM", "RS+CM+RM"]


class _Plays:
    """In place of a pipeline: plays the true video of each conversation, softened by `blur` pixels."""

    def __init__(self, blur: float) -> None:
        self.blur = blur
        self.scenes = iter(range(9))

    def __call__(self, image, voices, **options) -> SimpleNamespace:
        clip = exam.exam_clip(2, next(self.scenes), options["max_frames"])
        frames = clip.frames
        if self.blur:
            frames = np.stack([cv2.GaussianBlur(frame, (0, 0), self.blur) for frame in frames])
        inputs = SimpleNamespace(image=Image.fromarray(clip.frames[0]), boxes=clip.scene.boxes(clip.frames.shape[1]))
        return SimpleNamespace(frames=frames.astype(np.float32) / 255, inputs=inputs)


@pytest.fixture(scope="module")
def scenes():
    """Every scene is drawn once, is short, and those who read its faces learn once, from half as much."""
    readers: dict[tuple[int, ...], exam.FaceReader] = {}

    def reader(scene, person: int, height: int) -> exam.FaceReader:
        key = (id(scene), person, height)
        readers[key] = readers.get(key) or FaceReader(scene, person, height, drawings=200)
        return readers[key]

    FaceReader = exam.FaceReader
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exam, "exam_clip", functools.cache(exam.exam_clip))
        patch.setattr(exam, "FaceReader", reader)
        patch.setattr(ablation, "examine", functools.partial(exam.examine, frames=49))
        yield


@pytest.fixture(scope="module")
def true(scenes) -> dict:
    """What is measured of a true video of the first scene."""
    return ablation.measure(_Plays(0), 1)


@pytest.mark.slow
def test_what_is_measured_tells_true_videos_from_soft_ones(true) -> None:
    soft = ablation.measure(_Plays(2.5), 1)
    assert true["lip_sync"] > 0.97
    assert true["looking"] > 0.8
    assert true["frechet"] == pytest.approx(0, abs=0.01)
    assert soft["frechet"] > 5
    assert soft["quality"] < 30 < true["quality"]
    assert true["interactivity"] > 0.5
    for name, values in true["by_scene"].items():
        assert values == pytest.approx([true[name]]), name


@pytest.mark.slow
def test_scenes_are_measured_apart(true) -> None:
    plays = _Plays(0)
    sharp = plays.__call__

    def second_soft(image, voices, **options) -> SimpleNamespace:
        video = sharp(image, voices, **options)
        if soft.pop():
            video.frames = np.stack([cv2.GaussianBlur(frame, (0, 0), 2.5) for frame in video.frames])
        return video

    soft = [True, False]
    found = ablation.measure(second_soft, 2)["by_scene"]
    assert [values[0] for values in found.values()] == [true["by_scene"][name][0] for name in found]
    assert found["quality"][1] < 30 < found["quality"][0]
    assert found["lip_sync"][1] < found["lip_sync"][0]
    assert all(len(values) == 2 for values in found.values())


def test_rows_are_compared_scene_by_scene() -> None:
    results = []
    for number, row in enumerate(ROWS):
        values = [float(number), 5.0 + number, None if row.name == "RS" else 1.0]
        results.append({"row": row.name, "by_scene": {"lip_sync": values, "quality": [0.0, 1.0 * number, 2.0]}})
    compared = {(one["from"], one["to"]): one for one in ablation.differences(results)}
    assert len(compared) == 5
    assert compared["RS", "RS+CM"]["lip_sync"] == (1.0, 1.0, 1.0)  # the third scene is left out
    mean, low, high = compared["RS+CM", "RS+CM+RM"]["quality"]
    assert mean == pytest.approx(2 / 3)
    assert low == 0
    assert high == pytest.approx(4 / 3, abs=0.7)


def test_a_base_of_several_folders_and_shares_serves_every_row(tmp_path) -> None:
    folders = [write_shards(tmp_path / str(number)) for number in range(2)]
    base = make_config(tmp_path, steps=4, batch_size=4, data={"single": folders, "shares": [1, 2]})
    for row in ROWS:
        for run in row_configs(row, base, [Path("duo")], tmp_path / "out"):
            assert type(run).model_validate(run.model_dump()) == run


def test_an_ablation_trains_measures_and_goes_on(tmp_path, monkeypatch) -> None:
    measured = []

    def measure(pipeline, scenes: int) -> dict[str, float]:
        measured.append(scenes)
        lips = 0.25 * len(measured)
        by_scene = {"interactivity": [1.0], "looking": [None], "lip_sync": [lips], "quality": [20.0]}
        means = {"interactivity": 1.0, "looking": 0.5, "lip_sync": lips, "quality": 20.0, "frechet": 8.0}
        return means | {"by_scene": by_scene}

    monkeypatch.setattr(ablation, "measure", measure)
    duo = write_shards(tmp_path / "duo", clips=4, persons=2)
    base = make_config(tmp_path, steps=2)
    lines: list[str] = []
    results = run_ablation(base, [duo], tmp_path / "out", 3, lines.append)
    assert measured == [3] * 5
    assert [result["row"] for result in results] == [row.name for row in ROWS]
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| RS+CM+RM | 1.00 | 0.50 | 1.25 | 20.00 | 8.00 | 0.97 | 4.56 | 468 |" in table
    assert "| RS | RS+CM | +0.000 | – | +0.250 | +0.000 |" in table
    assert (tmp_path / "out" / "plot.png").stat().st_size > 10_000
    assert run_ablation(base, [duo], tmp_path / "out", 3, lines.append) == results
    assert len(measured) == 5
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results
    earlier = json.loads((tmp_path / "out" / "RS" / "result.json").read_text())
    del earlier["settings"]["batches"]["silent_stills"]  # made before there was this setting
    (tmp_path / "out" / "RS" / "result.json").write_text(json.dumps(earlier))
    run_ablation(base, [duo], tmp_path / "out", 3, lines.append)
    assert len(measured) == 5
    incomplete = tmp_path / "out" / "RS" / "result.json"
    incomplete.write_text(json.dumps({k: v for k, v in json.loads(incomplete.read_text()).items() if k != "frechet"}))
    with pytest.raises(InputError, match=r"RS/result\.json lacks frechet\. Remove it"):
        run_ablation(base, [duo], tmp_path / "out", 3, lines.append)
    with pytest.raises(InputError, match=r"CM/result\.json was made with other settings: scenes was 3 and is 5\."):
        run_ablation(base, [duo], tmp_path / "out", 5, lines.append)
    other = make_config(tmp_path, steps=2, optimizer={"learning_rate": 0.5})
    with pytest.raises(InputError, match=r"settings\.optimizer\.learning_rate was 0\.001 and is 0\.5\."):
        run_ablation(other, [duo], tmp_path / "out", 3, lines.append)
    with pytest.raises(InputError, match=r"multi was .*duo.* and is .*single"):
        run_ablation(base, [tmp_path / "single"], tmp_path / "out", 3, lines.append)
    shutil.rmtree(duo)
    write_shards(duo, clips=5, persons=2)
    with pytest.raises(InputError, match=r"other settings: shards\..*duo was"):
        run_ablation(base, [duo], tmp_path / "out", 3, lines.append)
