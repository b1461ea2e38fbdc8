"""The engine: a process that dies ends nothing but its own task; `tests/jobs/test_ray.py` has it do the same on ray."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from anytalker.curation.config import CurationConfig
from anytalker.curation.dataset import assemble
from anytalker.curation.engine import _Pool
from anytalker.curation.survey import Survey
from anytalker.curation.work import FileWork, ShotResult, survey_file, write_result
from tests.processes import begin_at_once

CONFIG = CurationConfig()


def no_preparation() -> None:
    """Nothing to load: these tasks are small."""


def dangerous(work: FileWork, part: tuple[int, int] | None) -> list[tuple[int, int]]:
    """A task that kills its process: of one file always, of another one's second shot the first time."""
    if "deadly" in work.path.name:
        os.kill(os.getpid(), signal.SIGKILL)
    if part is None:
        work.folder.mkdir(parents=True, exist_ok=True)
        found = Survey(path=str(work.path), frames=100, shots=[(0, 50), (50, 100)])
        write_result(work.survey_path(), found)
        return work.parts(found)
    mark = work.dataset / "died before"
    if "shaky" in work.path.name and part[0] == 50 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    write_result(work.shot_path(part), ShotResult())
    return []


def works(tmp_path: Path, *names: str) -> list[FileWork]:
    found = []
    for name in names:
        (tmp_path / name).write_bytes(b"")
        found.append(FileWork(tmp_path / name, tmp_path / "dataset", CONFIG))
    (tmp_path / "dataset").mkdir()
    return found


def test_a_process_that_dies_is_replaced_and_its_task_named(tmp_path, monkeypatch) -> None:
    begin_at_once(monkeypatch)
    files = works(tmp_path, "calm.mp4", "deadly.mp4", "shaky.mp4")
    told: list[tuple[str, float, float]] = []
    _Pool(2, lambda *progress: told.append(progress), dangerous, no_preparation).run(files)
    assert (files[0].dataset / "died before").exists()
    dataset = assemble(files, {}, CONFIG)
    assert [reason for reason in dataset.failed if "deadly.mp4" in reason] == dataset.failed
    assert "ended without a message" in dataset.failed[0]
    assert [survey.frames for survey in dataset.surveys] == [100, 0, 100]
    assert [one for one in told if one[0] == "shots"][-1] == ("shots", 8.0, 8.0)
    assert max(done for step, done, _ in told if step == "survey") == 3


def test_what_failed_unexpectedly_is_tried_again_by_another_run(tmp_path, monkeypatch) -> None:
    (work,) = works(tmp_path, "talk.mp4")
    monkeypatch.setattr("anytalker.curation.work.survey", lambda *_: (_ for _ in ()).throw(MemoryError()))
    assert survey_file(work).failed
    whole = Survey(path=str(work.path), frames=50)
    monkeypatch.setattr("anytalker.curation.work.survey", lambda *_: whole)
    assert survey_file(work) == whole
