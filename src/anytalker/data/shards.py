"""Shards of encoded clips: WebDataset tars beside an index."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from anytalker.data.tars import Contents, contents_path, digest_of, kept_contents, read_tars, survey
from anytalker.errors import InputError
from anytalker.files import atomic_path, write_json_atomic
from anytalker.hashing import short_digest

INDEX = "index.json"


class ShardWriter:
    """Writes samples into tars of `clips_per_shard`, and in the end an index of them.

    A tar is written once, as a whole, and never changed, since an index of an earlier run may name it. A tar that
    isn't full, or holds samples to be dropped, is replaced: its samples are buffered for a new tar, and it is deleted
    after the index that no longer names it is written. So an interruption at any moment leaves an index whose tars are
    all there.

    Samples of an earlier run are kept; `keys` has theirs, too. Opening a folder reads no samples of tars whose contents
    are known, from a file beside the tar or from the index.

    The index also lists the `shapes` that occur: people, and channels, frames, rows and columns of the latents; and
    `tensors`: how many samples have a tensor of each name.

    Args:
        folder: where the shards go; made if missing.
        clips_per_shard: samples a tar.
        about: facts that hold for all samples (settings they were encoded with), kept in the index. A folder begun
            with other facts is refused.

    Raises:
        InputError: if the folder was begun with other facts, or a tar is damaged or was changed.
    """

    def __init__(self, folder: str | Path, clips_per_shard: int = 50, about: Mapping[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        self.clips_per_shard = clips_per_shard
        self.about = json.loads(json.dumps(about or {}))
        self.keys: set[str] = set()
        self._tars: list[Contents] = []
        self._replaced: list[Contents] = []
        self._buffer: list[dict[str, Any]] = []
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_settings()
        paths = sorted(self.folder.glob("clips-*.tar"))
        self._next_number = 1 + max((int(path.stem.removeprefix("clips-")) for path in paths), default=-1)
        self._open_tars(paths)

    def _check_settings(self) -> None:
        """Refuse a folder that was begun with other settings; a new one remembers these."""
        begun = self.folder / "begun.json"
        if begun.exists() and json.loads(begun.read_text(encoding="utf-8")) != self.about:
            raise InputError(f"{self.folder} was begun with other settings. Choose another folder, or remove it.")
        write_json_atomic(begun, self.about)

    def _open_tars(self, paths: Sequence[Path]) -> None:
        """Keep the tars of earlier runs. After an interruption two may hold the same sample; the later is replaced."""
        written = _written(self.folder)
        for path in paths:
            tar = _contents(path, written.get(path.name, {}))
            self._tars.append(tar)
            if duplicates := self.keys & set(tar.keys):
                self._replace(tar, duplicates)
            self.keys.update(tar.keys)

    @property
    def done(self) -> int:
        """Samples that need not be written again."""
        return len(self.keys)

    @property
    def tensors(self) -> Counter[str]:
        """How many of the samples in tars have a tensor of each name."""
        return sum((tar.tensors for tar in self._tars), Counter[str]())

    def write(self, key: str, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Add one sample: a JSON record and named tensors.

        Raises:
            ValueError: if there is one of that key already, which would make a tar that can't be read.
        """
        if key in self.keys:
            raise ValueError(f"{self.folder} already holds a sample {key}.")
        if self._tars and len(self._tars[-1].keys) < self.clips_per_shard:
            self._replace(self._tars[-1])
        self.keys.add(key)
        packed = save({name: tensor.contiguous() for name, tensor in tensors.items()})
        self._buffer.append({"__key__": key, "json": json.dumps(record).encode(), "safetensors": packed})
        self._write_full_tars()

    def drop(self, keys: Collection[str]) -> None:
        """Leave samples out of the index that is written next."""
        self.keys.difference_update(keys)
        self._buffer = [sample for sample in self._buffer if sample["__key__"] not in keys]
        for tar in [tar for tar in self._tars if not set(keys).isdisjoint(tar.keys)]:
            self._replace(tar, keys)
            self._write_full_tars()

    def close(self) -> None:
        """Write the rest of the samples and the index; then delete the tars that were replaced."""
        self._write_full_tars()
        if self._buffer:
            self._write_tar(self._buffer)
            self._buffer = []
        index = {
            "about": self.about,
            "shapes": sorted(frozenset[tuple[int, ...]]().union(*(tar.shapes for tar in self._tars))),
            "tensors": self.tensors,
            "shards": [
                {"file": tar.file, "samples": len(tar.keys), "digest": tar.digest, "bytes": tar.bytes}
                for tar in self._tars
            ],
        }
        write_json_atomic(self.folder / INDEX, index)
        for tar in self._replaced:
            (self.folder / tar.file).unlink(missing_ok=True)
            contents_path(self.folder / tar.file).unlink(missing_ok=True)
        self._replaced = []

    def _replace(self, tar: Contents, without: Collection[str] = ()) -> None:
        """Buffer the samples of a tar for a new one, but those `without`."""
        self._tars.remove(tar)
        self._replaced.append(tar)
        for sample in read_tars([str(self.folder / tar.file)]):
            if sample["__key__"] not in without:
                self._buffer.append({name: sample[name] for name in ("__key__", "json", "safetensors")})

    def _write_full_tars(self) -> None:
        """Write as many tars as the buffered samples fill."""
        while len(self._buffer) >= self.clips_per_shard:
            self._write_tar(self._buffer[: self.clips_per_shard])
            self._buffer = self._buffer[self.clips_per_shard :]

    def _write_tar(self, samples: Sequence[Mapping[str, Any]]) -> None:
        """Write samples into the next tar, and its contents beside it."""
        import webdataset

        path = self.folder / f"clips-{self._next_number:06d}.tar"
        with atomic_path(path) as partial, open(partial, "wb") as file, webdataset.TarWriter(file) as tar:
            for sample in samples:
                tar.write(sample)
            tar.close()
            file.flush()  # buffers are as large as the blocks of the disk, a megabyte on network disks
            contents = survey(partial, path.name, digest_of(samples))
            contents.save(self.folder)
        self._tars.append(contents)
        self._next_number += 1

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()


