"""A worker: a process that takes one job after another from the queue and has its video made."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from anytalker.files import Locked, atomic_path
from anytalker.pipelines.loading_options import LoadingOptions
from anytalker.processes import RAY, stand_back
from anytalker.queue.record import Claim, failure_of
from anytalker.queue.request import VideoRequest
from anytalker.queue.video_queue import PREVIEW, QueueSettings, VideoQueue, size_of

_POLL = 0.2
_TROUBLED = 2.0
"""Seconds until the file of jobs is tried again that could not be read or written."""
_SHARES = {"prepare": (0.0, 0.05), "denoise": (0.05, 0.9), "decode": (0.9, 1.0)}
"""Shares of the work at which a stage begins and ends."""
_REPORTED = 0.2
"""Seconds from one report within a stage to the next."""
log = logging.getLogger("anytalker.worker")


class _NotOurs(BaseException):
    """The job was cancelled, deleted or given to another worker; nothing on the way may take this for its own."""


class _Stopping(BaseException):
    """The worker is to end; the job goes back to the queue."""


class Maker(Protocol):
    """Makes videos, in this process or elsewhere; the model stays loaded.

    Attributes:
        loaded: name of that model; None: there is none yet.
    """

    loaded: str | None

    def load(self, model: str) -> Any:
        """Load a model before there is a video to make; another one makes way for it."""

    def make(
        self,
        request: VideoRequest,
        folder: Path,
        progress: Callable[[str, int, int], None],
        show: Callable[[Image.Image], None],
        settings: QueueSettings,
    ) -> Path:
        """Make the video of a job in its folder, or go on with it.

        Args:
            request: what is asked for.
            folder: with the picture and the recordings.
            progress: called as (stage, done, total) after every step; what it raises ends the work.
            show: called with pictures on the way.
            settings: of the queue.

        Raises:
            Exception: why it could not be made.
        """


def run_worker(
    folder: Path,
    settings: QueueSettings,
    name: str,
    device: str,
    loading: LoadingOptions = LoadingOptions(),
    begin: Callable[[], None] | None = None,
    cluster: str | None = None,
) -> None:
    """Work until the process that started this one ends, or SIGTERM.

    Args:
        folder: of the queue.
        settings: of the queue.
        name: of the worker.
        device: such as "cpu" or "cuda:0", or "ray:cuda" for one of a ray cluster.
        loading: what models are loaded with.
        begin: called first.
        cluster: where ray is.
    """
    _end_with_parent()
    if begin is not None:
        begin()
    stand_back(device)
    worker = Worker(VideoQueue(folder, settings), name, _maker(device, loading, cluster))
    signal.signal(signal.SIGTERM, lambda number, frame: worker.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which then stops its workers
    worker.run()


def _maker(device: str, loading: LoadingOptions, cluster: str | None) -> Maker:
    if device.startswith(RAY):
        from anytalker.queue.on_ray import RayMaker

        return RayMaker(device.removeprefix(RAY), loading, cluster or "auto")
    from anytalker.queue.making import MakerHere

    return MakerHere(device, loading)


def _end_with_parent() -> None:
    """End this process at once when the one that started it does, even by kill -9."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch(sentinel: Any = parent.sentinel) -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent").start()


