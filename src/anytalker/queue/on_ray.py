"""Videos made on a ray cluster, by a process of it that keeps the model: an actor. It needs no disk in common.

A worker here sends its actor the files of a job and answers, after every step, whether to go on; with each step come
progress, pictures and the parts from which an interrupted video goes on. So a job ends within a step, and the cluster
never sees the file of jobs. If the actor dies, so does the worker's process, and the supervisor does the rest.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import psutil
from PIL import Image

from anytalker.errors import AnyTalkerError, InputError
from anytalker.files import atomic_path
from anytalker.media.destination import parts_folder
from anytalker.pipelines.loading_options import LoadingOptions
from anytalker.processes import connect_to_ray, stand_back
from anytalker.queue.decoding import PICTURE
from anytalker.queue.record import Failure, NotMade, failure_of
from anytalker.queue.request import VideoRequest
from anytalker.queue.video_queue import RECORD, VIDEO, QueueSettings

_ORPHANED = 3600.0
"""Seconds after which a folder of an actor that has gone is removed."""
_FOLDER = "anytalker-actor-"
log = logging.getLogger("anytalker.worker")
Files = Mapping[str, bytes | None]
"""Contents by path within a job's folder; None: the file has gone."""


@dataclass(frozen=True)
class News:
    """What an actor tells after a step, and at the end.

    Attributes:
        step: (stage, done, total).
        picture: of what the video will look like.
        files: that have changed.
        over: whether nothing more comes.
        failure: why the video could not be made.
    """

    step: tuple[str, int, int] | None = None
    picture: Image.Image | None = None
    files: Files = field(default_factory=dict)
    over: bool = False
    failure: Failure | None = None


class RayMaker:
    """Makes videos with one GPU or CPU of a cluster, once one is free; see `anytalker.queue.worker.Maker`.

    Args:
        device: "cuda" or "cpu".
        loading: what models are loaded with; files of adapters must be there on the cluster's machines.
        cluster: its address.

    Raises:
        SystemExit: now or later, if the actor or the cluster has gone.
    """

    def __init__(self, device: str, loading: LoadingOptions, cluster: str) -> None:
        self.loaded: str | None = None
        try:
            connect_to_ray(cluster)
        except InputError as error:
            raise _end(error) from error
        import ray

        share = {"num_gpus": 1} if device == "cuda" else {"num_cpus": 1}
        self._actor = ray.remote(**share)(VideoActor).remote(device, loading)
        self._ask("__ray_ready__")

    def load(self, model: str) -> None:
        """Load a model before there is a video to make; another one makes way for it."""
        self._ask("load", model)
        self.loaded = model

    def make(
        self,
        request: VideoRequest,
        folder: Path,
        progress: Callable[[str, int, int], None],
        show: Callable[[Image.Image], None],
        settings: QueueSettings,
    ) -> Path:
        """Make the video of a job in its folder, or go on with it."""
        inputs = [folder / PICTURE, *sorted(folder.glob("voice-*.wav")), *_parts(folder)]
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in inputs}
        news = self._ask("begin", request, files, settings.label, settings.preview_every)
        self.loaded = request.model
        while not news.over:
            try:
                if news.step is not None:
                    progress(*news.step)
                if news.picture is not None:
                    show(news.picture)
                _write(folder, news.files)
            except BaseException:
                self._ask("go_on", False)
                raise
            news = self._ask("go_on", True)
        _write(folder, news.files)
        if news.failure is not None:
            raise NotMade(news.failure)
        return folder / VIDEO

    def _ask(self, method: str, *given: Any) -> Any:
        """Call a method of the actor."""
        import ray

        try:
            return ray.get(getattr(self._actor, method).remote(*given))
        except ray.exceptions.RayTaskError:  # what the method itself has raised
            raise
        except (ray.exceptions.RayError, ConnectionError) as error:
            raise _end(error) from error


def _end(why: Exception) -> SystemExit:
    log.error("no ray", extra={"why": str(why).partition("\n")[0]})
    return SystemExit(1)


class _Unwanted(BaseException):
    """The video is not to be gone on with."""


