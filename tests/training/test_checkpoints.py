"""Checkpoints: whole or absent, of what is trained alone, and only of the run that they belong to."""

from __future__ import annotations

import json
import re
import resource
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from anytalker import AnyTalkerError, AnyTalkerPipeline, InputError
from anytalker.data.shards import ShardWriter
from anytalker.training import checkpoints
from anytalker.training.state import WholeState
from anytalker.training.trainer import Trainer
from tests.training.fixtures import make_config, sample, train


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a finished run of four steps, not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    train(make_config(folder))
    return folder


@pytest.fixture
def finished(trained, tmp_path) -> Path:
    """A copy of the finished run; its model and shards are read where they are."""
    shutil.copytree(trained / "run", tmp_path / "run")
    return tmp_path / "run"


def test_a_full_disk_is_said_and_keeps_older_checkpoints(trained, finished, monkeypatch) -> None:
    shutil.rmtree(finished / "checkpoints" / "step-00000004")
    runner = Trainer(make_config(trained, output=finished), lambda line: None)

    def fails(error: Exception, remedy: str) -> None:
        def save(folder: str) -> None:
            Path(folder).mkdir()
            (Path(folder) / "half").write_text("half")
            raise error

        monkeypatch.setattr(runner.accelerator, "save_state", save)
        with pytest.raises(AnyTalkerError, match=f"{re.escape(str(error))}.*step 2 is whole; {remedy}"):
            runner.run()

    fails(OSError(28, "No space left on device"), "free some space")
    runner = Trainer(make_config(trained, output=finished), lambda line: None)
    fails(torch.OutOfMemoryError("CUDA out of memory"), "run again with less in memory")
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == ["step-00000002"]


def test_files_that_may_not_grow_are_said_as_well(trained, finished) -> None:
    shutil.rmtree(finished / "checkpoints" / "step-00000004")
    runner = Trainer(make_config(trained, output=finished), lambda line: None)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(AnyTalkerError, match=r"checkpoint of step 4 can't be written.*step 2 is whole"):
            runner.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == ["step-00000002"]


def test_a_damaged_checkpoint_is_named(trained, finished) -> None:
    newest = finished / "checkpoints" / "step-00000004"
    for name in ("optimizer.bin", "average.safetensors", "weights.safetensors"):
        (newest / name).write_bytes((newest / name).read_bytes()[:100])
        with pytest.raises(InputError, match=r"step-00000004 is damaged .*goes on from step 2"):
            Trainer(make_config(trained, output=finished, steps=6), lambda line: None)


def test_checkpoints_unpickle_nothing_of_ours(trained) -> None:
    names = {path.name for path in (trained / "run" / "checkpoints" / "step-00000002").iterdir()}
    assert "average.safetensors" in names
    assert not any(name.startswith("custom_checkpoint") for name in names)


def test_only_the_newest_checkpoints_are_kept(tmp_path) -> None:
    train(make_config(tmp_path, steps=5, save_every=1, keep=3))
    assert checkpoints.checkpoint_steps(tmp_path / "run" / "checkpoints") == [3, 4, 5]


def test_a_checkpoint_that_can_not_be_removed_ends_no_run(tmp_path, monkeypatch) -> None:
    real = shutil.rmtree

    def refuse(path: Path, ignore_errors: bool = False) -> None:
        if "00000001" not in str(path):
            real(path, ignore_errors=ignore_errors)
        elif not ignore_errors:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checkpoints.shutil, "rmtree", refuse)
    assert len(train(make_config(tmp_path, steps=3, save_every=1, keep=2))) == 3
    assert checkpoints.checkpoint_steps(tmp_path / "run" / "checkpoints") == [2, 3]


def test_checkpoints_hold_what_is_trained_alone(tmp_path) -> None:
    runner = Trainer(make_config(tmp_path, lora={"rank": 2}), lambda line: None)
    runner.run()
    folder = tmp_path / "run" / "checkpoints" / "step-00000004"
    stored = load_file(folder / "weights.safetensors")
    assert stored.keys() == {name for name, value in runner.model.named_parameters() if value.requires_grad}
    assert all("lora_" in name for name in stored)
    assert not (folder / "model.safetensors").exists()
    again = Trainer(make_config(tmp_path, steps=5, lora={"rank": 2}), lambda line: None)
    values = dict(again.model.named_parameters())
    assert all(torch.equal(values[name], value) for name, value in stored.items())


def test_changed_shards_and_another_cosine_are_another_run(tmp_path) -> None:
    config = make_config(tmp_path, optimizer={"schedule": "cosine"})
    train(config)
    with pytest.raises(InputError, match="steps was 4 and is 6"):
        Trainer(config.model_copy(update={"steps": 6}), lambda line: None)
    assert Trainer(config, lambda line: None).step == 4
    shutil.rmtree(tmp_path / "single")
    with ShardWriter(tmp_path / "single", 3) as writer:  # as many clips of the same shapes
        for number in range(12):
            writer.write(f"{number:08d}", {"fps": 24.0}, sample(number + (number == 7)))
    with pytest.raises(InputError, match=r"The shards in .*single are not those that the run in .*run was begun with"):
        Trainer(config, lambda line: None)


@pytest.mark.parametrize("text", ['{"steps": ', "[]", "\x00"])
def test_damaged_settings_of_a_run_are_named(trained, finished, text) -> None:
    config = make_config(trained, output=finished)
    (config.output / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"run\.json is damaged.* Choose another output"):
        Trainer(config, lambda line: None)


