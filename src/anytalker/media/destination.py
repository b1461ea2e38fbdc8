"""Checks of the output path: a video replaces only an earlier video of the same inputs and settings, and its record."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from anytalker.errors import InputError
from anytalker.files import check_replaceable_json, exclusive
from anytalker.hashing import ShortDigest, file_digest
from anytalker.media.video import RunRecord
from anytalker.processes import is_first

STATE = "state.safetensors"
"""Among a video's parts, the file that is written last."""
_LONGEST_NAME = 255


def record_path(output: str | Path) -> Path:
    """The record beside a video: talk.json for talk.mp4."""
    return Path(output).with_suffix(".json")


def preview_path(output: str | Path) -> Path:
    """The picture beside a video that shows whose voice is whose: talk.preview.png for talk.mp4."""
    return Path(output).with_suffix(".preview.png")


def parts_folder(output: str | Path) -> Path:
    """The folder beside a video that its parts go to: talk.parts for talk.mp4."""
    return _beside(output, "", ".parts")


def latents_path(output: str | Path) -> Path:
    """The latents beside a video that can be edited: talk.latents.safetensors for talk.mp4."""
    return _beside(output, "", ".latents.safetensors")


def lock_path(output: str | Path) -> Path:
    """The file beside a video that is locked while a run makes it: .talk.lock for talk.mp4."""
    return _beside(output, ".", ".lock")


def _beside(output: str | Path, start: str, end: str) -> Path:
    path = Path(output)
    room = _LONGEST_NAME - len(start + end)
    return path.with_name(start + path.stem.encode()[:room].decode(errors="ignore") + end)


@contextmanager
def making(output: str | Path) -> Iterator[None]:
    """Hold the lock of a video, so that no other run makes it at the same time.

    Raises:
        Locked: if another run is making it.
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
    check_inputs_kept(output, inputs)
    check_record(output)
    if is_first():
        with making(output):
            pass


def check_inputs_kept(output: str | Path, inputs: Iterable[str | Path]) -> None:
    """Make sure that no input of a video lies where the video or what belongs to it goes.

    Raises:
        InputError: naming the input and what goes in its place.
    """
    check_not_overwritten(inputs, _files_of(output), "Choose another --output.")


def fingerprint_of(files: Iterable[str | Path], settings: Any) -> str:
    """What a video is to be made from, in 16 hexadecimal digits.

    Args:
        files: the picture, the voices and whatever else is read; their content counts, not their names.
        settings: anything that JSON can hold, or that is told by `str`.

    Raises:
        InputError: if a file can't be read.
    """
    digest = ShortDigest([json.dumps(settings, sort_keys=True, default=str)])
    for path in files:
        try:
            digest.add(bytes.fromhex(file_digest(path)))
        except OSError as error:
            raise InputError(f"{path} can't be read: {error.strerror}.") from error
    return str(digest)


def check_replaceable_video(output: str | Path, fingerprint: str) -> None:
    """Make sure that a video that is there already was made from the same inputs with the same settings.

    Args:
        output: the MP4 to write.
        fingerprint: what it is to be made from, see `fingerprint_of`.

    Raises:
        InputError: if it was made from anything else, or nothing is known of it.
    """
    known = _fingerprint(output)
    if not os.path.lexists(output) or known == fingerprint:
        return
    made = "was made from other inputs or settings" if known else "has no record that tells what it was made from"
    raise InputError(f"{output} is there already and {made}. Give another --output, or --force to replace it.")


def free_output(output: str | Path, fingerprint: str) -> Path:
    """`output` itself or, where something else is there, the first of talk-2.mp4, talk-3.mp4, … that is free.

    Free is where nothing is, or a video (finished, or in parts) of the same fingerprint.
    """
    wanted = Path(output)
    names = (wanted if number == 1 else wanted.with_stem(f"{wanted.stem}-{number}") for number in count(1))
    return next(path for path in names if _is_free(path, fingerprint))


def _is_free(output: Path, fingerprint: str) -> bool:
    try:
        check_record(output)
        check_replaceable_video(output, fingerprint)
    except InputError:
        return False
    return _fingerprint_of_parts(output) in (None, fingerprint)


def _fingerprint(output: str | Path) -> str | None:
    """The fingerprint in the record beside a video."""
    try:
        return RunRecord.model_validate_json(record_path(output).read_bytes()).fingerprint
    except (OSError, ValueError):
        return None


def _fingerprint_of_parts(output: Path) -> str | None:
    try:
        with safe_open(parts_folder(output) / STATE, "np") as file:
            return file.metadata().get("fingerprint")
    except (SafetensorError, OSError):
        return None


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
    return [Path(output), record_path(output), preview_path(output), parts_folder(output), latents_path(output)]


def _identities(path: str | Path) -> list[str | tuple[int, int]]:
    """What two paths of one file have in common; a disk that ignores case knows it by its number alone."""
    try:
        known = os.stat(path)
    except OSError:
        return [os.path.realpath(path)]
    return [os.path.realpath(path), (known.st_dev, known.st_ino)]
