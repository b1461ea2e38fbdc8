"""The processes of one run end together: whoever fails tells the others why, and one that is gone is missed."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from anytalker.errors import OUT_OF_MEMORY, AnyTalkerError
from anytalker.failures import is_out_of_memory

BEAT = 1.0
"""Seconds between two signs of life of a process."""
SILENCE = 40.0
"""Seconds without one after which a process is given up: less than the minute in which a run must end, and far longer
than anything keeps the thread that gives them from its turn."""
DOUBT = 8.0
"""The same where a connection has broken already."""
_STORE_TIMEOUT = timedelta(seconds=30)
_LAST_WORDS = 12.0
_FORCED = 20.0
"""Seconds that a process has to end in an orderly way, which those that wait for a device sometimes can't."""
_GONE = "has ended without a message, as when it is killed for lack of memory. The last checkpoint is kept."
_MAIN_GONE = f"The main process {_GONE}"


class Watch:
    """One process's view of the others; with a single process it does nothing.

    A thread gives signs of life in a store that the main process holds, and looks for those of the others. It ends the
    process, even one that waits for the others on a device, once one of them has failed or is silent for `SILENCE`.

    Args:
        rank: of this process.
        processes: how many there are; they have joined a process group.
    """

    def __init__(self, rank: int, processes: int) -> None:
        self.rank, self.processes = rank, processes
        self.reason = ""
        self._told, self._ending, self._closed = threading.Event(), threading.Event(), threading.Event()
        self._unheard = threading.Lock()
        self._limit, self._barriers, self._listeners = SILENCE, 0, processes - 1
        if processes > 1:
            self._store = _join(rank, processes)
            self._store.set(f"who/{rank}", f"{rank} of {processes} ({socket.gethostname()}, pid {os.getpid()})")
            self._store.set(f"beat/{rank}", "0")
            self.barrier()
            threading.Thread(target=self._look, name="watch", daemon=True).start()

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Tell the others of an error that ends this process; an error that another one has caused is called that.

        Raises:
            AnyTalkerError: naming the process that failed, and its reason.
        """
        try:
            yield
        except BaseException as error:
            if self.processes == 1:
                raise
            reason = self._others_fault(error)
            self._ending.set()
            threading.Thread(target=_end_at_last, daemon=True).start()
            if reason:
                self._let_others_hear()
                raise AnyTalkerError(reason) from error
            self._tell(error)
            raise

    def barrier(self) -> None:
        """Wait until all processes are here, however long one of them works, as long as all of them live.

        Raises:
            AnyTalkerError: if one of them has failed or is gone.
        """
        if self.processes == 1:
            return
        self._barriers += 1
        key, pause = f"barrier/{self._barriers}", 0.002
        try:
            arrived = self._store.add(key, 1)
            while arrived < self.processes:
                if self._told.wait(pause):
                    raise AnyTalkerError(self.reason)
                pause = min(2 * pause, 0.2)
                arrived = self._store.add(key, 0)
        except RuntimeError as error:  # torch.distributed's
            raise AnyTalkerError(_MAIN_GONE) from error

    def share(self, value: Any) -> Any:
        """The main process's value, for all; however long it works on it."""
        if self.processes == 1:
            return value
        from torch.distributed import broadcast_object_list

        self.barrier()
        values = [value]
        broadcast_object_list(values)
        return values[0]

    def close(self) -> None:
        """Leave in good order, once all others do."""
        if self.processes == 1 or self._closed.is_set():
            return
        self.barrier()
        self._closed.set()
        self._store.add("left", 1)
        if self.rank == 0:  # holds the store
            self._wait_for("left", self.processes)

    def _look(self) -> None:
        seen: dict[int, tuple[bytes, float]] = {}
        others = [rank for rank in range(self.processes) if rank != self.rank]
        beat, before = 0, time.monotonic()
        while not self._closed.wait(BEAT):
            beat += 1
            try:
                self._store.set(f"beat/{self.rank}", str(beat))
                if self._store.check(["failed"]):
                    reason = self._store.get("failed").decode()
                    self._hear()
                    return self._end(reason)
                beats = self._store.multi_get([f"beat/{rank}" for rank in others])
                now = time.monotonic()
                if now - before > 5 * BEAT:  # this process has slept, and perhaps the others as well
                    seen.clear()
                before = now
                for rank, value in zip(others, beats, strict=True):
                    if rank not in seen or seen[rank][0] != value:
                        seen[rank] = value, now
                    elif now - seen[rank][1] > self._limit:
                        who = self._store.get(f"who/{rank}").decode()
                        reason = f"Process {who} {_GONE}"
                        if self.rank == 0:  # holds the store, so that the others would only miss this process
                            self._store.set("failed", reason)
                            self._listeners -= 1
                            self._wait_for("heard", self._listeners)
                        else:
                            self._hear()
                        return self._end(reason)
            except RuntimeError:  # torch.distributed's
                if not self._closed.is_set():
                    self._end(_MAIN_GONE)
                return

    def _end(self, reason: str) -> None:
        """Let the main thread end by itself if it can; else end the process."""
        self.reason = reason
        self._told.set()
        if self._ending.wait(BEAT):
            return
        sys.stdout.flush()
        print(f"Error: {reason}", file=sys.stderr, flush=True)
        os._exit(1)

    def _others_fault(self, error: BaseException) -> str:
        """Why another process has ended, if that is what an error comes from; "" if this one is at fault."""
        broken = _is_of_connection(error) or _is_of_connection(error.__cause__)
        if not self._told.is_set() and not broken:
            return ""
        self._limit = DOUBT
        self._ending.set()
        return self.reason if self._told.wait(DOUBT + 3 * BEAT) else ""

    def _tell(self, error: BaseException) -> None:
        """Say what ends this process, so that the others end, too."""
        with suppress(RuntimeError):
            if self._store.check(["failed"]):
                return
            who = self._store.get(f"who/{self.rank}").decode()
            self._store.set("failed", f"Process {who} failed: {_in_words(error)}")
            self._hear()
            _write_error_file(error)
            if self.rank == 0:
                self._wait_for("heard", self._listeners)

    def _hear(self) -> None:
        """Say once that this process knows which of them failed; the main one waits for all others to say so."""
        if self.rank > 0 and self._unheard.acquire(blocking=False):  # by one of two threads, once
            with suppress(RuntimeError):
                self._store.add("heard", 1)

    def _let_others_hear(self) -> None:
        """The main process holds the store: it stays until the others have heard which of them failed."""
        with suppress(RuntimeError):
            if self.rank == 0 and self._store.check(["failed"]):
                self._wait_for("heard", self._listeners)

    def _wait_for(self, key: str, count: int) -> None:
        end = time.monotonic() + _LAST_WORDS
        with suppress(RuntimeError):
            while self._store.add(key, 0) < count and time.monotonic() < end:
                time.sleep(0.02)


