"""Running a curation: the same two steps, files and then their shots, in processes of this machine or by ray.data."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any, Protocol

from anytalker.curation.footage import FPS
from anytalker.curation.piece import Dropped, Source
from anytalker.curation.work import FileWork, ShotResult, examine_shot, survey_file, write_result

_ATTEMPTS = 2
_DIED = "its process ended without a message, most likely for want of memory"


class Progress(Protocol):
    """Told of what is done."""

    def __call__(self, step: str, done: float, total: float) -> None:
        """`step` is "survey" or "shots"; `done` and `total` are seconds of footage."""


def run_here(works: Sequence[FileWork], workers: int, on_progress: Progress) -> None:
    """Do all work that isn't done yet.

    Args:
        works: the files.
        workers: processes; 0: none but this one.
        on_progress: told of what is done.
    """
    if workers == 0:
        for work in works:
            for part in work.parts(survey_file(work)):
                examine_shot(work, part)
        return
    _Pool(workers, on_progress).run(works)


@dataclass
class _Task:
    """A file to look through (`part` is None), or a part of one of its shots to examine."""

    work: FileWork
    part: tuple[int, int] | None = None
    attempts: int = 0

    @property
    def seconds(self) -> float:
        return 0.0 if self.part is None else (self.part[1] - self.part[0]) / FPS


@dataclass
class _Pool:
    """Processes that take one task after another; one that dies is replaced and its task tried once more."""

    workers: int
    on_progress: Progress
    waiting: list[_Task] = field(default_factory=list)
    files: int = 0
    done: float = 0.0
    total: float = 0.0

    def run(self, works: Sequence[FileWork]) -> None:
        self.waiting = [_Task(work) for work in reversed(works)]
        running: dict[Future[Any], _Task] = {}
        pool = self._started()
        try:
            while self.waiting or running:
                while self.waiting and len(running) < self.workers:
                    if running and (self.waiting[-1].attempts or any(task.attempts > 1 for task in running.values())):
                        break  # a suspect works alone: so it is known whose process died
                    task = self.waiting.pop()
                    task.attempts += 1
                    running[pool.submit(_do, task.work, task.part)] = task
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                broken = False
                for future in finished:
                    broken |= self._finish(running.pop(future), future, len(works))
                if broken:
                    self.waiting += running.values()
                    running.clear()
                    pool.shutdown(wait=False, cancel_futures=True)
                    pool = self._started()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _started(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn"), initializer=_one_thread)

    def _finish(self, task: _Task, future: Future[Any], files: int) -> bool:
        """Take note of a task that ended; whether its process died."""
        try:
            parts = future.result()
        except BrokenProcessPool:
            if task.attempts < _ATTEMPTS:
                self.waiting.append(task)
            else:
                _give_up(task.work, task.part)
            return True
        if task.part is None:
            self.files += 1
            self.on_progress("survey", self.files, files)
            found = [_Task(task.work, part) for part in reversed(parts)]
            self.total += sum(one.seconds for one in found)
            self.waiting += found
        else:
            self.done += task.seconds
            self.on_progress("shots", self.done, self.total)
        return False


def _one_thread() -> None:
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _do(work: FileWork, part: tuple[int, int] | None) -> list[tuple[int, int]]:
    """A task, in any process; the parts of a file's shots."""
    if part is not None:
        examine_shot(work, part)
        return []
    return work.parts(survey_file(work))


def _give_up(work: FileWork, part: tuple[int, int] | None) -> None:
    """Write down that a task can't be done, so that the run goes on without it."""
    from anytalker.curation.survey import Survey

    if part is None:
        write_result(work.survey_path(), Survey(path=str(work.path), problem=_DIED))
        return
    source = Source(path=str(work.path), start=part[0] / FPS, end=part[1] / FPS)
    lost = Dropped(source=source, stage="footage", reason=_DIED, numbers={"failed": 1})
    write_result(work.shot_path(part), ShotResult(dropped=[lost]))


def run_on_ray(works: Sequence[FileWork], address: str, on_progress: Progress) -> None:
    """The same on a ray cluster, whose machines must see the same files under the same paths.

    Raises:
        InputError: if ray is not installed or the cluster can't be reached.
    """
    import ray

    from anytalker.processes import connect_to_ray

    connect_to_ray(address)
    rows = ray.data.from_items([{"file": index} for index in range(len(works))])

    def surveyed(row: dict[str, Any]) -> list[dict[str, Any]]:
        _one_thread()
        parts = _do(works[row["file"]], None)
        return [{"file": row["file"], "start": part[0], "end": part[1]} for part in parts]

    def examined(row: dict[str, Any]) -> dict[str, Any]:
        _one_thread()
        _do(works[row["file"]], (row["start"], row["end"]))
        return row

    done = 0.0
    for row in rows.repartition(len(works)).flat_map(surveyed).map(examined).iter_rows():
        done += (row["end"] - row["start"]) / FPS
        on_progress("shots", done, done)
