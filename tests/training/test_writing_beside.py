"""Checkpoints that are written while the training goes on: shown once they are whole, and of the step they say."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint import CheckpointException, FileSystemWriter

from anytalker import AnyTalkerError, InputError
from anytalker.training.checkpoints import CheckpointWriter, checkpoint_path, checkpoint_steps
from anytalker.training.trainer import Trainer
from anytalker.training.watch import Watch
from tests.training.fixtures import make_config, train


class Slow:
    """A state whose files are there at once, and whole when `done[step]` is told so."""

    def __init__(self) -> None:
        self.done: list[Future[None]] = []

    def save(self, folder: Path) -> Future[None]:
        folder.mkdir()
        (folder / "state").write_text(str(len(self.done)))
        self.done.append(Future())
        return self.done[-1]


def test_a_checkpoint_gets_its_name_once_it_is_whole(tmp_path) -> None:
    state = Slow()
    writer = CheckpointWriter(tmp_path, 1, Watch(0, 1), state.save)
    for step in (1, 2):
        writer.write(step)
        assert checkpoint_steps(tmp_path) == [1][: step - 1], "only the one before is whole, and it is kept"
        state.done[-1].set_result(None)
        assert checkpoint_steps(tmp_path) == [step]
    assert (checkpoint_path(tmp_path, 2) / "state").read_text() == "1"


def test_the_next_checkpoint_and_the_end_wait_for_the_one_before(tmp_path, monkeypatch) -> None:
    state = Slow()
    writer = CheckpointWriter(tmp_path, 2, Watch(0, 1), state.save)
    writer.write(1)
    waited = []

    def wait() -> None:
        waited.append(len(state.done))
        state.done[-1].set_result(None)

    monkeypatch.setattr(writer._shown, "wait", wait)
    writer.write(2)
    writer.finish()
    assert waited == [1, 2]
    assert checkpoint_steps(tmp_path) == [1, 2]


def test_a_failing_save_is_said_and_leaves_the_one_before(tmp_path) -> None:
    state = Slow()
    writer = CheckpointWriter(tmp_path, 1, Watch(0, 1), state.save)
    writer.write(1)
    state.done[0].set_result(None)
    writer.write(2)
    writer.check()
    full = OSError(28, "No space left on device")
    state.done[1].set_exception(CheckpointException("save", {1: (full, None)}))
    for report in (writer.check, writer.finish, lambda: writer.write(3)):
        with pytest.raises(AnyTalkerError, match=r"step 2 can't be .*No space left.*step 1 is whole; free some"):
            report()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_what_a_killed_run_was_writing_is_cleared_away(tmp_path) -> None:
    state = Slow()
    for step in (1, 2):
        CheckpointWriter(tmp_path, 1, Watch(0, 1), state.save).write(step)
        if step == 1:
            state.done[0].set_result(None)
    assert checkpoint_steps(tmp_path) == [1]
    CheckpointWriter(tmp_path, 1, Watch(0, 1), state.save)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_steps_made_while_a_checkpoint_is_written_are_not_in_it(tmp_path, monkeypatch) -> None:
    runner = Trainer(make_config(tmp_path, fsdp=True, steps=2), lambda line: None)
    real, go = FileSystemWriter.write_data, threading.Event()

    def write(*arguments: object) -> object:
        go.wait()
        return real(*arguments)

    monkeypatch.setattr(FileSystemWriter, "write_data", write)
    before = [value.detach().clone() for value in (*runner.trained, *runner.average.shadow_params)]
    saving = runner.state.save(tmp_path / "checkpoint")
    losses = [runner._train_step(iter([next(iter(runner.reader))]), 1)]
    now = (*runner.trained, *runner.average.shadow_params)
    assert any(not torch.equal(old, new) for old, new in zip(before, now, strict=True)), losses
    go.set()
    saving.result()
    runner.state.load(tmp_path / "checkpoint")
    now = (*runner.trained, *runner.average.shadow_params)
    assert all(torch.equal(old, new) for old, new in zip(before, now, strict=True))


def test_a_sharded_run_that_can_not_write_says_so_and_keeps_the_last(tmp_path, monkeypatch) -> None:
    train(make_config(tmp_path, fsdp=True, steps=2))
    runner = Trainer(make_config(tmp_path, fsdp=True, steps=6), lambda line: None)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FileSystemWriter, "write_data", full)
    with pytest.raises(AnyTalkerError, match=r"step 4 can't be written .*No space left on device.*step 2 is whole"):
        runner.run()
    assert checkpoint_steps(tmp_path / "run" / "checkpoints") == [2]


def test_a_damaged_sharded_checkpoint_is_named(tmp_path) -> None:
    train(make_config(tmp_path, fsdp=True))
    newest = tmp_path / "run" / "checkpoints" / "step-00000004" / "sharded"
    for path in (next(newest.glob("*.distcp")), newest / ".metadata"):
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(InputError, match=r"step-00000004 is damaged \(.+\)\. Remove it, .* from step 2"):
            Trainer(make_config(tmp_path, fsdp=True), lambda line: None)