def _join(rank: int, processes: int) -> Any:
    """A store of our own: nobody else's waiting may hold up a sign of life."""
    from torch.distributed import TCPStore, broadcast_object_list

    host = os.environ.get("MASTER_ADDR", "127.0.0.1")
    port: list[Any] = [0]
    options: dict[str, Any] = {"timeout": _STORE_TIMEOUT, "wait_for_workers": False}
    if rank == 0:
        store = TCPStore(host, 0, processes, is_master=True, **options)
        port = [store.port]
    broadcast_object_list(port)
    return store if rank == 0 else TCPStore(host, port[0], processes, is_master=False, **options)


def _is_of_connection(error: BaseException | None) -> bool:
    """Whether an error is of a process group, whatever has wrapped it: gloo has no class of its own for them."""
    from torch.distributed import DistError

    return error is not None and (isinstance(error, DistError) or "gloo" in str(error))


def _in_words(error: BaseException) -> str:
    if isinstance(error, AnyTalkerError):
        return str(error)
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    if isinstance(error, KeyboardInterrupt):
        return "it was interrupted"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _write_error_file(error: BaseException) -> None:
    """Leave the error where torchrun looks for it, so that its summary names it."""
    if os.environ.get("TORCHELASTIC_ERROR_FILE") and isinstance(error, Exception):
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)


def _end_at_last() -> None:
    time.sleep(_FORCED)
    os._exit(1)
