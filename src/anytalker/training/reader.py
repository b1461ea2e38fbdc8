"""From shards to batches, in an order that depends on the seed alone: not on processes, workers or interruptions.

Any group of any step is read by itself, so torch's own loader does the rest, and a run's state is its step.
torchdata's StatefulDataLoader (0.11) keeps a state for each worker, which another number of workers refuses; MosaicML
Streaming (0.13) wants a format of its own, NumPy below 2.2, transformers below 5 and the SDKs of four clouds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
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


@dataclass(frozen=True)
class Group:
    """One group of clips of one step: what a process runs forward and backward at once."""

    step: int
    number: int
    batch: Batch

    def pin_memory(self) -> Group:
        """The same with its tensors in memory that accelerators copy from without waiting."""
        return replace(self, batch=self.batch.pin_memory())


@dataclass(frozen=True)
class _Kind:
    """One kind of batch: so many clips side by side, from folders whose clips have one shape."""

    together: int
    folders: tuple[Path, ...]


class GroupReader(Dataset):
    """Groups of one process, step by step: number n is read alone, whatever was read before.

    Folders of different shapes take turns: every batch comes from one of them, each as often as it has clips, or as
    `data.shares` says.

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
        self.kinds, self.chances = _kinds(config)
        kept = HeldSamples if config.data.in_memory else StoredSamples
        self.samples = {
            folders: kept(folders, config.groups, config.seed)
            for folders in dict.fromkeys(kind.folders for kind in self.kinds)
        }
        self._plans = {group: self.schedule(group) for group in self.groups}
        self._earlier = {group: self._batches_before(plan) for group, plan in self._plans.items()}

    def schedule(self, group: int) -> np.ndarray:
        """Which of `kinds` each step's batch of a group is: (steps,)."""
        rng = np.random.default_rng([self.config.seed, group, _KIND])
        return np.searchsorted(self.chances[:-1], rng.random(self.config.steps), side="right")

    def _batches_before(self, plan: np.ndarray) -> np.ndarray:
        """How many batches of the same folders a group had before each step: (steps,)."""
        before = np.zeros(len(plan), np.int64)
        for folders in self.samples:
            own = np.isin(plan, [number for number, kind in enumerate(self.kinds) if kind.folders == folders])
            before[own] = np.arange(own.sum())
        return before

    def __len__(self) -> int:
        return max(0, self.config.steps - self.start) * len(self.groups)

    def __getitem__(self, number: int) -> Group | InputError:
        """A group, counted from the first step on; an error comes in its place, for `group_loader` to raise."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        later, place = divmod(number, len(self.groups))
        step, group = self.start + later, self.groups[place]
        kind = self.kinds[self._plans[group][step]]
        first = int(self._earlier[group][step]) * self.config.batch_size
        try:
            raw = itertools.islice(self.samples[kind.folders].read(group, first), self.config.batch_size)
            return Group(step, group, self._batch(raw, kind.together, step, group))
        except InputError as error:
            return error

    def _batch(self, raw: Iterable[dict[str, Any]], together: int, step: int, group: int) -> Batch:
        config, rng = self.config, np.random.default_rng([self.config.seed, step, group, _BATCH])
        clips = [self._clip(decode_sample(sample)) for sample in raw]
        length = config.data.window
        if length is not None:
            clips = [
                window_of(clip, int(rng.integers(1, clip.latents.shape[1] - length + 1)), length) for clip in clips
            ]
        if config.data.crop is not None and rng.random() < config.data.crop_probability:
            clips = [crop_to_faces(clip, config.data.crop, rng) for clip in clips]
        return make_batch(clips, together, config.batches, rng)

    def _clip(self, sample: dict[str, Any]) -> Clip:
        return Clip.from_sample(sample, self.audio_window, self.silence.get(sample["latents"].shape[1]))


def _kinds(config: TrainingConfig) -> tuple[list[_Kind], np.ndarray]:
    """The kinds of batches of a run, and the running sum of their chances."""
    data = config.data
    kinds: list[_Kind] = []
    chances: list[float] = []
    turns: dict[tuple[Path, ...], float]
    for together in config.batches.join:
        if data.shares and (together == 1 or not data.joined):
            turns = {(folder,): share for folder, share in zip(data.single, data.shares, strict=True)}
        else:
            turns = _turns(data.single if together == 1 else data.joined or data.single, data.window is None)
        kinds += [_Kind(together, folders) for folders in turns]
        chances += [turn / sum(turns.values()) / len(config.batches.join) for turn in turns.values()]
    return kinds, np.cumsum(chances)


def _turns(folders: Sequence[Path], whole: bool) -> dict[tuple[Path, ...], float]:
    """Folders whose clips have one shape, also in time where `whole` clips are shown, and how many clips they hold."""
    alike: dict[Any, list[Path]] = {}
    counts: dict[Any, float] = {}
    for folder in folders:
        index = read_index(folder)
        shapes = frozenset((s[0], *(s[2:3] if whole else ()), *s[3:]) for s in index.get("shapes", ()))
        alike.setdefault(shapes, []).append(folder)
        counts[shapes] = counts.get(shapes, 0) + sum(shard["samples"] for shard in index["shards"])
    return {tuple(same): counts[shapes] for shapes, same in alike.items()}


def clip_lengths(config: TrainingConfig) -> list[int]:
    """Latent frames that the clips of a run have, as the shards say."""
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
    """Hold what the shards of a run, also those of its validation, say of themselves against the run and its model.

    Args:
        config: the run.
        encoder: of the run's model. Shards may have been encoded with less precise weights of the same autoencoder.

    Raises:
        InputError: if the shards were made for another model, or their clips can't be put into one batch.
    """
    held_out = config.validation.data if config.validation.every else []
    autoencoders = {encoder_digest(encoder.vae, dtype) for dtype in (torch.float32, torch.float16, torch.bfloat16)}
    wanted = encoder.about
    for folder in dict.fromkeys([*config.data.single, *config.data.joined, *held_out]):
        about = read_index(folder)["about"]
        for name in ("condition", "image_size"):
            if about.get(name, wanted[name]) != wanted[name]:
                raise InputError(
                    f"The shards in {folder} were made with {name} {about[name]!r}, but the model has "
                    f"{wanted[name]!r}. Prepare them with this model."
                )
        if about.get("silence", wanted["silence"]) != wanted["silence"]:
            raise InputError(
                f"The shards in {folder} are of an earlier version, whose silent clips were others. Prepare them again."
            )
        if about.get("audio_features", wanted["audio_features"]) != wanted["audio_features"]:
            raise InputError(
                f"The shards in {folder} hold voices as other audio features hear them than the model's. Prepare them "
                "with this model."
            )
        if "autoencoder" in about and about["autoencoder"] not in autoencoders:
            raise InputError(
                f"The shards in {folder} hold latents of another autoencoder than the model's. Prepare them with this "
                "model, or train the model that they were made with."
            )
    for kind in _kinds(config)[0]:
        _check_shapes(config, kind)


def _check_shapes(config: TrainingConfig, kind: _Kind) -> None:
    """Refuse clips of a kind of batch that are too short for the window, or can't be stacked."""
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
