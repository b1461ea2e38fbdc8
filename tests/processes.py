"""Processes that tests start, forked from one that has imported what takes long, so that each begins at once."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

IMPORTED = (
    "torch.distributed.fsdp",
    "torch.distributed.checkpoint.state_dict",
    "torch.distributed.device_mesh",
    "torch.nn.parallel",
    "torch.utils.tensorboard",
    "anytalker.cli.app",
    "anytalker.hardware.context_parallel",
    "anytalker.jobs.workers",
    "anytalker.pipelines.ready",
    "anytalker.training.trainer",
    "anytalker.training.watch",
    "tests.quick_upscaling",
    "diffusers.models.autoencoders.autoencoder_kl_wan",
    "transformers.models.byt5.tokenization_byt5",
    "transformers.models.clip.modeling_clip",
    "transformers.models.umt5.modeling_umt5",
    "transformers.models.wav2vec2.modeling_wav2vec2",
)
"""What the first process imports for all."""


_FORKS = "forkserver" in multiprocessing.get_all_start_methods()
_CONTEXT = multiprocessing.get_context("forkserver" if _FORKS else "spawn")


def quick_context() -> BaseContext:
    """How processes are started: forked where the system can, each from nothing elsewhere."""
    if _FORKS:
        from multiprocessing import forkserver

        _CONTEXT.set_forkserver_preload(list(IMPORTED))
        with pytest.MonkeyPatch.context() as patch:  # it finds the tests, whatever folder it begins in
            patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)
            forkserver.ensure_running()
    return _CONTEXT


def begin_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the package's own workers begin like the tests' processes."""
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: quick_context())


@dataclass
class Running:
    """A process of a Python program, and the folder of what it writes."""

    process: BaseProcess
    said: tempfile.TemporaryDirectory

    def end(self, timeout: float = 240) -> tuple[int, str, str]:
        """Exit code, output and errors, once it has ended.

        Raises:
            TimeoutError: if it has not ended after `timeout` seconds; it is killed.
        """
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"{self.process.name} did not end; it wrote: {self.written('errors')}")
        ended = self.process.exitcode, self.written("output"), self.written("errors")
        self.said.cleanup()
        return ended

    def written(self, stream: str) -> str:
        """What it has written so far to "output" or "errors"."""
        path = Path(self.said.name) / stream
        return path.read_text(encoding="utf-8") if path.exists() else ""


def start(program: str, arguments: Sequence[str] = (), environment: dict[str, str] | None = None) -> Running:
    """Run a Python program as `python -c` does; `environment` is added to that of the tests."""
    said = tempfile.TemporaryDirectory(prefix="said-")
    given = (program, list(arguments), dict(os.environ) | (environment or {}), said.name, str(Path.cwd()))
    process = quick_context().Process(target=_run, args=given)
    process.start()
    return Running(process, said)


def start_together(program: str, count: int, *arguments: str) -> list[Running]:
    """Run a program in several processes, ranks 0 to `count` - 1, that find each other as those of torchrun do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"OMP_NUM_THREADS": "1"}
    return [start(program, arguments, common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(count)]


def ended(running: list[Running]) -> tuple[list[int], list[str]]:
    """Exit codes of processes, and what they said of errors, once all have ended."""
    try:
        results = [process.end() for process in running]
    finally:
        for one in running:
            one.process.kill()
    return [code for code, _, _ in results], [errors for _, _, errors in results]


def _run(program: str, arguments: list[str], environment: dict[str, str], said: str, cwd: str) -> None:
    import torch

    for number, name in ((1, "output"), (2, "errors")):
        file = os.open(Path(said) / name, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", "1")))
    sys.argv = ["-c", *arguments]
    sys.stdout.reconfigure(line_buffering=True)
    exec(compile(program, "-c", "exec"), {"__name__": "__main__"})
