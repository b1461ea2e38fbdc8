"""Concurrency of a producer and a consumer, such as decoding frames and encoding the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

Item = TypeVar("Item")


class _Abandoned(Exception):
    """Nothing more will come, and what was begun is not wanted."""


def consume_apart(items: Iterable[Item], consume: Callable[[Iterator[Item]], None], room: int = 1) -> None:
    """Consume items in a thread of its own while the next ones are produced in this one, in order.

    The thread has ended when this returns or raises.

    Args:
        items: made in the thread that calls.
        consume: uses all of them up; called once, in the other thread.
        room: items that may wait in between.

    Raises:
        Exception: whatever `items` raises, `consume` is then left without the end of its items; or what `consume`
            raises, after which no more items are made.
    """
    waiting: Queue[tuple[bool, Any]] = Queue(room)
    failed: list[BaseException] = []
    ended = Event()

    def arriving() -> Iterator[Item]:
        while True:
            there, item = waiting.get()
            if there:
                yield item
                del item  # before the next one comes
                continue
            ended.set()
            if item is not None:
                raise item
            return

    def work() -> None:
        source = arriving()
        try:
            consume(source)
        except BaseException as error:  # handed to the other thread, which waits for it
            failed.append(error)
            while not ended.is_set() and waiting.get()[0]:
                pass

    thread = Thread(target=work, daemon=True)
    thread.start()
    ending: Exception | None = _Abandoned()
    try:
        for item in items:
            waiting.put((True, item))
            del item
            if failed:
                break
        ending = None
    finally:
        _end(thread, waiting, (False, ending))
    if failed:
        raise failed[0]


def _end(thread: Thread, waiting: Queue[tuple[bool, Any]], last: tuple[bool, Any]) -> None:
    """Hand over the last item and wait for the thread, even if the user interrupts again meanwhile.

    What the thread still writes to must not be closed before.
    """
    interrupted: KeyboardInterrupt | None = None
    handed_over = False
    while thread.is_alive():
        try:
            if not handed_over:
                waiting.put(last, timeout=1)  # a thread that has ended takes no more
                handed_over = True
            thread.join()
        except Full:
            continue
        except KeyboardInterrupt as again:
            interrupted = again
    if interrupted is not None:
        raise interrupted
