"""Processes that make one video after another, each with a device and a model of its own, here or wherever ray is.

Two kinds, because ray's Pool, with the interface of the standard library's, would make every batch need ray, and
neither of the two pools replaces a process that died.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Protocol

from anytalker.errors import first_line
from anytalker.failures import explain
from anytalker.jobs.job import Job
from anytalker.pipelines.loading_options import LoadingOptions
from anytalker.processes import RAY

_DIED = "Its process ended without a message; most likely it ran out of memory."
_PIPELINES: dict[tuple[str, str, LoadingOptions], Any] = {}


class Worker(Protocol):
    """Makes videos somewhere."""

    def make(self, model: str, loading: LoadingOptions, job: Job, path: Path) -> str | None:
        """Make one video; why it could not be made."""

    def close(self) -> None:
        """Let go of the device."""


def worker_for(device: str) -> Worker:
    """A worker for "cpu", "cuda:0", …, or for "ray:cpu" and "ray:cuda", one of the devices that ray knows of."""
    return RayWorker(device.removeprefix(RAY)) if device.startswith(RAY) else LocalWorker(device)


class LocalWorker:
    """A process of this machine; one that dies is replaced."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._pool: ProcessPoolExecutor | None = None

    def make(self, model: str, loading: LoadingOptions, job: Job, path: Path) -> str | None:
        """Make one video; why it could not be made."""
        self._pool = self._pool or ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        try:
            return self._pool.submit(make_video, model, self.device, loading, job, path).result()
        except (BrokenProcessPool, OSError) as error:
            self._pool.shutdown(wait=False)
            self._pool = None
            return f"Its process can't be started: {error.strerror}." if isinstance(error, OSError) else _DIED

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._pool.shutdown()


class RayWorker:
    """A process on any machine of ray's cluster, with one GPU or CPU of it; one that dies is replaced.

    The machines must see the same files under the same paths.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._actor: Any = None

    def make(self, model: str, loading: LoadingOptions, job: Job, path: Path) -> str | None:
        """Make one video; why it could not be made."""
        import ray

        if self._actor is None:
            share = {"num_gpus": 1} if self.device == "cuda" else {"num_cpus": 1}
            self._actor = ray.remote(**share)(_Maker).remote()
        try:
            return ray.get(self._actor.make.remote(model, self.device, loading, job, path))
        except ray.exceptions.RayActorError:
            self._actor = None
            return _DIED
        except ray.exceptions.RayError as error:
            return f"ray could not run it: {first_line(error)}"

    def close(self) -> None:
        """End the process."""
        import ray

        if self._actor is not None:
            ray.kill(self._actor)


class _Maker:
    def make(self, model: str, device: str, loading: LoadingOptions, job: Job, path: Path) -> str | None:
        return make_video(model, device, loading, job, path)


def make_video(model: str, device: str, loading: LoadingOptions, job: Job, path: Path) -> str | None:
    """Make one video, in the device's process; why it could not be made."""
    import torch

    from anytalker.pipelines.ready import load_for

    try:
        key = (model, device, loading)
        if key not in _PIPELINES:
            if device == "cpu":
                torch.set_num_threads(1)  # the same sums in the same order, however many processes there are
            _PIPELINES[key] = load_for(model, device, loading)
            _PIPELINES[key].set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(job.seed)
        given = {"faces": job.faces, "at": job.at, "generator": generator}
        _PIPELINES[key].generate_to(path, job.image, job.audio, **given, **dict(job.options))
    except Exception as error:  # one broken job must not end the others
        return explain(error)
    return None
