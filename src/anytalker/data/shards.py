"""Shards of encoded clips: WebDataset tars beside an index, read in an order that depends on the seed alone."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import tarfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from anytalker.errors import InputError
from anytalker.files import atomic_path, write_json_atomic

INDEX = "index.json"


@dataclass(frozen=True)
class _Tar:
    """What an index says of a tar, and what is in it."""

    file: str
    keys: tuple[str, ...]
    digest: str
    bytes: int
    shapes: frozenset[tuple[int, ...]]
    tensors: Counter[str]


class ShardWriter:
    """Writes samples into tars of `clips_per_shard`; every tar is whole or absent, and the index comes last.

    Samples that an earlier run left behind are kept, `keys` names them. No tar is changed that an index may speak of:
    samples of one that isn't full, or that holds samples to be dropped, move to a new one, and it goes when the new
    index is written. The index also lists the `shapes` that occur: people, and channels, frames, rows and columns of
    the latents; and `tensors`: how many samples have a tensor of each name.

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
        self.folder.mkdir(parents=True, exist_ok=True)
        begun = self.folder / "begun.json"
        if begun.exists() and json.loads(begun.read_text()) != self.about:
            raise InputError(f"{self.folder} was begun with other settings. Choose another folder, or remove it.")
        write_json_atomic(begun, self.about)
        self.keys: set[str] = set()
        self._tars: list[_Tar] = []
        self._waiting: list[dict[str, Any]] = []
        self._replaced: list[_Tar] = []
        paths = sorted(self.folder.glob("clips-*.tar"))
        self._number = 1 + max((int(path.stem.removeprefix("clips-")) for path in paths), default=-1)
        sizes = _written_sizes(self.folder)
        for path in paths:
            _check_size(path, sizes.get(path.name))
            tar = _tar_of(path, list(_raw_samples([str(path)])))
            self._tars.append(tar)
            if twice := self.keys & set(tar.keys):
                self._take_out(tar, twice)
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
            self._take_out(self._tars[-1])
        self.keys.add(key)
        packed = save({name: tensor.contiguous() for name, tensor in tensors.items()})
        self._waiting.append({"__key__": key, "json": json.dumps(record).encode(), "safetensors": packed})
        self._flush()

    def drop(self, keys: Collection[str]) -> None:
        """Leave samples out of the index that is written next."""
        self.keys.difference_update(keys)
        self._waiting = [sample for sample in self._waiting if sample["__key__"] not in keys]
        for tar in [tar for tar in self._tars if not set(keys).isdisjoint(tar.keys)]:
            self._take_out(tar, keys)
            self._flush()

    def _take_out(self, tar: _Tar, without: Collection[str] = ()) -> None:
        """Let the samples of a tar wait for a new one."""
        self._tars.remove(tar)
        self._replaced.append(tar)
        for sample in _raw_samples([str(self.folder / tar.file)]):
            if sample["__key__"] not in without:
                self._waiting.append({name: sample[name] for name in ("__key__", "json", "safetensors")})

    def _flush(self, least: int | None = None) -> None:
        """Write what waits into tars, as long as it fills one, or is at least so many samples."""
        import webdataset

        while len(self._waiting) >= (least or self.clips_per_shard):
            samples = self._waiting[: self.clips_per_shard]
            path = self.folder / f"clips-{self._number:06d}.tar"
            with atomic_path(path) as partial, open(partial, "wb") as file, webdataset.TarWriter(file) as tar:
                for sample in samples:
                    tar.write(sample)
            self._tars.append(_tar_of(path, samples))
            self._number += 1
            self._waiting = self._waiting[self.clips_per_shard :]

    def close(self) -> None:
        """Write what waits, and the index; then remove tars that it no longer speaks of."""
        self._flush(least=1)
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
        self._replaced = []

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
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def _written_sizes(folder: Path) -> dict[str, int]:
    """Bytes of the tars that an index speaks of, by their names."""
    path = folder / INDEX
    shards = json.loads(path.read_text(encoding="utf-8"))["shards"] if path.is_file() else []
    return {shard["file"]: shard["bytes"] for shard in shards if "bytes" in shard}


def _check_size(tar: Path, written: int | None) -> None:
    if written is not None and tar.stat().st_size != written:
        raise InputError(f"The shard {tar} was changed. Remove it and prepare the folder again.")


def _tar_of(path: Path, samples: Sequence[Mapping[str, Any]]) -> _Tar:
    contents = [load(sample["safetensors"]) for sample in samples]
    return _Tar(
        path.name,
        tuple(sample["__key__"] for sample in samples),
        _digest_of(samples),
        path.stat().st_size,
        frozenset(_shape_of(tensors) for tensors in contents),
        Counter(itertools.chain(*contents)),
    )


def _digest_of(samples: Sequence[Mapping[str, Any]]) -> str:
    """Short digest of a tar's samples; when it was written doesn't count."""
    digest = hashlib.sha256()
    for sample in samples:
        for part in (sample["__key__"].encode(), sample["json"], sample["safetensors"]):
            digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]


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