def shards_digest(folder: str | Path) -> str:
    """Short digest of what an index says of the contents of all samples."""
    index = read_index(folder)
    known: dict[str, Any] = {name: index[name] for name in ("about", "shapes") if name in index}
    known["shards"] = [
        {name: shard[name] for name in ("file", "samples", "digest") if name in shard} for shard in index["shards"]
    ]
    return short_digest(json.dumps(known, sort_keys=True))


def _written(folder: Path) -> dict[str, dict[str, Any]]:
    """The index's entry of each tar, by name."""
    path = folder / INDEX
    shards = json.loads(path.read_text(encoding="utf-8"))["shards"] if path.is_file() else []
    return {shard["file"]: shard for shard in shards}


def _check_size(tar: Path, written: int | None) -> None:
    if written is not None and tar.stat().st_size != written:
        raise InputError(f"The shard {tar} was changed. Remove it and prepare the folder again.")


def _contents(tar: Path, written: Mapping[str, Any]) -> Contents:
    """The contents of a tar that is kept; the tar is read as a whole only if they are recorded nowhere.

    Args:
        tar: the file.
        written: what the index says of it.
    """
    _check_size(tar, written.get("bytes"))
    digest = written.get("digest") if "bytes" in written else None
    found = kept_contents(tar, digest)
    if found is None or found.digest is None:
        found = survey(tar, tar.name, digest or digest_of(read_tars([str(tar)])))
        found.save(tar.parent)
    return found


def read_index(folder: str | Path) -> dict[str, Any]:
    """The index of a folder of shards: "about", "shapes", "tensors" and "shards", each with its "file", "samples",
    "digest" and "bytes".

    Raises:
        InputError: if there is none, it lists no samples, or a tar is missing or of another size.
    """
    path = Path(folder) / INDEX
    if not path.is_file():
        raise InputError(f"{folder} holds no finished shards (no {INDEX}). Make them with `anytalker train prepare`.")
    index = json.loads(path.read_text(encoding="utf-8"))
    if sum(shard["samples"] for shard in index["shards"]) == 0:
        raise InputError(f"The shards in {folder} hold no clips.")
    for shard in index["shards"]:
        tar = Path(folder) / shard["file"]
        if not tar.is_file():
            raise InputError(f"The shard {tar} is missing. Prepare the folder again.")
        _check_size(tar, shard.get("bytes"))
    return index


def decode_sample(raw: Mapping[str, Any]) -> dict[str, Any]:
    """{"key", "record", and the sample's tensors by name} from the bytes of a tar.

    Raises:
        InputError: if they are damaged.
    """
    try:
        return {"key": raw["__key__"], "record": json.loads(raw["json"]), **load(raw["safetensors"])}
    except (KeyError, ValueError, SafetensorError) as error:
        shard, key = raw.get("__url__", "?"), raw.get("__key__", "?")
        raise InputError(
            f"Clip {key} in the shard {shard} is damaged ({error}). Remove it and prepare again."
        ) from error


def read_all(folder: str | Path) -> Iterator[dict[str, Any]]:
    """Every sample of a folder once, in the order it was written."""
    for raw in read_tars([str(Path(folder) / shard["file"]) for shard in read_index(folder)["shards"]]):
        yield decode_sample(raw)
