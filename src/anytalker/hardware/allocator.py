"""How the C library keeps the memory of tensors on a CPU."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8  # of glibc's malloc.h
_KEPT = 2**31 - 1
_AHEAD = 2**28


def keep_freed_memory() -> bool:
    """Let this process keep the memory of freed tensors for the next ones, if its C library is glibc.

    glibc gives large blocks back to the system at once. A training frees and takes gigabytes in every step, and the
    system clears each page again: up to a third of a step's time. Call it before the first threads are started.

    Returns:
        Whether it does so now.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: _KEPT, _TOP_PAD: _AHEAD}
    taken = [mallopt(name, value) for name, value in settings.items()]
    return all(taken)