class ShardStream:
    """An endless stream of samples: every epoch all of its share once, in a new order.

    There are `streams` streams in a run, one for each group of clips of a step; who reads which does not matter.
    A stream owns every `streams`-th tar, or, where tars don't share out evenly, every `streams`-th sample.

    Args:
        folders: folders of shards.
        stream: number of this stream.
        streams: how many there are.
        seed: seed of the order.
        shuffle: samples held in memory to draw from.
    """

    def __init__(self, folders: Sequence[str | Path], stream: int, streams: int, seed: int, shuffle: int) -> None:
        shards = [
            (str(Path(folder) / shard["file"]), int(shard["samples"]))
            for folder in folders
            for shard in read_index(folder)["shards"]
        ]
        total = sum(count for _, count in shards)
        least = min(sum(count for _, count in shards[number::streams]) for number in range(streams))
        self.by_shard = 2 * least * streams >= total
        self.shards = shards[stream::streams] if self.by_shard else shards
        self.length = sum(count for _, count in self.shards) if self.by_shard else len(range(stream, total, streams))
        if self.length == 0:
            raise InputError(_too_few(total, streams, folders))
        self.stream, self.streams, self.seed, self.shuffle = stream, streams, seed, shuffle

    def read(self, start: int = 0) -> Iterator[dict[str, Any]]:
        """Raw samples (see `decode_sample`) from number `start` on; whole epochs before it stay closed."""
        epoch, place = divmod(start, self.length)
        while True:
            yield from itertools.islice(self._epoch(epoch), place, None)
            epoch, place = epoch + 1, 0

    def _epoch(self, epoch: int) -> Iterator[dict[str, Any]]:
        import webdataset

        order = random.Random(f"{self.seed}.{epoch}" + (f".{self.stream}" if self.by_shard else ""))
        urls = [url for url, _ in self.shards]
        order.shuffle(urls)
        samples = _raw_samples(urls, *([webdataset.shuffle(self.shuffle, rng=order)] if self.shuffle > 1 else []))
        return samples if self.by_shard else itertools.islice(samples, self.stream, None, self.streams)


class HeldSamples:
    """The samples of some folders, held in memory: for accelerators that train faster than tars are read.

    Args:
        folders: folders of shards; all of their samples are read at once.
        seed: seed of the order.

    Raises:
        InputError: if there are none, or a shard is damaged.
    """

    def __init__(self, folders: Sequence[str | Path], seed: int) -> None:
        urls = [str(Path(folder) / shard["file"]) for folder in folders for shard in read_index(folder)["shards"]]
        self.samples = list(_raw_samples(urls))
        self.folders, self.seed = folders, seed

    def read(self, stream: int, streams: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """An endless stream of raw samples from number `start` on: every epoch each `streams`-th of a new order.

        Raises:
            InputError: if there are fewer samples than streams.
        """
        total = len(self.samples)
        length = len(range(stream, total, streams))
        if length == 0:
            raise InputError(_too_few(total, streams, self.folders))
        epoch, place = divmod(start, length)
        rest = (sample for number in itertools.count(epoch) for sample in self._epoch(number)[stream::streams])
        return itertools.islice(rest, place, None)

    def _epoch(self, number: int) -> list[dict[str, Any]]:
        order = list(self.samples)
        random.Random(f"{self.seed}.{number}").shuffle(order)
        return order


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
    for raw in _raw_samples([str(Path(folder) / shard["file"]) for shard in read_index(folder)["shards"]]):
        yield decode_sample(raw)


def _raw_samples(urls: Sequence[str], *stages: Any) -> Iterator[dict[str, Any]]:
    """Samples of tars one after another; damaged tars are named."""
    from webdataset import DataPipeline
    from webdataset.tariterators import group_by_keys, tar_file_expander

    # Opened here, because webdataset takes a colon for a protocol's, and runs what follows "pipe:".
    def opened() -> Iterator[dict[str, Any]]:
        for url in urls:
            with open(url, "rb") as stream:
                yield {"url": url, "stream": stream}

    try:
        yield from DataPipeline(lambda: group_by_keys(tar_file_expander(opened())), *stages)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or (error.args[0] if error.args else type(error).__name__)
        named = next((str(part) for part in error.args if str(part) in urls), "one of " + ", ".join(urls[:3]))
        raise InputError(f"The shard {named} is damaged ({reason}). Remove it and prepare again.") from error


def _too_few(clips: int, streams: int, folders: Sequence[str | Path]) -> str:
    where = ", ".join(map(str, folders))
    return f"{clips} clips in {where} can't be shared among {streams} groups a step; give more clips, or fewer groups."


def _shape_of(tensors: Mapping[str, torch.Tensor]) -> tuple[int, ...]:
    """People, and channels, latent frames, rows and columns of a sample."""
    return (len(tensors["audio"]), *tensors["latents"].shape)
