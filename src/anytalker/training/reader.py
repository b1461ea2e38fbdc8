"""From shards to batches, in an order that depends on the seed alone: not on processes, workers or interruptions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from anytalker.data.encoding import Clip
from anytalker.data.shards import ShardStream, decode_sample
from anytalker.errors import InputError
from anytalker.training.batches import Batch, crop_to_faces, make_batch, window_of
from anytalker.training.config import TrainingConfig

_KIND, _BATCH = 1, 2


@dataclass(frozen=True)
class Group:
    """One group of clips of one step: what a process runs forward and backward at once."""

    step: int
    number: int
    batch: Batch


class GroupReader(IterableDataset):
    """Groups of one process, step by step.

    Args:
        config: the run.
        audio_window: audio frames in a window of the model.
        start: first step.
        rank, processes: which share of the groups is read.

    Raises:
        InputError: if the groups can't be shared evenly, or there are no clips.
    """

    def __init__(
        self, config: TrainingConfig, audio_window: int, start: int = 0, rank: int = 0, processes: int = 1
    ) -> None:
        if config.groups % processes:
            raise InputError(
                f"groups is {config.groups}, which {processes} processes can't share evenly; make it a multiple."
            )
        self.config, self.audio_window, self.start = config, audio_window, start
        share = config.groups // processes
        self.groups = range(rank * share, (rank + 1) * share)
        for group in self.groups:
            self._streams(group)

    def _streams(self, group: int) -> dict[bool, ShardStream]:
        data, config = self.config.data, self.config
        folders = {False: data.single, True: data.joined or data.single}
        needed = {people > 1 for people in config.batches.join}
        return {
            joined: ShardStream(folders[joined], group, config.groups, config.seed, data.shuffle) for joined in needed
        }

    def people(self, group: int) -> np.ndarray:
        """Clips side by side in each step's batch of a group: (steps,)."""
        join = np.asarray(self.config.batches.join)
        rng = np.random.default_rng([self.config.seed, group, _KIND])
        return join[(rng.random(self.config.steps) * len(join)).astype(int)]

    def __iter__(self) -> Iterator[Group]:
        worker = get_worker_info()
        if worker is not None:
            torch.set_num_threads(1)
        index, count = (worker.id, worker.num_workers) if worker else (0, 1)
        size = self.config.batch_size
        people = {group: self.people(group) for group in self.groups}
        samples = {}
        for group in self.groups:
            before = people[group][: self.start] > 1
            for joined, stream in self._streams(group).items():
                samples[group, joined] = stream.read(int((before == joined).sum()) * size)
        order = itertools.product(range(self.start, self.config.steps), self.groups)
        for number, (step, group) in enumerate(order):
            together = int(people[group][step])
            raw = list(itertools.islice(samples[group, together > 1], size))
            if number % count == index:
                yield Group(step, group, self._batch(raw, together, step, group))

    def _batch(self, raw: list[dict[str, Any]], together: int, step: int, group: int) -> Batch:
        config, rng = self.config, np.random.default_rng([self.config.seed, step, group, _BATCH])
        clips = [Clip.from_sample(decode_sample(sample), self.audio_window) for sample in raw]
        length = config.data.window
        if length is not None:
            clips = [
                window_of(clip, int(rng.integers(1, clip.latents.shape[1] - length + 1)), length) for clip in clips
            ]
        if config.data.crop is not None and rng.random() < config.data.crop_probability:
            clips = [crop_to_faces(clip, config.data.crop, rng) for clip in clips]
        return make_batch(clips, together, config.batches, rng)


def group_loader(reader: GroupReader, workers: int) -> Iterator[Group]:
    """Groups of a reader, read ahead by that many worker processes (0: in this one)."""
    prefetch = 4 if workers else None
    return iter(DataLoader(reader, batch_size=None, num_workers=workers, prefetch_factor=prefetch))
