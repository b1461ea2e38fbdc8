"""Files appear whole or not at all, and one process at a time makes them."""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from anytalker.errors import InputError

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
_PATIENCE = 0.2
"""Seconds that a lock is waited for: its owner may be about to end."""


def home() -> Path:
    """Where downloaded models and logs are: ANYTALKER_HOME, by default ~/.cache/anytalker."""
    chosen = os.environ.get("ANYTALKER_HOME")
    return Path(chosen) if chosen else Path.home() / ".cache" / "anytalker"


@contextmanager
def atomic_path(destination: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `destination`; it takes its place on success and vanishes on any exception.

    An `OSError` that names no file, or the temporary one, names the destination instead.
    """
    target = Path(destination)
    # Without the target's own name in it: a name that is allowed must not become too long.
    partial = target.with_name(f".{uuid.uuid4().hex}.partial{target.suffix}")
    try:
        yield partial
        os.replace(partial, target)
    except OSError as error:
        if error.errno is not None and error.filename in (None, partial, str(partial)):
            error.filename, error.filename2 = str(target), None
        raise
    finally:
        with suppress(OSError):  # nothing may hide why it failed
            partial.unlink()


def make_folder(path: str | Path) -> None:
    """Make a folder for results, and those above it, where they are missing.

    Raises:
        InputError: if it can't be made, or is a file.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {path} can't be made: {error.strerror}. Choose another place.") from error


class Locked(InputError):
    """Another process or thread holds the lock."""


@contextmanager
def exclusive(path: str | Path, refusal: str) -> Iterator[None]:
    """Hold a lock that only one process (or thread) can hold; it ends with the process, even by kill -9.

    Where the disk knows no locks, others may not be kept out.

    Args:
        path: the lock's file, gone afterwards; one that a killed process left behind locks nobody out.
        refusal: what to say if another one holds the lock.

    Raises:
        Locked: if another one holds it.
        InputError: if the file can't be made.
    """
    from filelock import FileLock, Timeout

    target = Path(path)
    lock = FileLock(target, timeout=_PATIENCE, mode=0o666, thread_local=False)  # another user may find it after a kill
    try:
        if not target.parent.is_dir():  # which filelock would make
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        lock.acquire(poll_interval=_PATIENCE / 4)
    except Timeout as error:
        raise Locked(refusal) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise InputError(f"{target} can't be written: {error.strerror}. Choose another place.") from error
    try:
        yield
    finally:
        with suppress(OSError):
            target.unlink()  # while it is locked: filelock doesn't take a file that has gone
        lock.release()


def write_json_atomic(path: str | Path, data: Any) -> None:
    """Write `data` as indented JSON, whole or not at all."""
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def check_replaceable_json(path: str | Path, ours: Callable[[Any], bool], what: str) -> None:
    """Make sure, before any work, that writing `path` destroys nothing that was not written by the same command.

    Args:
        path: where JSON is to go.
        ours: whether what a file holds may be replaced.
        what: what that is, for the message.

    Raises:
        InputError: if there is a file, and it holds something else or can't be read.
    """
    target = Path(path)
    try:
        if ours(json.loads(target.read_bytes())):
            return
    except FileNotFoundError:
        return
    except (OSError, ValueError):
        pass
    raise InputError(f"{target} would be overwritten, but it is not {what}. Move it, or choose another --output.")


def check_writable_output(path: str | Path, suffix: str) -> None:
    """Make sure, before any work, that a file can be written at `path`.

    Args:
        path: where a result is to go.
        suffix: the extension it must have, for example ".mp4".

    Raises:
        InputError: if the extension is another, the path is a folder, the name is too long, or its folder is missing or
            can't be written.
    """
    target = Path(path)
    if target.suffix.lower() != suffix:
        raise InputError(f"The output {target} must end in {suffix}.")
    try:
        if target.is_dir():
            raise InputError(f"The output {target} is a folder; give the name of a file.")
        if not target.parent.is_dir():
            raise InputError(
                f"The output {target} can't be written: there is no folder {target.parent}. Make it first."
            )
        with suppress(FileNotFoundError):
            target.stat()  # fails where the name is too long
            if not os.access(target, os.W_OK):
                raise InputError(f"The output {target} exists and can't be replaced. Choose another name.")
        # Trying is the only honest answer: permission bits say nothing to root, or on a read-only disk.
        probe = target.with_name(f".{uuid.uuid4().hex}.partial{target.suffix}")
        try:
            probe.touch(exist_ok=False)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"The output {target} can't be written: {error.strerror}. Choose another place.") from error
