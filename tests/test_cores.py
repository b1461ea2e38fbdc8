"""The number of torch's threads comes back, whatever threads change it at once."""

from __future__ import annotations

from threading import Event, Thread

import torch

from anytalker.cores import one_thread


def test_two_threads_that_compute_on_one_core_leave_the_number_as_it_was() -> None:
    usual, first, second, over = torch.get_num_threads(), Event(), Event(), Event()
    seen: list[int] = []

    def begin() -> None:
        with one_thread():
            first.set()
            second.wait(10)
        over.set()

    def go_on() -> None:
        first.wait(10)
        with one_thread() as before:
            seen.append(before)
            second.set()
            over.wait(10)

    def look() -> None:
        seen.append(torch.get_num_threads())

    torch.set_num_threads(3)
    try:
        for group in ((begin, go_on), (look,)):
            threads = [Thread(target=work) for work in group]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        torch.set_num_threads(usual)
    assert seen == [3, 3]
