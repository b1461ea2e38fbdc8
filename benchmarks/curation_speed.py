"""Where the time of a curation goes, stage by stage, in seconds of one core a minute of footage.

    python benchmarks/curation_speed.py footage.mp4

Works through one file in this process with one thread, and counts the processor's time, so that other programs don't
matter. Prints a table, and how many hours of footage two cores get through in an hour.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import torch

from anytalker.curation import survey as survey_module
from anytalker.curation.config import CurationConfig
from anytalker.curation.export import export_clip
from anytalker.curation.footage import FPS, Footage, StoredSound
from anytalker.curation.piece import Pictures, Piece, run_stages
from anytalker.curation.stages import default_stages
from anytalker.curation.work import FileWork

spent: dict[str, float] = defaultdict(float)
inside: list[str] = []


def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, its processor time counted, less that of others within."""

    def run(*arguments: Any, **options: Any) -> Any:
        started = time.process_time()
        inside.append(name)
        try:
            return function(*arguments, **options)
        finally:
            inside.pop()
            passed = time.process_time() - started
            spent[name] += passed
            if inside:
                spent[inside[-1]] -= passed

    return run


class Timed:
    """A stage whose time is counted."""

    def __init__(self, stage: Any) -> None:
        self.name = stage.name
        self._run = timed(stage.name, lambda piece: list(stage(piece)))

    def __call__(self, piece: Piece) -> Any:
        """What the stage makes of a piece."""
        return self._run(piece)


def counted(frames: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """An iterator of decoded frames whose time is counted as decoding."""

    def run(*arguments: Any, **options: Any) -> Iterator[Any]:
        iterator = frames(*arguments, **options)
        step = timed("decoding", lambda: next(iterator, None))
        while (frame := step()) is not None:
            yield frame

    return run


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("footage", type=Path)
    path = parser.parse_args().footage
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    Footage.frames = counted(Footage.frames)  # type: ignore[method-assign]
    survey_module.diarize = timed("voices", survey_module.diarize)  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        work = FileWork(path, Path(folder), CurationConfig())
        sound = timed("decoding", StoredSound.write)(Path(folder) / "sound", Footage(path).sound())
        found = timed("shots", survey_module.survey)(Footage(path), sound)
        stages = [Timed(stage) for stage in default_stages(work.config)]
        for part in work.parts(found):
            footage = Footage(path)
            piece = Piece(
                footage, *part, sound, tuple(found.turns), tuple(found.doubts), pictures=Pictures(footage, *part)
            )
            kept, _ = run_stages(piece, stages)
            for one in kept:
                timed("export", export_clip)(one, work.prefix, Path(folder))
    minutes = found.frames / FPS / 60
    print(f"{path.name}: {found.width}×{found.height}, {minutes:.1f} minutes\n")
    print("| stage | s of a core a minute | share |\n|---|---|---|")
    total = sum(spent.values())
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"| {name} | {seconds / minutes:.1f} | {seconds / total:.0%} |")
    print(f"\nTwo cores: {2 * 60 * minutes / total:.1f} hours of footage an hour; slowest: {max(spent, key=spent.get)}")  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
