"""From shards to batches, in an order that depends on the seed alone: not on processes, workers or interruptions.

`GroupReader` is a dataset whose item number n is computed from n, so torch's own loader does the rest, and a run that
is resumed starts at its step. `check_shards` compares what shards say of themselves with the run before it starts.

torchdata's StatefulDataLoader (0.11) keeps a state for each worker, which another number of workers refuses; MosaicML
Streaming (0.13) wants a format of its own, NumPy below 2.2, transformers below 5 and the SDKs of four clouds.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from anytalker.data.encoding import Clip, ClipEncoder
from anytalker.data.samples import HeldSamples, StoredSamples
from anytalker.data.shards import decode_sample, read_index
from anytalker.errors import InputError
from anytalker.models.digest import encoder_digest
from anytalker.training.batches import Batch, crop_to_faces, make_batch, window_of
from anytalker.training.config import TrainingConfig

_KIND, _BATCH = 1, 2
"""Last number of the seeds: which kind of batch a step has, and all that is random in the batch."""


@dataclass(frozen=True)
class Group:
    """One group of clips of one step: the batch that a process runs forward and backward at once."""

    step: int
    number: int
    batch: Batch

    def pin_memory(self) -> Group:
        """The same with its tensors in memory that accelerators copy from without waiting."""
        return replace(self, batch=self.batch.pin_memory())


@dataclass(frozen=True)
class _Kind:
    """One kind of batch: scenes of `join` clips side by side, from folders whose clips have one shape."""

    join: int
    folders: tuple[Path, ...]


class GroupReader(Dataset):
    """The groups of one process, step by step, as a dataset: item n does not depend on what was read before.

    Clips of different shapes are never in one batch. Every batch is of one kind (see `_batch_kinds`), which is drawn by
    the number of clips that its folders have, or by `data.shares`.

    Args:
        config: the run.
        audio_window: audio frames in a window of the model.
        start: first step.
        rank, processes: which share of the groups is read.
        silence: for clips of so many latent frames, what a person without a voice sounds like (`silent_rows`); zero
            for lengths that are left out.

    Raises:
        InputError: if the groups can't be shared evenly, or there are no clips.
    """

    def __init__(
        self,
        config: TrainingConfig,
        audio_window: int,
        start: int = 0,
        rank: int = 0,
        processes: int = 1,
        silence: Mapping[int, torch.Tensor] | None = None,
    ) -> None:
        if config.groups % processes:
            raise InputError(
                f"groups is {config.groups}, which {processes} processes can't share evenly; make it a multiple."
            )
        self.config, self.audio_window, self.start = config, audio_window, start
        self.silence = silence or {}
        share = config.groups // processes
        self.groups = range(rank * share, (rank + 1) * share)
        self.kinds, probabilities = _batch_kinds(config)
        self._cumulative = np.cumsum(probabilities)
        samples = HeldSamples if config.data.in_memory else StoredSamples
        self.samples = {
            folders: samples(folders, config.groups, config.seed)
            for folders in dict.fromkeys(kind.folders for kind in self.kinds)
        }
        self._schedules = {group: self.schedule(group) for group in self.groups}
        self._batches_before = {group: self._count_before(kinds) for group, kinds in self._schedules.items()}

    def schedule(self, group: int) -> np.ndarray:
        """Index in `kinds` of the batch of a group at each step: (steps,)."""
        rng = np.random.default_rng([self.config.seed, group, _KIND])
        return np.searchsorted(self._cumulative[:-1], rng.random(self.config.steps), side="right")

    def _count_before(self, schedule: np.ndarray) -> np.ndarray:
        """How many batches from the same folders come before each step of a schedule: (steps,)."""
        before = np.zeros(len(schedule), np.int64)
        for folders in self.samples:
            same = np.isin(schedule, [number for number, kind in enumerate(self.kinds) if kind.folders == folders])
            before[same] = np.arange(same.sum())
        return before

    def __len__(self) -> int:
        return max(0, self.config.steps - self.start) * len(self.groups)

    def __getitem__(self, number: int) -> Group | InputError:
        """A group, counted from the first step on; an error is returned, for `group_loader` to raise."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        steps, place = divmod(number, len(self.groups))
        step, group = self.start + steps, self.groups[place]
        kind = self.kinds[self._schedules[group][step]]
        first = int(self._batches_before[group][step]) * self.config.batch_size
        try:
            raw = itertools.islice(self.samples[kind.folders].read(group, first), self.config.batch_size)
            return Group(step, group, self._make_batch(raw, kind.join, step, group))
        except InputError as error:
            return error

    def _make_batch(self, raw: Iterable[dict[str, Any]], join: int, step: int, group: int) -> Batch:
        """Decode samples, cut them in time and to their faces as configured, and join them."""
        config, rng = self.config, np.random.default_rng([self.config.seed, step, group, _BATCH])
        clips = [self._clip(decode_sample(sample)) for sample in raw]
        length = config.data.window
        if length is not None:
            clips = [
                window_of(clip, int(rng.integers(1, clip.latents.shape[1] - length + 1)), length) for clip in clips
            ]
        if config.data.crop is not None and rng.random() < config.data.crop_probability:
            clips = [crop_to_faces(clip, config.data.crop, rng) for clip in clips]
        return make_batch(clips, join, config.batches, rng)

    def _clip(self, sample: dict[str, Any]) -> Clip:
        return Clip.from_sample(sample, self.audio_window, self.silence.get(sample["latents"].shape[1]))


