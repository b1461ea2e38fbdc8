"""The queue as services and Python use it: submit a video, look how far it is, cancel it, get its files.

queue = VideoQueue("data")
with Supervisor(queue):  # the workers, of anytalker.queue.supervisor
    job = queue.submit(VideoRequest(seed=3), "two.png", ["anna.wav", "ben.wav"])
    for moment in queue.watch(job.id):
        print(moment.state.value, moment.progress, moment.seconds_left)
    print(queue.file(job.id, VIDEO))
"""

from __future__ import annotations

import re
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from anytalker.errors import InputError
from anytalker.loading.locate import find_model
from anytalker.media.credentials import Credentials
from anytalker.queue.decoding import PICTURE, DecodingBounds, decode, voice_name
from anytalker.queue.record import LOCAL, QueuedJob, State, UnknownJob
from anytalker.queue.request import VideoRequest
from anytalker.queue.store import Bounds, JobStore

VIDEO, RECORD, PREVIEW = "video.mp4", "video.json", "preview.jpg"
_ID = re.compile(r"video_[0-9a-f]{24}")
_ORPHANED = 3600.0
"""Seconds after which a folder without a job is nobody's any more."""


@dataclass(frozen=True)
class QueueSettings:
    """How a queue is kept.

    Attributes:
        bounds: how much it holds.
        decoding: what decoding the files of a job may take.
        keep_seconds: that a job and its video are kept once it has ended; None: until it is deleted.
        job_seconds: that a job may run.
        crashes: after which a job is given up that takes its worker's process with it and gets no further.
        lease: seconds without a sign of life after which a worker is taken for dead.
        preview_every: steps from one picture of a video in the making to the next.
        label: visible in the corner of every frame, such as "AI-generated"; None: none.
        credentials: with which videos are signed; None: they aren't.
        preload: model that workers load before there is a job; None: the first job's.
    """

    bounds: Bounds = field(default_factory=Bounds)
    decoding: DecodingBounds = field(default_factory=DecodingBounds)
    keep_seconds: float | None = 30 * 86400.0
    job_seconds: float = 6 * 3600.0
    crashes: int = 6
    lease: float = 60.0
    preview_every: int = 1
    label: str | None = None
    credentials: Credentials | None = None
    preload: str | None = None

    @property
    def expires(self) -> float | None:
        """When what ends now is deleted."""
        return None if self.keep_seconds is None else time.time() + self.keep_seconds


