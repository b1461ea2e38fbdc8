"""Shards of encoded clips: WebDataset tars beside an index, read in an order that depends on the seed alone."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from anytalker.errors import InputError
from anytalker.files import atomic_path, write_json_atomic

INDEX = "index.json"


class ShardWriter:
    """Writes samples into tars of `clips_per_shard`; every tar is whole or absent, and the index comes last.

    Tars that an earlier run left behind are kept: `keys` names the samples in them, `done` says how many they are. A
    last one that is not full is filled up. The index also lists the `shapes` that occur: people, and channels, frames,
    rows and columns of the latents; and `tensors`: how many samples have a tensor of each name.

    Args:
        folder: where the shards go; made if missing.
        clips_per_shard: samples a tar.
        about: facts that hold for all samples (settings they were encoded with), kept in the index. A folder begun
            with other facts is refused.
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
        self._waiting: list[dict[str, Any]] = []
        self._counts: list[int] = []
        self._digests: list[str] = []
        self._shapes: set[tuple[int, ...]] = set()
        self.tensors: Counter[str] = Counter()
        self.keys: set[str] = set()
        while (path := self._shard(len(self._counts))).exists():
            samples = list(_raw_samples([str(path)]))
            for raw in samples:
                self._know(load(raw["safetensors"]))
            self.keys.update(raw["__key__"] for raw in samples)
            if len(samples) < self.clips_per_shard:
                self._waiting = samples
                break
            self._counts.append(len(samples))
            self._digests.append(_digest_of(samples))

    @property
    def done(self) -> int:
        """Samples that need not be written again."""
        return sum(self._counts) + len(self._waiting)

    def _know(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._shapes.add(_shape_of(tensors))
        self.tensors.update(tensors.keys())

    def _shard(self, number: int) -> Path:
        return self.folder / f"clips-{number:06d}.tar"

    def write(self, key: str, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Add one sample: a JSON record and named tensors.

        Raises:
            ValueError: if there is one of that key already, which would make a tar that can't be read.
        """
        if key in self.keys:
            raise ValueError(f"{self.folder} already holds a sample {key}.")
        self.keys.add(key)
        self._know(tensors)
        self._waiting.append(
            {
                "__key__": key,
                "json": json.dumps(record).encode(),
                "safetensors": save({name: tensor.contiguous() for name, tensor in tensors.items()}),
            }
        )
        if len(self._waiting) == self.clips_per_shard:
            self._flush()

    def _flush(self) -> None:
        import webdataset

        if not self._waiting:
            return
        with atomic_path(self._shard(len(self._counts))) as partial, webdataset.TarWriter(str(partial)) as tar:
            for sample in self._waiting:
                tar.write({key: sample[key] for key in ("__key__", "json", "safetensors")})
        self._counts.append(len(self._waiting))
        self._digests.append(_digest_of(self._waiting))
        self._waiting = []

    def close(self) -> None:
        """Write what waits, and the index."""
        self._flush()
        shards = [
            {"file": self._shard(number).name, "samples": count, "digest": digest}
            for number, (count, digest) in enumerate(zip(self._counts, self._digests, strict=True))
        ]
        index = {"about": self.about, "shapes": sorted(self._shapes), "tensors": self.tensors, "shards": shards}
        write_json_atomic(self.folder / INDEX, index)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()


def shards_digest(folder: str | Path) -> str:
    """Short digest of an index, and so of the contents of all samples: another one wherever anything was changed."""
    return hashlib.sha256(json.dumps(read_index(folder), sort_keys=True).encode()).hexdigest()[:16]


def _digest_of(samples: Sequence[Mapping[str, Any]]) -> str:
    """Short digest of a tar's samples; when it was written doesn't count."""
    digest = hashlib.sha256()
    for sample in samples:
        for part in (sample["__key__"].encode(), sample["json"], sample["safetensors"]):
            digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]


def read_index(folder: str | Path) -> dict[str, Any]:
    """The index of a folder of shards: {"about", "shapes", "tensors", "shards": [{"file", "samples", "digest"}]}.

    Raises:
        InputError: if there is none, it lists no samples, or a tar is missing.
    """
    path = Path(folder) / INDEX
    if not path.is_file():
        raise InputError(f"{folder} holds no finished shards (no {INDEX}). Make them with `anytalker train prepare`.")
    index = json.loads(path.read_text(encoding="utf-8"))
    if sum(shard["samples"] for shard in index["shards"]) == 0:
        raise InputError(f"The shards in {folder} hold no clips.")
    for shard in index["shards"]:
        if not (Path(folder) / shard["file"]).is_file():
            raise InputError(f"The shard {Path(folder) / shard['file']} is missing. Prepare the folder again.")
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
    import webdataset

    try:
        yield from webdataset.DataPipeline(webdataset.SimpleShardList(urls), webdataset.tarfile_to_samples(), *stages)
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
