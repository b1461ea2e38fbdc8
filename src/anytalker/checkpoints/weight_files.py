"""Checks of weight files without reading them as a whole: whether they are complete, and which tensors they hold."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError, safe_open

from anytalker.checkpoints.tensors import INDEX_SUFFIX, TORCH_SUFFIXES, Checkpoint, shards_of
from anytalker.errors import InputError

WEIGHTS_SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
Shape = tuple[int, ...]
_POINTER = b"version https://git-lfs"
_UNFINISHED = ".incomplete"
_OLD_TORCH = b"\x80"
"""First byte of torch files of before 2020, which are no zip archives and can only be read whole."""


def is_weights(path: Path) -> bool:
    """Whether a file's name is that of a weight file: safetensors, an index of shards, or torch's."""
    return path.name.endswith(INDEX_SUFFIX) or path.suffix in WEIGHTS_SUFFIXES


def check_whole(path: Path) -> None:
    """Make sure that a weight file exists and is not truncated, by its first and last bytes and its size.

    Args:
        path: a torch file, a safetensors file, or an index, whose shards are checked one by one.

    Raises:
        InputError: if it is missing, empty, the pointer that Git LFS leaves in place of a file, or cut off.
    """
    for file in shards_of(path) if path.is_file() else [path]:
        _check_file(file)


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path} is missing; download it again.{unfinished_downloads(path.parent)}")
    with path.open("rb") as file:
        start = file.read(len(_POINTER))
    if start.startswith(_POINTER):
        raise InputError(
            f"{path} is only the pointer that Git LFS leaves in place of the file; get the file itself (git lfs pull)."
        )
    reason = ""
    if not start:
        reason = "it is empty"
    elif path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            reason = str(error).partition("\n")[0]
    elif start.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                archive.namelist()
        except (zipfile.BadZipFile, OSError):
            reason = "the end of the archive is missing"
    elif not start.startswith(_OLD_TORCH):
        reason = "it is no torch file"
    if reason:
        again = unfinished_downloads(path.parent)
        raise InputError(f"{path} is damaged or cut off ({reason}); download it again.{again}")


def unfinished_downloads(folder: Path) -> str:
    """A sentence on the downloads of the hub's client that were not finished in a folder; "" if there is none."""
    blobs = folder.parent.parent / "blobs"  # of the hub's cache, where a folder is models--…/snapshots/…
    found = [path for place in (folder, blobs) if place.is_dir() for path in place.glob(f"*{_UNFINISHED}")]
    for place in (folder, *list(folder.parents)[:2]):
        found += (place / ".cache" / "huggingface" / "download").rglob(f"*{_UNFINISHED}")
    return f" A download was not finished ({found[0]}); run it again, and it goes on." if found else ""


def tensor_shapes(path: Path) -> Mapping[str, Shape]:
    """Shapes of the tensors in a file by name; {} for an old torch file, which would have to be read whole.

    Raises:
        InputError: if it is damaged.
    """
    if path.suffix in TORCH_SUFFIXES and not zipfile.is_zipfile(path):
        return {}
    state = os.stat(path)
    return _shapes(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=32)
def _shapes(path: Path, size: int, modified: int) -> Mapping[str, Shape]:
    with Checkpoint(path) as checkpoint:
        return dict(checkpoint.shapes)