class VideoActor:
    """In a process of the cluster: makes a video in a thread, which waits after each step until it may go on.

    Args:
        device: such as "cpu" or "cuda".
        loading: what models are loaded with.
    """

    def __init__(self, device: str, loading: LoadingOptions) -> None:
        from anytalker.queue.making import MakerHere

        stand_back(device)
        _sweep()
        self._maker = MakerHere(device, loading)
        self._thread = ThreadPoolExecutor(1)
        self._news: SimpleQueue[News] = SimpleQueue()
        self._answers: SimpleQueue[bool] = SimpleQueue()

    def load(self, model: str) -> None:
        """Load a model."""
        self._thread.submit(self._maker.load, model).result()

    def begin(self, request: VideoRequest, files: Files, label: str | None, preview_every: int) -> News:
        """Begin with a video; the first news of it."""
        self._thread.submit(self._make, request, files, QueueSettings(label=label, preview_every=preview_every))
        return self._news.get()

    def go_on(self, wanted: bool) -> News:
        """Go on with the video, or end; the next news of it, or the last."""
        self._answers.put(wanted)
        return self._news.get()

    def _make(self, request: VideoRequest, files: Files, settings: QueueSettings) -> None:
        try:
            with TemporaryDirectory(prefix=f"{_FOLDER}{os.getpid()}-", ignore_cleanup_errors=True) as name:
                last = self._made(request, Path(name), files, settings)
        except Exception as error:  # there is no room for a folder, for example
            last = News(over=True, failure=failure_of(error, Path(gettempdir())))
        self._news.put(last)

    def _made(self, request: VideoRequest, folder: Path, files: Files, settings: QueueSettings) -> News:
        failure, known = None, _stamps(folder)

        def tell(step: tuple[str, int, int] | None = None, picture: Image.Image | None = None) -> None:
            self._news.put(News(step, picture, _changes(folder, known)))
            if not self._answers.get():
                raise _Unwanted

        try:
            _write(folder, files)
            known |= _stamps(folder)
            self._maker.make(request, folder, lambda *step: tell(step), lambda picture: tell(None, picture), settings)
        except _Unwanted:
            return News(over=True)
        except Exception as error:
            failure = failure_of(error, folder)
        return News(files=_changes(folder, known), over=True, failure=failure)


def _parts(folder: Path) -> list[Path]:
    """What an unfinished video goes on from, in the order in which it is written: the state last."""
    found = parts_folder(folder / VIDEO).glob("*.safetensors")
    return sorted(path for path in found if not path.name.startswith("."))


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """What there is of a video, and what tells its versions apart."""
    there = [*_parts(folder), *(path for path in (folder / VIDEO, folder / RECORD) if path.is_file())]
    stats = {path.relative_to(folder).as_posix(): path.stat() for path in there}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


def _changes(folder: Path, known: dict[str, tuple[int, int]]) -> Files:
    """What is new, other or gone since it was `known`, which is brought up to date."""
    now = _stamps(folder)
    changed = {name: (folder / name).read_bytes() for name, stamp in now.items() if known.get(name) != stamp}
    gone = {name: None for name in reversed(known) if name not in now}  # the state before what it knows of
    known.clear()
    known.update(now)
    return changed | gone


def _write(folder: Path, files: Files) -> None:
    """Bring a job's folder up to date, in the order of the files."""
    try:
        for name, content in files.items():
            path = folder / name
            if content is None:
                path.unlink(missing_ok=True)
                with suppress(OSError):  # where other parts are in it
                    path.parent.rmdir()
                continue
            path.parent.mkdir(exist_ok=True)
            with atomic_path(path) as whole:
                whole.write_bytes(content)
    except OSError as error:
        raise AnyTalkerError(f"The files of the video can't be written: {error.strerror}.") from error


def _sweep() -> None:
    """Remove folders that killed actors have left on this machine."""
    for folder in Path(gettempdir()).glob(f"{_FOLDER}[0-9]*-*"):
        with suppress(OSError):
            old = folder.stat().st_mtime < time.time() - _ORPHANED
            if old and not psutil.pid_exists(int(folder.name.split("-")[2])):
                shutil.rmtree(folder)