def _batch_kinds(config: TrainingConfig) -> tuple[list[_Kind], list[float]]:
    """The kinds of batches of a run, and the probability of each.

    All numbers in `batches.join` are equally likely. For each there is one kind for every shape of clips.
    """
    data = config.data
    kinds: list[_Kind] = []
    probabilities: list[float] = []
    for join in config.batches.join:
        weights: dict[tuple[Path, ...], float]
        if data.shares and (join == 1 or not data.joined):
            weights = {(folder,): share for folder, share in zip(data.single, data.shares, strict=True)}
        else:
            weights = _clips_by_shape(data.single if join == 1 else data.joined or data.single, data.window is None)
        kinds += [_Kind(join, folders) for folders in weights]
        probabilities += [weight / sum(weights.values()) / len(config.batches.join) for weight in weights.values()]
    return kinds, probabilities


def _clips_by_shape(folders: Sequence[Path], whole: bool) -> dict[tuple[Path, ...], float]:
    """Number of clips by the folders that hold them, folders with clips of the same shape together.

    Args:
        folders: folders of shards.
        whole: clips are not cut in time, so that their length counts as part of their shape.
    """
    alike: dict[Any, list[Path]] = {}
    counts: dict[Any, float] = {}
    for folder in folders:
        index = read_index(folder)
        shapes = frozenset((s[0], *(s[2:3] if whole else ()), *s[3:]) for s in index.get("shapes", ()))
        alike.setdefault(shapes, []).append(folder)
        counts[shapes] = counts.get(shapes, 0) + sum(shard["samples"] for shard in index["shards"])
    return {tuple(same): counts[shapes] for shapes, same in alike.items()}


def clip_lengths(config: TrainingConfig) -> list[int]:
    """All lengths of a run's clips in latent frames, by the indices of the shards."""
    folders = [*config.data.single, *config.data.joined]
    return sorted({shape[2] for folder in folders for shape in read_index(folder).get("shapes", ())})


def group_loader(reader: GroupReader, workers: int, pin_memory: bool = False) -> Iterator[Group]:
    """Groups of a reader, read ahead by that many worker processes (0: in this one), in pinned memory if wanted.

    Raises:
        InputError: if a shard is damaged.
    """
    prefetch = 4 if workers else None
    loader = DataLoader(reader, batch_size=None, num_workers=workers, prefetch_factor=prefetch, pin_memory=pin_memory)
    for group in loader:
        if isinstance(group, InputError):
            raise group
        yield group


def check_shards(config: TrainingConfig, encoder: ClipEncoder) -> None:
    """Make sure that the shards of a run and of its validation were made for its model and fit into its batches.

    Args:
        config: the run.
        encoder: of the run's model. Shards may have been encoded with less precise weights of the same autoencoder.

    Raises:
        InputError: if the shards were made for another model, or their clips can't be put into one batch.
    """
    validation = config.validation.data if config.validation.every else []
    autoencoders = {encoder_digest(encoder.vae, dtype) for dtype in (torch.float32, torch.float16, torch.bfloat16)}
    for folder in dict.fromkeys([*config.data.single, *config.data.joined, *validation]):
        _check_encoding(folder, encoder.about, autoencoders)
    for kind in _batch_kinds(config)[0]:
        _check_shapes(config, kind)


def _check_encoding(folder: Path, model: Mapping[str, Any], autoencoders: Collection[str]) -> None:
    """Refuse shards that were encoded for another model.

    Args:
        folder: of the shards.
        model: settings with which the run's model encodes clips.
        autoencoders: digests of its autoencoder in every precision.
    """
    shards = read_index(folder)["about"]
    for name in ("condition", "image_size"):
        if shards.get(name, model[name]) != model[name]:
            raise InputError(
                f"The shards in {folder} were made with {name} {shards[name]!r}, but the model has "
                f"{model[name]!r}. Prepare them with this model."
            )
    if shards.get("silence", model["silence"]) != model["silence"]:
        raise InputError(
            f"The shards in {folder} are of an earlier version, whose silent clips were others. Prepare them again."
        )
    if shards.get("audio_features", model["audio_features"]) != model["audio_features"]:
        raise InputError(
            f"The shards in {folder} hold voices as other audio features hear them than the model's. Prepare them "
            "with this model."
        )
    if "autoencoder" in shards and shards["autoencoder"] not in autoencoders:
        raise InputError(
            f"The shards in {folder} hold latents of another autoencoder than the model's. Prepare them with this "
            "model, or train the model that they were made with."
        )


def _check_shapes(config: TrainingConfig, kind: _Kind) -> None:
    """Refuse clips of one kind of batch that are too short for the window, or that can't be stacked."""
    window = config.data.window
    shapes = {tuple(shape) for folder in kind.folders for shape in read_index(folder).get("shapes", ())}
    frames = sorted({shape[2] for shape in shapes})
    where = ", ".join(map(str, kind.folders))
    if frames and window is not None and frames[0] <= window:
        raise InputError(
            f"data.window is {window}, but {where} has clips of only {frames[0] - 1} latent frames besides "
            "the picture. Make it smaller, or prepare longer clips."
        )
    if len(frames) > 1 and window is None and config.batch_size > 1:
        raise InputError(f"{where} has clips of {frames} latent frames; set data.window, so that batches are even.")
    if len({(shape[0], *shape[3:]) for shape in shapes}) > 1 and config.batch_size > 1:
        sizes = ", ".join(f"{s[0]} people in {s[3]}×{s[4]}" for s in sorted(shapes))
        raise InputError(
            f"{where} has clips that don't fit into one batch ({sizes} latents). Prepare them apart, or set "
            "batch_size=1."
        )
