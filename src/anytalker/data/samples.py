"""Samples of shards in an order that depends on the seed alone, each read directly when its turn comes.

There is nothing to fast-forward: which sample is number n of a stream is computed, so that reading starts anywhere.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import random
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from anytalker.data.shards import read_index
from anytalker.data.tars import kept_contents, read_sample, read_tars, survey
from anytalker.errors import InputError


class StoredSamples:
    """Samples of folders of shards, shared among endless streams: every epoch all of them once, in a new order.

    There are `streams` streams in a run, one for each group of clips of a step; who reads which does not matter. Of
    every epoch's order a stream gets each `streams`-th sample. Nothing is held in memory but where the samples lie
    and when they come, some 24 bytes for each. Where nobody has written down what lies where, a tar's headers are read
    once, and it is kept beside the tar if the folder can be written to.

    Args:
        folders: folders of shards.
        streams: how many streams there are.
        seed: seed of the order.

    Raises:
        InputError: if there are fewer samples than streams.
    """

    def __init__(self, folders: Sequence[str | Path], streams: int, seed: int) -> None:
        self.shards = [(Path(folder), shard) for folder in folders for shard in read_index(folder)["shards"]]
        self.ends = list(itertools.accumulate(int(shard["samples"]) for _, shard in self.shards))
        self.total, self.streams, self.seed = self.ends[-1], streams, seed
        if self.total < streams:
            where = ", ".join(map(str, folders))
            raise InputError(
                f"{self.total} clips in {where} can't be shared among {streams} groups a step; give more clips, or "
                "fewer groups."
            )
        self._offsets: dict[int, array[int]] = {}
        self._orders: dict[int, array[int]] = {}

    def length(self, stream: int) -> int:
        """Samples of a stream in every epoch."""
        return len(range(stream, self.total, self.streams))

    def place(self, stream: int, number: int) -> int:
        """Which of all samples is that number of a stream."""
        epoch, place = divmod(number, self.length(stream))
        return self._order(epoch)[stream + place * self.streams]

    def read(self, stream: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """Raw samples (see `decode_sample`) of a stream from number `start` on, without end.

        Raises:
            InputError: if a shard is damaged.
        """
        return (self.sample(self.place(stream, number)) for number in itertools.count(start))

    def sample(self, place: int) -> dict[str, Any]:
        """One raw sample, counted over all folders as they were written.

        Raises:
            InputError: if its shard is damaged.
        """
        number = bisect.bisect_right(self.ends, place)
        folder, shard = self.shards[number]
        if number not in self._offsets:
            self._offsets[number] = _offsets(folder, shard)
        first = place - self.ends[number] + int(shard["samples"])
        start, end = self._offsets[number][first : first + 2]
        return read_sample(str(folder / shard["file"]), start, end)

    def _order(self, epoch: int) -> array[int]:
        if epoch not in self._orders:
            order = array("q", range(self.total))
            random.Random(f"{self.seed}.{epoch}").shuffle(order)
            while len(self._orders) > 1:  # streams of uneven length are an epoch apart, at most for a while
                del self._orders[min(self._orders)]
            self._orders[epoch] = order
        return self._orders[epoch]


class HeldSamples(StoredSamples):
    """The same samples in the same order, held in memory: for accelerators that train faster than files are read.

    Args:
        folders, streams, seed: as for `StoredSamples`; all samples are read at once.

    Raises:
        InputError: if there are too few samples, or a shard is damaged.
    """

    def __init__(self, folders: Sequence[str | Path], streams: int, seed: int) -> None:
        super().__init__(folders, streams, seed)
        self.samples: list[dict[str, Any]] = []
        for folder, shard in self.shards:
            read = list(read_tars([str(folder / shard["file"])]))
            _check_count(folder / shard["file"], len(read), shard)
            self.samples += read

    def sample(self, place: int) -> dict[str, Any]:
        """One raw sample, counted over all folders as they were written."""
        return self.samples[place]


def _offsets(folder: Path, shard: dict[str, Any]) -> array[int]:
    """Where the samples of a tar begin, and where the last one ends."""
    tar = folder / shard["file"]
    found = kept_contents(tar, shard.get("digest"))
    if found is None:
        found = survey(tar, tar.name, shard.get("digest"))
        with contextlib.suppress(OSError):  # a folder that can only be read
            found.save(folder)
    _check_count(tar, len(found.keys), shard)
    return array("q", found.offsets)


def _check_count(tar: Path, count: int, shard: dict[str, Any]) -> None:
    if count != shard["samples"]:
        raise InputError(
            f"The shard {tar} holds {count} clips, not {shard['samples']} as when it was written. Remove it and "
            "prepare the folder again."
        )
