"""Several processes that make one video together, each with a device of its own, as `torchrun` starts them."""

from __future__ import annotations

import os


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
