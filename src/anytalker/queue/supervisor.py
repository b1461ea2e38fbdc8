"""Keeps the workers of a queue alive: a process a device, replaced when it dies, and what it was making goes on."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from typing import Any

from filelock import FileLock, Timeout

from anytalker.pipelines.loading_options import LoadingOptions
from anytalker.processes import uninterrupted
from anytalker.queue.record import Failure
from anytalker.queue.video_queue import VideoQueue
from anytalker.queue.worker import run_worker

_TICK = 0.5
_SWEEP = 60.0
_GRACE = 10.0
"""Seconds that a worker has to end by itself."""
_WELL = 60.0
"""Seconds after which a worker that has had no job yet is taken to work, too."""
_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a start where two workers in a row ended before they worked; doubled with each further one."""
log = logging.getLogger("anytalker.supervisor")


class Supervisor:
    """The workers of a queue, for use with `with`; of several processes with the same queue, one has them at a time.

    Args:
        queue: the jobs.
        devices: such as "cpu" or "cuda:0", or "ray:cuda" for one of a ray cluster; a worker each.
        loading: what models are loaded with.
        begin: called in each worker's process first, to set up its logging, for example.
        cluster: where ray is.
    """

    def __init__(
        self,
        queue: VideoQueue,
        devices: Sequence[str] = ("cpu",),
        loading: LoadingOptions = LoadingOptions(),
        begin: Callable[[], None] | None = None,
        cluster: str | None = None,
    ) -> None:
        self.queue, self.loading, self.begin, self.cluster = queue, loading, begin, cluster
        self.workers = {f"{place}-{device}": _Process(device) for place, device in enumerate(devices)}
        self._lock = FileLock(queue.folder / "workers.lock", thread_local=False)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True, name="supervisor")

    def __enter__(self) -> Supervisor:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def alive(self) -> int:
        """How many workers there are right now, here."""
        return sum(worker.alive for worker in self.workers.values())

    @property
    def failing(self) -> int:
        """How many workers died several times in a row before they worked, and have not worked since."""
        return sum(worker.early > 1 for worker in self.workers.values())

    @property
    def elsewhere(self) -> bool:
        """Whether another process has the workers of this queue right now."""
        if not self._lock.is_locked:
            try:
                with FileLock(self.queue.folder / "workers.lock", timeout=0):
                    pass
            except Timeout:
                return not self._lock.is_locked
        return False

    def _keep(self) -> None:
        try:
            while not self._over.is_set():
                try:
                    if self._take_lock():
                        self._work()
                except Exception:  # without this thread nobody would have workers
                    log.exception("supervisor")
                self._over.wait(_TICK)
        finally:
            self.queue.store.close()

    def _take_lock(self) -> bool:
        with suppress(Timeout):
            self._lock.acquire(timeout=0)
            return True
        return False

    def _work(self) -> None:
        """Keep the workers while this process has the lock."""
        swept = 0.0
        try:
            for name in self.workers:  # what a killed service has left; its workers have ended with it
                self._recover(name, None)
            while not self._over.is_set():
                try:
                    self._tick()
                    if swept <= 0:
                        self.queue.sweep()
                        swept = _SWEEP
                except Exception:  # a full disk, for example, which may pass
                    log.exception("supervisor")
                swept -= _TICK
                self._over.wait(_TICK)
        finally:
            try:
                self._stop()
            finally:
                self._lock.release()

    def _tick(self) -> None:
        settings = self.queue.settings
        self._recover(None, settings.crashes)  # first: what nobody makes any more goes on, however old it is
        for job, holder in self.queue.store.overdue(settings.job_seconds):
            message = f"It took more than {settings.job_seconds:g} s, which is all the time there is for a video."
            self.queue.store.give_up(job, Failure("timeout", message), settings.expires)
            if holder in self.workers:
                self.workers[holder].kill()
        for name, worker in self.workers.items():
            if worker.alive:
                worker.forget_ends()
                continue
            if worker.process is not None:
                log.warning("worker died", extra={"worker": name, "code": worker.process.exitcode})
            worker.note_end(self._recover(name, settings.crashes))
            if worker.due:
                given = (self.queue.folder, settings, name, worker.device, self.loading, self.begin, self.cluster)
                worker.start(given)

    def _recover(self, worker: str | None, crashes: int | None) -> list[str]:
        jobs = self.queue.store.recover(worker, crashes, self.queue.settings.expires)
        for job in jobs:
            log.warning("goes on", extra={"job": job})
        return jobs

    def _stop(self) -> None:
        for worker in self.workers.values():
            worker.ask_to_end()
        for worker in self.workers.values():
            worker.end()
        for name in self.workers:
            self._recover(name, None)


class _Process:
    """A worker's process, of which there is one at a time.

    Attributes:
        device: of the worker.
        process: the present one, or the one that has ended last; None: there is none.
        early: how many ended in a row before they worked.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.process: BaseProcess | None = None
        self.early = 0
        self._started = self._next = 0.0

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        process = self.process
        with suppress(ValueError):  # asked from another thread, while this one's is being replaced
            return process is not None and process.is_alive()
        return False

    @property
    def due(self) -> bool:
        """Whether it is time to start the next one."""
        return time.monotonic() >= self._next

    @property
    def _works(self) -> bool:
        return time.monotonic() - self._started >= _WELL

    def start(self, arguments: tuple[Any, ...]) -> None:
        """Start it, where none runs."""
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=run_worker, args=arguments, daemon=True, name="anytalker-worker")
        self._started = time.monotonic()
        try:
            with uninterrupted():
                process.start()
        except OSError:
            self._wait()
            raise
        self.process = process  # one that could not be started can't be joined either

    def note_end(self, jobs: Sequence[str]) -> None:
        """Let go of one that has ended, with the jobs that it had; one that ends again before it works makes a pause.

        A job that ends its workers is given up by itself, so whoever had one is replaced at once.
        """
        if (gone := self.process) is None:
            return
        self.process = None
        gone.join()
        gone.close()
        if jobs or self._works:
            self.early = 0
        else:
            self._wait()

    def forget_ends(self) -> None:
        """Forget those that ended early, once one works."""
        if self._works:
            self.early = 0

    def _wait(self) -> None:
        self.early += 1
        if self.early > 1:
            pause = min(_PAUSE * 2 ** min(self.early - 2, 30), _LONGEST_PAUSE)
            self._next = time.monotonic() + pause
            log.error(f"a worker ended {self.early} times in a row before it worked; the next start is in {pause:g} s")

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None and self.process.is_alive():
            self.process.kill()
            self.process.join()

    def ask_to_end(self) -> None:
        """Let it end at its next step."""
        if self.process is not None and self.process.pid and self.process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, 15)

    def end(self) -> None:
        """Wait for it, but not for long."""
        if self.process is not None:
            self.process.join(_GRACE)
            self.kill()
