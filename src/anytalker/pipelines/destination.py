"""Where a video goes: it takes the place of an earlier video and its record, and of nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from anytalker.errors import InputError
from anytalker.files import check_replaceable_json, exclusive
from anytalker.pipelines.output import RunRecord
from anytalker.pipelines.parts import lock_path, parts_folder
from anytalker.pipelines.processes import is_first


def record_path(output: str | Path) -> Path:
    """The record beside a video: talk.json for talk.mp4."""
    return Path(output).with_suffix(".json")


def preview_path(output: str | Path) -> Path:
    """The picture beside a video that shows whose voice is whose: talk.preview.png for talk.mp4."""
    return Path(output).with_suffix(".preview.png")


@contextmanager
def making(output: str | Path) -> Iterator[None]:
    """Be the only run that makes a video, from its parts to its record.

    Raises:
        InputError: if another run is making it.
    """
    with exclusive(
        lock_path(output),
        f"Another run is making {output} right now. Wait until it has ended, or choose another --output.",
    ):
        yield


def check_destination(output: str | Path, inputs: Iterable[str | Path] = ()) -> None:
    """Make sure, before any work, that a video and what belongs to it overwrite nothing that isn't theirs.

    Args:
        output: the MP4 to write.
        inputs: files that the video is made from; they need not exist.

    Raises:
        InputError: if an input is the video, its record or its preview, or lies in the folder of its parts, or if the
            .json beside the video is something else than the record of a video, or another run is making the video.
    """
    check_not_overwritten(inputs, _files_of(output), "Choose another --output.")
    check_record(output)
    if is_first():
        with making(output):
            pass


def check_batch_destinations(outputs: Iterable[str | Path], results: Path, inputs: Iterable[str | Path]) -> None:
    """Make sure that no video of a batch, nor its results, overwrites what any of its videos is made from.

    Args:
        outputs: the MP4s to write.
        results: the file that results are added to.
        inputs: all files that they are made from.

    Raises:
        InputError: naming the input and what goes in its place.
    """
    written = [results, *(file for output in outputs for file in _files_of(output))]
    check_not_overwritten(inputs, written, "Rename the job, or choose another folder with --output.")


def check_not_overwritten(inputs: Iterable[str | Path], written: Iterable[Path], remedy: str) -> None:
    """Make sure that no input is, or lies in, what will be written, whatever links and spellings lead to it.

    Raises:
        InputError: naming the input and what goes in its place.
    """
    places = {key: file for file in written for key in _identities(file)}
    for given in inputs:
        folders = map(str, Path(os.path.realpath(given)).parents)
        for key in (*_identities(given), *folders):
            if key in places:
                raise InputError(f"The input {given} would be overwritten: {places[key]} goes there. {remedy}")


def check_record(output: str | Path) -> None:
    """Make sure that the .json beside a video, if there is one, is the record of a video.

    Raises:
        InputError: if it is anything else, or can't be read.
    """
    check_replaceable_json(record_path(output), _is_record, "the record of a video")


def _is_record(value: Any) -> bool:
    try:
        RunRecord.model_validate(value)
    except ValidationError:
        return False
    return True


def _files_of(output: str | Path) -> list[Path]:
    return [Path(output), record_path(output), preview_path(output), parts_folder(output)]


def _identities(path: str | Path) -> list[str | tuple[int, int]]:
    """What two paths of one file have in common; a disk that ignores case knows it by its number alone."""
    try:
        known = os.stat(path)
    except OSError:
        return [os.path.realpath(path)]
    return [os.path.realpath(path), (known.st_dev, known.st_ino)]
