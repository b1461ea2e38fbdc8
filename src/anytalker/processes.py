"""Several processes that work together: those that `torchrun` starts for one video, and a ray cluster's."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from anytalker.errors import InputError

RAY = "ray:"
"""How devices of a ray cluster begin: "ray:cuda", "ray:cpu"."""
_NICE = 5
_ANSWERS = 10.0
"""Seconds in which a cluster's machine must answer; ray itself would try for minutes."""


def processes_together() -> int:
    """How many processes were started together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the process that writes files and prints messages."""
    return os.environ.get("RANK", "0") == "0"


def join_processes(device: str) -> str:
    """Connect with the others that were started together; the device of this process.

    Args:
        device: "cpu" or "cuda".
    """
    from torch import cuda, distributed

    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    if device != "cuda":
        return device
    own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    cuda.set_device(own)
    return own


def leave_processes() -> None:
    """Say goodbye to the others, if there are any."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Keep Ctrl-C from the processes that this thread starts within: whoever starts them ends them.

    In a terminal it goes to all processes at once, and one that is still importing would show a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # else the first start would begin it, which ends the blocking
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def connect_to_ray(address: str) -> None:
    """Connect to ray, unless this process is.

    Args:
        address: "local" starts ray on this machine, "auto" takes the cluster that this machine belongs to, "ray://…"
            or "host:port" another one.

    Raises:
        InputError: if ray is not installed, or the cluster can't be reached.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError("--ray needs ray:  pip install 'anytalker[cluster]'") from error
    if ray.is_initialized():
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdigit():
            socket.create_connection((host.strip("[]"), int(port)), _ANSWERS).close()
        ray.init(address=address, include_dashboard=False if address == "local" else None, logging_level="ERROR")
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        raise InputError(
            f"There is no ray cluster at {address!r} ({error}). Start one with:  ray start --head"
        ) from error


def ray_devices(address: str) -> list[str]:
    """Connect to ray; its devices, every GPU, or without one every CPU.

    Args:
        address: see `connect_to_ray`.

    Raises:
        InputError: if ray is not installed, or the cluster can't be reached.
    """
    connect_to_ray(address)
    import ray

    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    return [f"{RAY}cuda"] * gpus or [f"{RAY}cpu"] * max(1, int(resources.get("CPU", 1)))


def ray_cluster(address: str) -> tuple[list[str], str]:
    """The same for other processes: devices, and the address that these connect to.

    This process stays connected only to a cluster that it has started, which ends with it; with another one it would
    end itself as soon as that does.

    Raises:
        InputError: see `ray_devices`.
    """
    devices = ray_devices(address)
    import ray

    found = address if address.startswith("ray://") else ray.get_runtime_context().gcs_address
    if address != "local":
        ray.shutdown()
    return devices, found


def stand_back(device: str) -> None:
    """Let others go before this process if it computes on the CPU, so that a service answers meanwhile."""
    if device == "cpu" and hasattr(os, "nice"):
        os.nice(_NICE)
