"""What is known of a training run before it begins: its model by configurations, its batches by the shards' indices."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anytalker.data.prepare import PrepareSettings
from anytalker.data.shards import read_index
from anytalker.doctor.report import IMAGE_ENCODER, largest
from anytalker.errors import InputError
from anytalker.loading.components import find_model, part_folder
from anytalker.loading.part_loaders import settings_of, transformer_config
from anytalker.loading.presets import PRESETS, TRANSFORMERS, models_home
from anytalker.models.settings import SETTINGS_FILE, PipelineSettings
from anytalker.models.transformer import AnyTalkerTransformer3DModel
from anytalker.training.config import TrainingConfig


@dataclass(frozen=True)
class TrainingShape:
    """What an estimate needs to know of a model: configurations of transformer and image encoder, and settings."""

    transformer: Mapping[str, Any]
    image_encoder: Mapping[str, Any]
    settings: PipelineSettings


@dataclass(frozen=True)
class BatchKind:
    """One kind of batch of a group: `scenes` of `people` in latents of `frames`, `rows` and `columns`.

    `chance`: how likely a batch is of this kind.
    """

    scenes: int
    people: int
    frames: int
    rows: int
    columns: int
    chance: float

    @property
    def tokens(self) -> int:
        """Video tokens of a scene."""
        return self.frames * (self.rows // 2) * (self.columns // 2)


def training_shape(model: Path, like: str | None = None) -> tuple[TrainingShape, list[str]]:
    """What is known of the model of a run without reading a weight, and what is missing of it.

    Args:
        model: its folder, of which the configurations are enough; a checkpoint; or a model's name.
        like: a model of the same size, where it isn't there yet; None: the preset that a folder of its path is named
            after.

    Returns:
        The shape, and a line for everything that is missing.

    Raises:
        InputError: if the model isn't there and nothing says of which size it is.
    """
    missing: list[str] = []
    name, found = str(model), None
    try:
        found = find_model(model)
    except InputError as error:
        missing.append(str(error))
    folder = models_home() / name if name in PRESETS else model
    if found is not None and found.config is not None:
        return TrainingShape(transformer_config(found), IMAGE_ENCODER, settings_of(found)), missing
    folder = folder if found is None else found.path
    if (part_folder(folder, "transformer") / "config.json").is_file():
        transformer = dict(AnyTalkerTransformer3DModel.load_config(folder / "transformer", local_files_only=True))
        settings = _json(folder / SETTINGS_FILE)
        image = _json(part_folder(folder, "image_encoder") / "config.json") or IMAGE_ENCODER
        known = PipelineSettings.from_dict(settings) if settings else PRESETS["14b"].settings
        return TrainingShape(transformer, image, known), missing
    size = like or (name if name in PRESETS else next((part for part in model.parts if part in PRESETS), None))
    if size is None:
        raise InputError(
            f"There is no model {model} yet, and nothing says of which size it will be; name a model of that size "
            f"with --like, such as --like {next(iter(PRESETS))}."
        )
    if size in PRESETS:
        shape = TrainingShape(TRANSFORMERS[size], IMAGE_ENCODER, PRESETS[size].settings)
    else:
        shape, lacking = training_shape(Path(size))
        missing += lacking
    return shape, [f"{missing[0]} Counted as {size}.", *missing[1:]]


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def batch_kinds(config: TrainingConfig, settings: PipelineSettings) -> tuple[list[BatchKind], list[str]]:
    """The kinds of batches of a run, by its shards, and a line for all shards that are missing.

    Missing shards are taken for what `train prepare` makes by default, or of the model's largest frame where that is
    smaller: whole frames of one person, of two where no clips are joined, and for `data.joined` windows of half their
    width.
    """
    data, missing = config.data, list[str]()
    kinds: list[BatchKind] = []
    for together in config.batches.join:
        folders = data.single if together == 1 else data.joined or data.single
        own = folders is data.single and data.shares
        clips: list[tuple[tuple[int, ...], float]] = []
        for number, folder in enumerate(folders):
            try:
                shape, count = _largest_clip(folder)
            except InputError as error:
                assumed = _assumed_clip(config, settings, folders is data.joined)
                shape, count = assumed, 1
                missing.append(f"{error} Counted as {_clip_text(assumed)}.")
            clips.append((shape, data.shares[number] if own else count))
        total = sum(share for _, share in clips) * len(config.batches.join)
        for shape, share in clips:
            kinds += _kinds_of(config, together, shape, share / total)
    return kinds, list(dict.fromkeys(missing))


def _largest_clip(folder: Path) -> tuple[tuple[int, ...], int]:
    """People, frames, rows and columns in latents of the largest clips of a folder, and how many clips it holds."""
    index = read_index(folder)
    shapes = [(shape[0], *shape[2:]) for shape in index.get("shapes", ())]
    if not shapes:
        raise InputError(f"The shards in {folder} don't say of which size they are.")
    return max(shapes, key=lambda shape: math.prod(shape[1:])), sum(shard["samples"] for shard in index["shards"])


def _assumed_clip(config: TrainingConfig, settings: PipelineSettings, window: bool) -> tuple[int, ...]:
    width, height = PrepareSettings.width, PrepareSettings.height
    if width * height > settings.max_area:
        width, height = largest(settings)
    people = 2 if max(config.batches.join) == 1 else 1
    frames = ((settings.trained_frames or 81) - 1) // 4 + 1 if config.data.window is None else config.data.window + 1
    return people, frames, height // 8, width // (16 if window else 8)


def _clip_text(shape: tuple[int, ...]) -> str:
    people, frames, rows, columns = shape
    who = "one person" if people == 1 else f"{people} people"
    return f"{who}, {8 * columns}×{8 * rows}, {4 * frames - 3} frames"


def _kinds_of(config: TrainingConfig, together: int, shape: tuple[int, ...], chance: float) -> list[BatchKind]:
    people, frames, rows, columns = shape
    if config.data.window is not None:
        frames = config.data.window + 1
    scenes = config.batch_size // together if config.batches.join_once else config.batch_size
    whole = BatchKind(scenes, together * people, frames, rows, together * columns, chance)
    crop = config.data.crop
    if crop is None:
        return [whole]
    narrow = min(columns, crop if people == 1 else max(crop, columns - max(0, rows - crop)))
    if (min(crop, rows), narrow) == (rows, columns):
        return [whole]
    cut = replace(whole, rows=min(crop, rows), columns=together * narrow, chance=chance * config.data.crop_probability)
    return [cut, replace(whole, chance=chance - cut.chance)]
