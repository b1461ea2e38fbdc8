"""A look at a sample of footage, before hours of it are curated."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import av

from anytalker.curation.config import CurationConfig
from anytalker.curation.footage import FPS
from anytalker.curation.work import FileWork, examine_shot, survey_file
from anytalker.errors import InputError
from anytalker.media.containers import open_media

_SECONDS = 60.0
"""Of footage that are looked at."""


def describe_sample(files: Sequence[Path], config: CurationConfig, say: Callable[[str], None]) -> None:
    """Say how much footage there is, and what the first minute of it would give; nothing is kept of that.

    Args:
        files: the footage.
        config: the settings.
        say: writes a line.
    """
    lengths = {path: _seconds(path) for path in files}
    unreadable = [path.name for path, length in lengths.items() if length is None]
    total = sum(length or 0.0 for length in lengths.values())
    say(f"{len(files)} files, {total / 3600:.2f} hours.")
    if unreadable:
        say(f"Can't be opened: {', '.join(unreadable[:10])}{' …' if len(unreadable) > 10 else ''}")
    readable = [path for path, length in lengths.items() if length]
    if not readable:
        return
    started, looked = time.monotonic(), 0.0
    kept, reasons = 0.0, defaultdict[str, float](float)
    with tempfile.TemporaryDirectory() as folder:
        for path in readable:
            if looked >= _SECONDS:
                break
            work = FileWork(path, Path(folder), config, limit=round((_SECONDS - looked) * FPS))
            found = survey_file(work)
            looked += found.frames / FPS
            if found.problem:
                say(found.problem)
            for part in work.parts(found):
                result = examine_shot(work, part)
                kept += sum(clip.n_frames for clip in result.kept) / FPS
                for one in result.dropped:
                    reasons[f"{one.stage}: {one.reason}"] += one.source.end - one.source.start
    spent = time.monotonic() - started
    say(f"Of the first {looked:.0f} s, {kept:.0f} s would be kept. Dropped:")
    for reason, seconds in sorted(reasons.items(), key=lambda item: -item[1]):
        say(f"  {seconds:4.0f} s  {reason}")
    if looked:
        say(f"All of it would take about {total * spent / looked / 3600:.1f} hours on one core.")


def _seconds(path: Path) -> float | None:
    with suppress(InputError, av.FFmpegError, OSError), open_media(path) as container:
        if container.streams.video:
            return float(container.duration or 0) / 1e6
    return None
