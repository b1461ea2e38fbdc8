"""Running a curation: the same two steps, files and then their shots, in processes of this machine or by ray.data."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import wait as wait_for_any
from threading import Thread
from typing import Any, Protocol

from anytalker.curation.footage import FPS
from anytalker.curation.piece import Dropped, Source
from anytalker.curation.survey import Survey
from anytalker.curation.work import FileWork, ShotResult, examine_shot, survey_file, write_result

_ATTEMPTS = 2
_DIED = "its process ended without a message, most likely for want of memory"

Do = Callable[[FileWork, "tuple[int, int] | None"], "list[tuple[int, int]]"]
"""Does a task, see `_do`."""


class Progress(Protocol):
    """Told of what is done."""

    def __call__(self, step: str, done: float, total: float) -> None:
        """`step` is "survey" or "shots"; `done` and `total` are seconds of footage."""


def run_here(works: Sequence[FileWork], workers: int, on_progress: Progress) -> None:
    """Do all work that isn't done yet. Results don't depend on the number of processes.

    Args:
        works: the files.
        workers: processes; 0: none but this one.
        on_progress: told of what is done.
    """
    if workers > 0:
        _Pool(workers, on_progress).run(works)
        return
    done = total = 0.0
    with _one_thread_here():
        for number, work in enumerate(works, 1):
            found = [_Task(work, part) for part in work.parts(survey_file(work))]
            on_progress("survey", number, len(works))
            total += sum(task.seconds for task in found)
            for task in found:
                _do(work, task.part)
                done += task.seconds
                on_progress("shots", done, total)


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
    """Processes that take one task after another; one that dies is replaced and its task tried once more.

    Attributes:
        workers: how many.
        on_progress: told of what is done.
        do: does a task, in any of the processes; the parts of a file's shots.
        prepare: called once in each process.
    """

    workers: int
    on_progress: Progress
    do: Do = field(default_factory=lambda: _do)
    prepare: Callable[[], None] = field(default_factory=lambda: _one_thread)
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
                broken = self._submit(pool, running)
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
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
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.workers, context, initializer=_begin, initargs=(self.prepare,))

    def _submit(self, pool: ProcessPoolExecutor, running: dict[Future[Any], _Task]) -> bool:
        """Give tasks to processes without one; whether a process was found dead."""
        while self.waiting and len(running) < self.workers:
            if running and (self.waiting[-1].attempts or any(task.attempts > 1 for task in running.values())):
                break  # a suspect works alone: so it is known whose process died
            task = self.waiting.pop()
            try:
                running[pool.submit(self.do, task.work, task.part)] = task
            except BrokenProcessPool:
                self.waiting.append(task)
                return True
            task.attempts += 1
        return False

    def _finish(self, task: _Task, future: Future[Any], files: int) -> bool:
        """Take note of a task that ended; whether its process died."""
        try:
            parts = future.result()
        except BrokenProcessPool:
            if task.attempts < _ATTEMPTS:
                self.waiting.append(task)
                return True
            _give_up(task.work, task.part)
            self._note(task, [], files)
            return True
        self._note(task, parts, files)
        return False

    def _note(self, task: _Task, parts: Sequence[tuple[int, int]], files: int) -> None:
        if task.part is None:
            self.files += 1
            self.on_progress("survey", self.files, files)
            found = [_Task(task.work, part) for part in reversed(parts)]
            self.total += sum(one.seconds for one in found)
            self.waiting += found
        else:
            self.done += task.seconds
            self.on_progress("shots", self.done, self.total)


def _begin(prepare: Callable[[], None]) -> None:
    """Make ready a process, which ends with the one that started it, however that ends."""
    Thread(target=_end_with_parent, daemon=True).start()
    prepare()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_any([parent.sentinel])
        os._exit(1)


def _one_thread() -> None:
    """Let every process do with one thread: all cores are busy anyway, and sums don't depend on their number."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@contextmanager
def _one_thread_here() -> Iterator[None]:
    """The same for a while."""
    import cv2
    import torch

    threads = torch.get_num_threads(), cv2.getNumThreads()
    _one_thread()
    try:
        yield
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def _do(work: FileWork, part: tuple[int, int] | None) -> list[tuple[int, int]]:
    """A task, in any process; the parts of a file's shots."""
    if part is not None:
        examine_shot(work, part)
        return []
    return work.parts(survey_file(work))


def _give_up(work: FileWork, part: tuple[int, int] | None) -> None:
    """Write down that a task can't be done, so that the run goes on without it."""
    if part is None:
        work.folder.mkdir(parents=True, exist_ok=True)
        write_result(work.survey_path(), Survey(path=str(work.path), problem=f"{work.path.name}: {_DIED}", failed=True))
        return
    source = Source(path=str(work.path), start=part[0] / FPS, end=part[1] / FPS)
    reason = f"{work.path.name}, {source.start:.2f} to {source.end:.2f} s: {_DIED}"
    lost = Dropped(source=source, stage="footage", reason=reason, numbers={"failed": 1})
    write_result(work.shot_path(part), ShotResult(dropped=[lost]))


def run_on_ray(
    works: Sequence[FileWork],
    address: str,
    on_progress: Progress,
    do: Do | None = None,
    prepare: Callable[[], None] | None = None,
) -> None:
    """The same on a ray cluster, whose machines must see the same files under the same paths.

    Files and then shots stream through `ray.data`, one core each; a shot begins as soon as its file was looked through.

    Args:
        works: the files.
        address: see `connect_to_ray`.
        on_progress: told of what is done.
        do: does a task, in any process; None: what a curation does.
        prepare: called before it; None: restricts the process to one thread.

    Raises:
        InputError: if ray is not installed or the cluster can't be reached.
    """
    from anytalker.processes import connect_to_ray

    connect_to_ray(address)
    if not works:
        return
    import ray

    do, prepare = do or _do, prepare or _one_thread
    context = ray.data.DataContext.get_current()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # of a process that died: what is missing at the end is named
    task: dict[str, Any] = {"num_cpus": 1, "max_retries": _ATTEMPTS - 1}

    def surveyed(row: dict[str, Any]) -> list[dict[str, Any]]:
        prepare()
        parts = do(works[row["file"]], None)
        return [{"file": row["file"], "start": start, "end": end} for start, end in parts]

    def examined(row: dict[str, Any]) -> dict[str, Any]:
        prepare()
        do(works[row["file"]], (row["start"], row["end"]))
        return row

    files = ray.data.from_items([{"file": index} for index in range(len(works))], override_num_blocks=len(works))
    shots = files.flat_map(surveyed, **task).repartition(target_num_rows_per_block=1)
    done, total = 0.0, _Growing(works)
    for row in shots.map(examined, **task).iter_rows():
        done += (row["end"] - row["start"]) / FPS
        on_progress("shots", done, total.after(row["file"]))
    for work in works:
        if not work.survey_path().is_file():
            _give_up(work, None)
        for part in work.parts(work.read_survey()):
            if not work.shot_path(part).is_file():
                _give_up(work, part)


class _Growing:
    """Seconds of shots in the files that were looked through so far, as far as their shots came back."""

    def __init__(self, works: Sequence[FileWork]) -> None:
        self._works, self._seconds = works, dict[int, float]()

    def after(self, file: int) -> float:
        """The seconds, with those of a file that a shot came from."""
        if file not in self._seconds:
            work = self._works[file]
            self._seconds[file] = sum((end - start) / FPS for start, end in work.parts(work.read_survey()))
        return sum(self._seconds.values())
