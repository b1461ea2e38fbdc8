"""A progress bar with the time left, on a terminal; a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import typer


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress on standard error; yields a function to be called as (done, total)."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        said = 0

        def report(done: int, total: int) -> None:
            nonlocal said
            bar.update(task, completed=done, total=total)
            if not console.is_terminal and (10 * done // max(1, total) > said or done == total):
                said = 10 * done // max(1, total)
                typer.echo(f"{title}: {done} of {total}", err=True)

        yield report


class StageLog:
    """Percentages and the time left for logs: a line each tenth, but none within a second, and one every 10 seconds.

    Args:
        say: writes a line.
        clock: tells the time in seconds.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._stages: dict[str, _Stage] = {}

    def report(self, title: str, done: int, total: int) -> None:
        """Note the progress of a stage, and print a line if one is due."""
        now, share = self._clock(), done / max(1, total)
        if title not in self._stages:
            self._stages[title] = _Stage(now, share, now, share)
            self._say(f"{title} …" if total <= 1 else f"{title}: {share:.0%}")
            return
        stage = self._stages[title]
        waited, gained = now - stage.said_at, share - stage.said
        if total <= 1 or gained <= 0:
            return
        if done >= total:
            self._say(f"{title}: 100%, took {_spoken(now - stage.began)}")
        elif waited >= 10 or (waited >= 1 and gained >= 0.1 - 1e-9):
            left = (now - stage.began) * (1 - share) / (share - stage.first)
            self._say(f"{title}: {share:.0%}, about {_spoken(left)} left")
        else:
            return
        stage.said_at, stage.said = now, share


@dataclass
class _Stage:
    """When a stage began and with what share of it done; when something was said of it last, and of what share."""

    began: float
    first: float
    said_at: float
    said: float


def _spoken(seconds: float) -> str:
    """A time as people say it: 8 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
