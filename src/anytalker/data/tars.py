"""Tars of samples, each with a file beside it that lists where its samples are, so that any one can be read alone."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from anytalker.errors import InputError
from anytalker.files import write_json_atomic
from anytalker.hashing import ShortDigest


@dataclass(frozen=True)
class Contents:
    """What is in a tar of samples.

    Attributes:
        file: name of the tar.
        bytes: its size.
        keys: of its samples, as they lie.
        offsets: bytes at which they begin, and at which the last one ends.
        shapes: people, and channels, frames, rows and columns of the latents, that occur.
        tensors: how many samples have a tensor of each name.
        digest: short digest of all samples; None where nobody has read them.
    """

    file: str
    bytes: int
    keys: tuple[str, ...]
    offsets: tuple[int, ...]
    shapes: frozenset[tuple[int, ...]]
    tensors: Counter[str]
    digest: str | None

    def save(self, folder: Path) -> None:
        """Write it beside the tar in `folder`."""
        write_json_atomic(contents_path(folder / self.file), vars(self) | {"shapes": sorted(self.shapes)})


def contents_path(tar: Path) -> Path:
    """Where the contents of a tar are kept."""
    return tar.with_suffix(".json")


def kept_contents(tar: Path, digest: str | None) -> Contents | None:
    """The recorded contents of a tar; None if there is no record, or the tar was changed since.

    Args:
        tar: the file.
        digest: of its samples as the folder's index has it; None: it doesn't speak of it.
    """
    try:
        kept = json.loads(contents_path(tar).read_text(encoding="utf-8"))
        found = Contents(
            kept["file"],
            kept["bytes"],
            tuple(kept["keys"]),
            tuple(kept["offsets"]),
            frozenset(tuple(shape) for shape in kept["shapes"]),
            Counter(kept["tensors"]),
            kept["digest"],
        )
        size = tar.stat().st_size
        whole = len(found.offsets) == len(found.keys) + 1 and found.offsets[-1] <= size
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    same = (found.file, found.bytes) == (tar.name, size) and digest in (None, found.digest)
    return found if whole and same else None


def survey(tar: Path, file: str, digest: str | None) -> Contents:
    """The contents of a tar by its headers and those of its tensors, a few KB of each sample.

    Args:
        tar: the file.
        file: name that it has, or will have.
        digest: of its samples, where it is known.

    Raises:
        InputError: if a header is damaged.
    """
    from webdataset.tariterators import base_plus_ext

    keys: list[str] = []
    offsets, end = [], 0
    shapes: set[tuple[int, ...]] = set()
    tensors: Counter[str] = Counter()
    with _naming([str(tar)]), tarfile.open(tar, "r:") as members:
        for member in members:
            key, suffix = base_plus_ext(member.name)
            if key is None:
                continue
            if not keys or key != keys[-1]:
                keys.append(key)
                offsets.append(member.offset)
            end = member.offset_data + (member.size + 511) // 512 * 512
            data = members.extractfile(member)
            if suffix.lower() == "safetensors" and data is not None:
                named = _tensor_shapes(data)
                shapes.add((named["audio"][0], *named["latents"]))
                tensors.update(named.keys())
    return Contents(file, tar.stat().st_size, tuple(keys), (*offsets, end), frozenset(shapes), tensors, digest)


def _tensor_shapes(data: IO[bytes]) -> dict[str, list[int]]:
    """Shapes of the tensors of a safetensors file, by its header."""
    header = json.loads(data.read(int.from_bytes(data.read(8), "little")))
    return {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"}


def digest_of(samples: Iterable[Mapping[str, Any]]) -> str:
    """Short digest of a tar's samples; when it was written doesn't count."""
    digest = ShortDigest()
    for sample in samples:
        for part in (sample["__key__"].encode(), sample["json"], sample["safetensors"]):
            digest.add(hashlib.sha256(part).digest())
    return str(digest)


def read_tars(tars: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Raw samples of tars, one after another.

    Raises:
        InputError: if a tar is damaged.
    """
    tars = list(tars)

    # Opened here, because webdataset takes a colon for a protocol's, and runs what follows "pipe:".
    def opened() -> Iterator[tuple[str, IO[bytes]]]:
        for tar in tars:
            with open(tar, "rb") as stream:
                yield tar, stream

    with _naming(tars):
        yield from _samples(opened())


def read_sample(tar: str, start: int, end: int) -> dict[str, Any]:
    """The raw sample in the bytes from `start` to `end` of a tar; nothing else of the tar is read.

    Raises:
        InputError: if there isn't one whole sample.
    """
    with _naming([tar]):
        with open(tar, "rb") as stream:
            stream.seek(start)
            data = stream.read(end - start)
        if len(data) < end - start:
            raise EOFError("it ends early")
        samples = list(_samples([(tar, io.BytesIO(data))]))
        if len(samples) != 1:
            raise ValueError(f"no sample lies at {start}")
        return samples[0]


def _samples(opened: Iterable[tuple[str, IO[bytes]]]) -> Iterator[dict[str, Any]]:
    from webdataset.tariterators import group_by_keys, tar_file_expander

    return group_by_keys(tar_file_expander({"url": tar, "stream": stream} for tar, stream in opened))


@contextmanager
def _naming(tars: list[str]) -> Iterator[None]:
    """Say which tar is damaged."""
    try:
        yield
    except (tarfile.TarError, EOFError, OSError, ValueError, KeyError) as error:
        reason = getattr(error, "strerror", None) or (error.args[0] if error.args else type(error).__name__)
        named = next((str(part) for part in error.args if str(part) in tars), "one of " + ", ".join(tars[:3]))
        named = tars[0] if len(tars) == 1 else named
        raise InputError(f"The shard {named} is damaged ({reason}). Remove it and prepare again.") from error
