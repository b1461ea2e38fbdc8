"""Videos made on a ray cluster: a process of it keeps the model, and gets and gives files, for it shares no disk.

A worker here has one such process, an actor. It sends the files of a job and then answers, after every step, whether
to go on; with each step come progress, pictures, and the parts from which an interrupted video goes on. So a job ends
within a step, as it does here, and the file of jobs is never seen by the cluster. If the actor dies, so does the
worker's own process: what follows is the supervisor's, as for any worker that died.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

from PIL import Image

from anytalker.errors import AnyTalkerError
from anytalker.files import atomic_path
from anytalker.media.destination import parts_folder
from anytalker.pipelines.loading_options import LoadingOptions
from anytalker.processes import connect_to_ray, ray_devices, stand_back
from anytalker.queue.decoding import PICTURE
from anytalker.queue.record import Failure, NotMade, failure_of
from anytalker.queue.request import VideoRequest
from anytalker.queue.video_queue import RECORD, VIDEO, QueueSettings

log = logging.getLogger("anytalker.worker")
Files = Mapping[str, bytes | None]
"""Contents by path within a job's folder; None: the file has gone."""


def devices_on_ray(address: str) -> tuple[list[str], str]:
    """Devices of a ray cluster, and the address under which workers find it, which are processes of their own.

    Args:
        address: see `connect_to_ray`. A cluster started here lives as long as this process.

    Raises:
        InputError: if ray is not installed, or the cluster can't be reached.
    """
    devices = ray_devices(address)
    import ray

    found = address if address.startswith("ray://") else ray.get_runtime_context().gcs_address
    if address != "local":
        ray.shutdown()  # or this process would end with the cluster
    return devices, found