def test_another_model_can_not_resume_a_run(trained) -> None:
    with pytest.raises(InputError, match=r"begun with other settings: .*lora\.rank was None and is 2 .*run\.json\)"):
        Trainer(make_config(trained, lora={"rank": 2}), lambda line: None)
    with pytest.raises(InputError, match=r"batch_size was 2 and is 3, optimizer\.average was 0\.999 and is 0\.5 "):
        Trainer(make_config(trained, batch_size=3, optimizer={"average": 0.5}), lambda line: None)
    longer = make_config(trained, steps=6, save_every=3, data={"workers": 1})
    assert Trainer(longer, lambda line: None).step == 4


def test_a_run_goes_on_where_a_later_version_added_settings(trained, finished) -> None:
    config = make_config(trained, output=finished)
    path = finished / "run.json"
    before = json.loads(path.read_text())
    del before["data"]["shares"], before["optimizer"]["schedule"]
    path.write_text(json.dumps(before))
    assert Trainer(config, lambda line: None).step == 4
    with pytest.raises(InputError, match=r"optimizer\.schedule was 'constant' and is 'cosine'"):
        Trainer(make_config(trained, output=finished, optimizer={"schedule": "cosine"}), lambda line: None)


def test_a_run_of_a_version_without_the_choice_goes_on_with_its_weights(tmp_path) -> None:
    old = make_config(tmp_path, loss_weighting="uniform_bump")
    losses = train(old.model_copy(update={"output": tmp_path / "whole", "steps": 6}))
    train(old)
    path = tmp_path / "run" / "run.json"
    before = json.loads(path.read_text())
    assert before.pop("loss_weighting") == "uniform_bump"
    path.write_text(json.dumps(before))
    said: list[str] = []
    runner = Trainer(make_config(tmp_path, steps=6), said.append)
    assert runner.config.loss_weighting == "uniform_bump"
    assert any("loss_weighting is uniform_bump" in line for line in said)
    assert runner.run() == losses[4:]
    with pytest.raises(InputError, match=r"loss_weighting was 'uniform_bump' and is 'release'"):
        Trainer(make_config(tmp_path, loss_weighting="release"), lambda line: None)


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_run_of_a_version_that_drew_from_few_clips_says_once_that_the_order_changes(tmp_path, in_memory) -> None:
    config = make_config(tmp_path, data={"in_memory": in_memory})
    losses = train(config.model_copy(update={"output": tmp_path / "whole", "steps": 6}))
    train(config.model_copy(update={"steps": 2}))
    path = tmp_path / "run" / "run.json"
    before = json.loads(path.read_text())
    assert before.pop("order") == "whole epochs"
    before["data"] |= {"shuffle": 500, "in_memory": in_memory}
    path.write_text(json.dumps(before))
    said: list[str] = []
    runner = Trainer(config, said.append)
    assert any("clips come in another order" in line for line in said) != in_memory
    assert runner.run() == losses[2:4]
    said.clear()
    assert Trainer(config.model_copy(update={"steps": 6}), said.append).run() == losses[4:]
    assert not any("order" in line for line in said)


def test_clips_in_memory_are_the_same_run(tmp_path) -> None:
    losses = train(make_config(tmp_path, output=tmp_path / "stored"))
    assert train(make_config(tmp_path, steps=2, data={"in_memory": True})) == losses[:2]
    assert train(make_config(tmp_path, data={"in_memory": False})) == losses[2:]


def test_a_new_run_takes_the_releases_weights_and_keeps_them(tmp_path) -> None:
    losses = train(make_config(tmp_path, steps=2))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["loss_weighting"] == "release"
    with pytest.raises(InputError, match=r"loss_weighting was 'release' and is 'uniform_bump'"):
        Trainer(make_config(tmp_path, loss_weighting="uniform_bump"), lambda line: None)
    other = make_config(tmp_path, output=tmp_path / "other", steps=2, loss_weighting="uniform_bump")
    assert train(other) != losses


def test_a_checkpoint_that_does_not_fit_into_memory_is_not_called_damaged(trained, monkeypatch) -> None:
    def full(*arguments) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(WholeState, "load", full)
    with pytest.raises(AnyTalkerError, match=r"step-00000004 can't be loaded now \(out of memory\)\. It is kept"):
        Trainer(make_config(trained), lambda line: None)


def test_frozen_weights_that_were_changed_are_noticed(tmp_path) -> None:
    options = {"lora": {"rank": 2}}
    train(make_config(tmp_path, steps=2, **options))
    runner = Trainer(make_config(tmp_path, **options), lambda line: None)
    other = AnyTalkerPipeline.from_pretrained(tmp_path / "model")
    torch.nn.init.ones_(other.transformer.proj_out.weight)
    other.save_pretrained(tmp_path / "model")
    with pytest.raises(AnyTalkerError, match=r"model was changed while the run trained on it"):
        runner.run()
    with pytest.raises(InputError, match=r"model is another model now than when the run in .*run was begun"):
        Trainer(make_config(tmp_path, **options), lambda line: None)


def test_a_checkpoint_of_an_earlier_version_is_not_called_damaged(trained, finished) -> None:
    newest = finished / "checkpoints" / "step-00000004"
    (newest / "weights.safetensors").rename(newest / "model.safetensors")
    with pytest.raises(InputError, match="step-00000004 is of an earlier version"):
        Trainer(make_config(trained, output=finished), lambda line: None)
