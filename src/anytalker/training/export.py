"""What a run leaves behind to be used: its model as a folder that `AnyTalkerPipeline.from_pretrained` reads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from anytalker.errors import AnyTalkerError
from anytalker.loading.components import load_components
from anytalker.models.digest import weights_digest
from anytalker.models.lora import merge_lora
from anytalker.models.transformer import AnyTalkerTransformer3DModel
from anytalker.pipelines.pipeline import AnyTalkerPipeline


def write_model(target: Path, pipeline: AnyTalkerPipeline, **trained: Any) -> None:
    """Write a pipeline to `target`, whole or not at all, with the parts `trained` in place of its own."""
    unfinished = target.with_name(f"{target.name}-unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    AnyTalkerPipeline(**pipeline.components | trained, settings=pipeline.settings).save_pretrained(unfinished)
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)


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


def filled_parts(folder: Path, state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Transformer and image encoder of a model's folder with the tensors "transformer.…" and "image_encoder.…"."""
    names = ("transformer", "image_encoder")
    loaded = load_components(folder, names=names)
    for name in names:
        own = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        loaded[name].load_state_dict(own)
    return {name: loaded[name] for name in names}