@dataclass(frozen=True)
class News:
    """What an actor tells after a step, and last.

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
    """Makes videos with one GPU or CPU of a cluster; see `anytalker.queue.worker.Maker`.

    Waits until the cluster has one. The process ends if the cluster or the actor does.

    Args:
        device: "cuda" or "cpu".
        loading: what models are loaded with; files of adapters must be there on the cluster's machines, too.
        cluster: its address.
    """

    def __init__(self, device: str, loading: LoadingOptions, cluster: str) -> None:
        self.loaded: str | None = None
        try:
            connect_to_ray(cluster)
        except AnyTalkerError as error:
            raise _ended(error) from error
        import ray

        share = {"num_gpus": 1} if device == "cuda" else {"num_cpus": 1}
        self._actor = ray.remote(**share)(VideoActor).remote(device, loading)
        self._ask("ready")

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
        inputs = {_name(path, folder): path.read_bytes() for path in _inputs(folder)}
        news = self._ask("begin", request, inputs, settings.label, settings.preview_every)
        self.loaded = request.model
        while not news.over:
            try:
                if news.step is not None:
                    progress(*news.step)
                if news.picture is not None:
                    show(news.picture)
                _write(folder, news.files)
            except BaseException:
                self._ask("go_on", False)  # its last news come when it has ended
                raise
            news = self._ask("go_on", True)
        _write(folder, news.files)
        if news.failure is not None:
            raise NotMade(news.failure)
        return folder / VIDEO

    def _ask(self, method: str, *given: Any) -> Any:
        """Call a method of the actor.

        Raises:
            SystemExit: if the actor or the cluster has gone.
            Exception: that the method raised.
        """
        import ray

        try:
            return ray.get(getattr(self._actor, method).remote(*given))
        except ray.exceptions.RayTaskError:
            raise
        except (ray.exceptions.RayError, ConnectionError) as error:
            raise _ended(error) from error


class VideoActor:
    """In a process of the cluster: makes a video in a thread that waits after each step until it may go on.

    Args:
        device: such as "cpu" or "cuda".
        loading: what models are loaded with.
    """

    def __init__(self, device: str, loading: LoadingOptions) -> None:
        from anytalker.queue.making import MakerHere

        stand_back(device)
        self._maker = MakerHere(device, loading)
        self._thread = ThreadPoolExecutor(1)
        self._news: SimpleQueue[News] = SimpleQueue()
        self._answers: SimpleQueue[bool] = SimpleQueue()

    def ready(self) -> None:
        """Return, once the actor has a place."""

    def load(self, model: str) -> None:
        """Load a model."""
        self._thread.submit(self._maker.load, model).result()

    def begin(self, request: VideoRequest, files: Files, label: str | None, preview_every: int) -> News:
        """Begin with a video; the first news of it."""
        settings = QueueSettings(label=label, preview_every=preview_every)
        self._thread.submit(self._make, request, files, settings)
        return self._news.get()

    def go_on(self, wanted: bool) -> News:
        """Go on with the video, or end; the next news of it."""
        self._answers.put(wanted)
        return self._news.get()

    def _make(self, request: VideoRequest, files: Files, settings: QueueSettings) -> None:
        last = News(over=True)
        try:
            with TemporaryDirectory(prefix="anytalker-", ignore_cleanup_errors=True) as name:
                last = self._made(request, Path(name), files, settings)
        except Exception as error:  # the machine's disk is full, for example
            last = News(over=True, failure=failure_of(error, Path(gettempdir())))
        finally:
            self._news.put(last)

    def _made(self, request: VideoRequest, folder: Path, files: Files, settings: QueueSettings) -> News:
        _write(folder, files)
        known = _stamps(folder)

        def tell(step: tuple[str, int, int] | None = None, picture: Image.Image | None = None) -> None:
            self._news.put(News(step, picture, _changes(folder, known)))
            if not self._answers.get():
                raise _Unwanted

        try:
            self._maker.make(request, folder, lambda *step: tell(step), lambda picture: tell(None, picture), settings)
        except _Unwanted:
            return News(over=True)
        except Exception as error:
            return News(files=_changes(folder, known), over=True, failure=failure_of(error, folder))
        return News(files=_changes(folder, known), over=True)


class _Unwanted(BaseException):
    """The video is not to be gone on with."""


def _ended(error: Exception) -> SystemExit:
    log.error("no ray", extra={"why": str(error).partition("\n")[0]})
    return SystemExit(1)


def _inputs(folder: Path) -> list[Path]:
    return [folder / PICTURE, *sorted(folder.glob("voice-*.wav")), *_parts(folder)]


def _parts(folder: Path) -> list[Path]:
    """What an unfinished video goes on from, in the order in which it was written: the state last."""
    found = parts_folder(folder / VIDEO).glob("*.safetensors")
    return sorted(path for path in found if not path.name.startswith("."))


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """The results so far, and what tells their versions apart."""
    results = [*_parts(folder), *(path for path in (folder / VIDEO, folder / RECORD) if path.is_file())]
    return {_name(path, folder): (path.stat().st_ino, path.stat().st_mtime_ns) for path in results}


def _changes(folder: Path, known: dict[str, tuple[int, int]]) -> Files:
    """Results that are new, other or gone since they were `known`, which is brought up to date."""
    now = _stamps(folder)
    changed = {name: (folder / name).read_bytes() for name, stamp in now.items() if known.get(name) != stamp}
    gone = dict.fromkeys(name for name in known if name not in now)
    known.clear()
    known.update(now)
    return changed | gone


def _write(folder: Path, files: Files) -> None:
    """Bring a job's folder up to date: what is there in order, what has gone in the opposite one.

    Raises:
        AnyTalkerError: if a disk is full, for example.
    """
    try:
        for name, content in files.items():
            if content is not None:
                (folder / name).parent.mkdir(exist_ok=True)
                with atomic_path(folder / name) as path:
                    path.write_bytes(content)
        for name in sorted((name for name, content in files.items() if content is None), reverse=True):
            (folder / name).unlink(missing_ok=True)
            with suppress(OSError):  # other parts are in it
                (folder / name).parent.rmdir()
    except OSError as error:
        raise AnyTalkerError(f"The video's files can't be written: {error.strerror}.") from error


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