class VideoQueue:
    """The jobs in a folder; any number of processes may open it.

    The folder holds jobs.sqlite3 and jobs/ID/ with image.png, voice-1.wav, …, and, when they are there, preview.jpg,
    video.mp4 and video.json. No name in it comes from a user.

    Args:
        folder: made if it isn't there, for its owner's eyes alone.
        settings: how it is kept.

    Raises:
        InputError: if the folder can't be used.
    """

    def __init__(self, folder: str | Path, settings: QueueSettings | None = None) -> None:
        self.folder, self.settings = Path(folder).absolute(), settings or QueueSettings()
        self._jobs, self._incoming = self.folder / "jobs", self.folder / "incoming"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for inner in (self._jobs, self._incoming):
                inner.mkdir(exist_ok=True, mode=0o700)
            self.store = JobStore(self.folder / "jobs.sqlite3")
        except OSError as error:
            raise InputError(f"{self.folder} can't be used: {error.strerror}. Choose another --data.") from error
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{self.folder / 'jobs.sqlite3'} can't be used as a file of jobs: {error}. Choose another --data."
            ) from error

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """A folder for files on their way in; it goes away afterwards, unless a job has taken it."""
        folder = self._incoming / secrets.token_hex(12)
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def submit(
        self,
        request: VideoRequest,
        image: str | Path,
        voices: Sequence[str | Path] = (),
        owner: str = LOCAL,
        *,
        at: float | None = None,
        priority: int = 0,
        key: str | None = None,
        digest: str = "",
        bounds: Bounds | None = None,
        webhook: str | None = None,
    ) -> QueuedJob:
        """Queue a video; its files are decoded and copied first, in a process with bounds.

        Args:
            request: what is asked for. Its people name recordings by their numbers, from 1; its timeline as
                "voice-1.wav". Without people, timeline or script everybody with a recording speaks, from the left.
            image: the picture, or a video.
            voices: recordings.
            owner: whose it is.
            at: of a video as the picture, the second of the frame.
            priority: of the jobs that wait, those of a higher one go first.
            key: of idempotency: a second request with it gets the job of the first one.
            digest: what that must have in common.
            bounds: instead of those of the settings.
            webhook: see `JobStore.add`.

        Raises:
            InputError: if anything can't be used.
            QueueFull: if there is no room.
            KeyConflict: if the key was used for another request.
        """
        bounds = bounds or self.settings.bounds
        if key is not None and (known := self.store.known(owner, key, digest)) is not None:
            return known
        settled = request.with_people(len(voices))
        find_model(settled.model)
        self.store.check_room(owner, bounds)
        with self.incoming() as folder:
            decode(folder, Path(image), list(map(Path, voices)), at, self.settings.decoding)
            size = size_of(folder)
            self.store.check_room(owner, bounds, size)
            job = f"video_{secrets.token_hex(12)}"
            # The folder first: a job is never without its files. One without a job is swept up.
            folder.rename(self._jobs / job)
        try:
            added = self.store.add(job, settled, owner, bounds, priority, size, key, digest, webhook)
        except BaseException:
            self._remove_files(job)
            raise
        if added.id != job:  # another request with the same key was faster
            self._remove_files(job)
        return added

    def get(self, job: str, owner: str | None = None) -> QueuedJob:
        """A job; `owner` None may see all.

        Raises:
            UnknownJob: if there is none of that id, or it is somebody else's.
        """
        return self.store.get(job, owner)

    def list(self, owner: str | None = None, limit: int = 100, after: str | None = None) -> Sequence[QueuedJob]:
        """Jobs, the newest first, from the one after `after` on."""
        return self.store.jobs(owner, limit, after)

    def watch(self, job: str, owner: str | None = None, every: float = 0.2) -> Iterator[QueuedJob]:
        """A job at each of its moments, until it is over; looks every so many seconds.

        Raises:
            UnknownJob: if there is no such job, or no longer.
        """
        last = None
        while True:
            moment = self.store.get(job, owner)
            if moment.changed != last:
                last = moment.changed
                yield moment
            if moment.state.over:
                return
            time.sleep(every)

    def cancel(self, job: str, owner: str | None = None) -> QueuedJob:
        """Cancel a job that waits or runs; it stops within a step. One that is over stays as it is.

        Raises:
            UnknownJob: see `get`.
        """
        return self.store.cancel(job, owner, self.settings.expires)

    def retry(self, job: str, owner: str | None = None, bounds: Bounds | None = None) -> QueuedJob:
        """Queue a job again that failed or was cancelled; it goes on with what there is of it.

        Raises:
            UnknownJob, QueueFull: see `get` and `submit`.
        """
        return self.store.retry(job, owner, bounds or self.settings.bounds)

    def delete(self, job: str, owner: str | None = None) -> None:
        """Cancel a job if it isn't over, and delete it with all its files.

        Raises:
            UnknownJob: see `get`.
        """
        self.cancel(job, owner)
        self._forget(job)

    def folder_of(self, job: str) -> Path:
        """Where a job's files are.

        Raises:
            UnknownJob: if that can't be the id of a job.
        """
        if not _ID.fullmatch(job):
            raise UnknownJob(f"There is no video {job[:60]!r}.")
        return self._jobs / job

    def file(self, job: str, name: str, owner: str | None = None) -> Path | None:
        """One of a job's files, such as `VIDEO`, `RECORD` or `PREVIEW`; None if it isn't there (yet).

        Raises:
            UnknownJob: see `get`.
        """
        known = self.store.get(job, owner)
        if name in (VIDEO, RECORD) and known.state is not State.succeeded:
            return None
        path = self.folder_of(known.id) / name
        return path if path.is_file() else None

    def inputs_of(self, job: QueuedJob) -> tuple[Path, Sequence[Path]]:
        """The picture and the recordings of a job."""
        folder = self.folder_of(job.id)
        count = sum(1 for _ in folder.glob("voice-*.wav"))
        return folder / PICTURE, [folder / voice_name(number) for number in range(1, count + 1)]

    def sweep(self) -> Sequence[str]:
        """Delete jobs whose time is over, and folders that belong to none; ids of these jobs."""
        gone = []
        for job in self.store.expired():
            if self._forget(job, if_expired=True):
                gone.append(job)
        before = time.time() - _ORPHANED
        for folder in [*self._jobs.iterdir(), *self._incoming.iterdir()]:
            with suppress(OSError, UnknownJob):
                if folder.stat().st_mtime < before and (folder.parent == self._incoming or not self._is_known(folder)):
                    shutil.rmtree(folder, ignore_errors=True)
        return gone

    def _is_known(self, folder: Path) -> bool:
        try:
            self.store.get(folder.name)
        except UnknownJob:
            return False
        return True

    def _forget(self, job: str, if_expired: bool = False) -> bool:
        """Delete a job and its files; on a full disk its files first, since forgetting takes room, too."""
        try:
            deleted = self.store.delete(job, if_expired)
        except sqlite3.OperationalError as error:
            if "full" not in str(error) or not self.store.get(job).state.over:
                raise
            self._remove_files(job)
            deleted = self.store.delete(job, if_expired)
        if deleted:
            self._remove_files(job)
        return deleted

    def _remove_files(self, job: str) -> None:
        shutil.rmtree(self.folder_of(job), ignore_errors=True)


def size_of(folder: Path) -> int:
    """Bytes of a folder's files."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size
    return total