class Worker:
    """Takes jobs one after another.

    Args:
        queue: where they are.
        name: of the worker.
        maker: of their videos.
    """

    def __init__(self, queue: VideoQueue, name: str, maker: Maker) -> None:
        self.queue, self.name, self.maker = queue, name, maker
        self._stopping = False

    def stop(self) -> None:
        """End at the next step; a job in the making goes back to the queue."""
        self._stopping = True  # no lock: a signal may come while this thread holds it

    def run(self) -> None:
        """Load the first model, then take jobs until `stop`."""
        if self.queue.settings.preload is not None:
            with suppress(Exception):  # what is wrong with it is said to whoever asks for it
                self.maker.load(self.queue.settings.preload)
        while not self._stopping:
            pause = _POLL
            try:
                if self.run_one():
                    continue
            except sqlite3.OperationalError:  # a full disk, for example, which may pass: the model stays loaded
                log.exception("jobs")
                pause = _TROUBLED
            time.sleep(pause)

    def run_one(self) -> bool:
        """Make the next job, if there is one; whether there was."""
        settings = self.queue.settings
        claim = self.queue.store.claim(self.name, settings.lease, self.maker.loaded)
        if claim is None:
            return False
        log.info("begun", extra={"job": claim.job.id, "attempt": claim.job.attempts})
        with _Heartbeat(self.queue, claim):
            self._make(claim)
        return True

    def _make(self, claim: Claim) -> None:
        store, settings = self.queue.store, self.queue.settings
        folder = self.queue.folder_of(claim.job.id)
        started = time.monotonic()
        try:
            show = partial(self._show, claim)
            made = self.maker.make(claim.job.request, folder, _Progress(self, claim), show, settings)
            if settings.credentials is not None:
                settings.credentials.sign(made)
        except _NotOurs:
            log.info("dropped", extra={"job": claim.job.id})
            store.resize(claim.job.id, size_of(folder))
            return
        except _Stopping:
            store.release(claim)
            return
        except Locked:  # by a worker that has lost the job, and notices at its next step
            store.release(claim)
            time.sleep(_POLL)
            return
        except Exception as error:  # one broken job must not end the others
            if not store.holds(claim):  # its files were deleted while it was made
                log.info("dropped", extra={"job": claim.job.id})
                return
            failure = failure_of(error, folder)
            log.warning("failed", extra={"job": claim.job.id, "code": failure.code})
            store.fail(claim, failure, size_of(folder), settings.expires)
            return
        if store.succeed(claim, size_of(folder), settings.expires):
            log.info("finished", extra={"job": claim.job.id, "seconds": round(time.monotonic() - started, 2)})

    def check(self, claim: Claim) -> None:
        """End the work on a job that is not to be gone on with."""
        if self._stopping:
            raise _Stopping
        if not self.queue.store.holds(claim):
            raise _NotOurs

    def _show(self, claim: Claim, picture: Image.Image) -> None:
        with suppress(OSError), atomic_path(self.queue.folder_of(claim.job.id) / PREVIEW) as path:
            picture.save(path, quality=85)
        with suppress(sqlite3.OperationalError):
            self.queue.store.count_preview(claim)


class _Progress:
    """Writes down how far a job is, and ends it if it is not wanted any more.

    Args:
        worker: that makes it.
        claim: on the job.
    """

    def __init__(self, worker: Worker, claim: Claim, clock: Callable[[], float] = time.monotonic) -> None:
        self._worker, self._claim, self._clock = worker, claim, clock
        self._first: tuple[float, float] | None = None
        self._said = -1.0, ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Called after every step."""
        self._worker.check(self._claim)
        now = self._clock()
        if stage == self._said[1] and now - self._said[0] < _REPORTED and done < total:
            return
        self._said = now, stage
        low, high = _SHARES.get(stage, (0.0, 1.0))
        share = low + (high - low) * done / max(1, total)
        if stage == "denoise" and self._first is None:
            self._first = now, share  # where it goes on after an interruption, the part before took no time
        left = None
        if self._first is not None and share > self._first[1]:
            left = (now - self._first[0]) * (1 - share) / (share - self._first[1])
        with suppress(sqlite3.OperationalError):  # the next step is told again
            self._worker.queue.store.report(self._claim, stage, done, total, share, left)


class _Heartbeat:
    """Renews a claim from a thread of its own, so that long steps don't look like death."""

    def __init__(self, queue: VideoQueue, claim: Claim) -> None:
        self._queue, self._claim, self._over = queue, claim, threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="heartbeat")

    def _beat(self) -> None:
        lease, held = self._queue.settings.lease, True
        try:
            while not self._over.wait(lease / 5) and held:
                with suppress(sqlite3.OperationalError):  # a full disk, for example, which may pass
                    held = self._queue.store.renew(self._claim, lease)
        finally:
            self._queue.store.close()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
