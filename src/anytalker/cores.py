"""How many cores torch computes with, changed for a while, also where several threads do so at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_LOCK = Lock()
_inside, _before = 0, 1


@contextmanager
def one_thread() -> Iterator[int]:
    """Within the context torch computes on one thread; yields how many it had before.

    What one thread sets holds for others, too. So the number to go back to is read where nobody is within such a
    context: else whoever begins second would take its 1 for the usual number, and leave the process with it.
    """
    import torch

    global _inside, _before
    with _LOCK:
        if _inside == 0:
            _before = torch.get_num_threads()
        before, _inside = _before, _inside + 1
        torch.set_num_threads(1)
    try:
        yield before
    finally:
        with _LOCK:
            _inside -= 1
            torch.set_num_threads(before)
