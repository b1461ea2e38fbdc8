"""Keeps the workers of a queue alive: a process a device, replaced when it dies, and what it was making goes on."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
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
        for job, holder in self.queue.store.overdue(settings.job_seconds):
            message = f"It took more than {settings.job_seconds:g} s, which is all the time there is for a video."
            self.queue.store.give_up(job, Failure("timeout", message), settings.expires)
            if holder in self.workers:
                self.workers[holder].kill()
        for name, worker in self.workers.items():
            if worker.alive:
                continue
            if worker.process is not None:
                log.warning("worker died", extra={"worker": name, "code": worker.process.exitcode})
            self._recover(name, settings.crashes)
            worker.start((self.queue.folder, settings, name, worker.device, self.loading, self.begin, self.cluster))
        self._recover(None, settings.crashes)

    def _recover(self, worker: str | None, crashes: int | None) -> None:
        for job in self.queue.store.recover(worker, crashes, self.queue.settings.expires):
            log.warning("goes on", extra={"job": job})

    def _stop(self) -> None:
        for worker in self.workers.values():
            worker.ask_to_end()
        for worker in self.workers.values():
            worker.end()
        for name in self.workers:
            self._recover(name, None)


class _Process:
    """A worker's process, of which there is one at a time."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.process: BaseProcess | None = None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        process = self.process
        with suppress(ValueError):  # asked from another thread, while this one's is being replaced
            return process is not None and process.is_alive()
        return False

    def start(self, arguments: tuple[Any, ...]) -> None:
        """Start it, where none runs."""
        if (gone := self.process) is not None:
            self.process = None
            gone.join()
            gone.close()
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=run_worker, args=arguments, daemon=True, name="anytalker-worker")
        with uninterrupted():
            process.start()
        self.process = process  # one that could not be started can't be joined either

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
