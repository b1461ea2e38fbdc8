"""What a run leaves behind to be used: its model as a folder that `AnyTalkerPipeline.from_pretrained` reads."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from anytalker.checkpoints.tensors import WEIGHTS_NAME, write_shards
from anytalker.errors import AnyTalkerError
from anytalker.loading.components import PARTS, copy_part, find_model, load_components, model_settings
from anytalker.models.digest import weights_digest
from anytalker.models.lora import merge_lora
from anytalker.models.transformer import AnyTalkerTransformer3DModel
from anytalker.training.model import TrainedModel
from anytalker.training.sharded_model import gathered

Save = Callable[[Path], Any]


def write_model(target: Path, source: Path, changed: Mapping[str, Save]) -> None:
    """Write a model to `target`, whole or not at all.

    Args:
        target: its folder, which is replaced.
        source: folder of the model that the run began with, from which all other parts are copied.
        changed: for each part that is another one now, what writes it into its folder.
    """
    unfinished = target.with_name(f"{target.name}-unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    known = find_model(source)
    for name in PARTS:
        if name in changed:
            changed[name](unfinished / name)
        else:
            copy_part(known, source, name, unfinished / name)
    model_settings(source).save(unfinished)
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)


def write_sharded(
    target: Path, source: Path, model: TrainedModel, averages: Mapping[str, torch.Tensor], main: bool
) -> None:
    """Write a sharded model to `target`, its transformer tensor by tensor; every process must call it.

    Args:
        target, source: see `write_model`.
        model: whose parts are written.
        averages: what is written in place of its parameters of these names.
        main: whether this process writes.
    """
    parts = ["transformer", *(["image_encoder"] if model.train_image_encoder else [])]

    def tensors(part: str) -> Iterator[tuple[str, torch.Tensor]]:
        for name, value in model.named_parameters():
            if name.startswith(f"{part}."):
                yield name.removeprefix(f"{part}."), averages.get(name, value)

    def save_transformer(folder: Path) -> None:
        folder.mkdir()
        model.transformer.save_config(folder)
        write_shards(gathered(tensors("transformer")), folder, WEIGHTS_NAME)

    def save_image_encoder(folder: Path) -> None:
        encoder = load_components(source, names=["image_encoder"])["image_encoder"]
        encoder.load_state_dict(dict(gathered(tensors("image_encoder"))))
        encoder.save_pretrained(folder)

    if main:
        saves = {"transformer": save_transformer, "image_encoder": save_image_encoder}
        write_model(target, source, {part: saves[part] for part in parts})
    else:
        for part in parts:
            for _ in gathered(tensors(part)):
                pass


def merged_transformer(folder: Path, adapter: Path, begun_with: str) -> AnyTalkerTransformer3DModel:
    """The transformer in a model's folder with an adapter merged into it.

    Args:
        folder: of the model that the run began with, whose own copy may have been made coarser.
        adapter: what the run has trained.
        begun_with: digest of the transformer then.

    Raises:
        AnyTalkerError: if it is another one now.
    """
    transformer: AnyTalkerTransformer3DModel = load_components(folder, names=["transformer"])["transformer"]
    if weights_digest(transformer) != begun_with:
        raise AnyTalkerError(
            f"{folder} was changed while the run trained on it, so {adapter} can't be merged into it. Put it back and "
            "run again; nothing is lost."
        )
    merge_lora(transformer, adapter)
    return transformer
