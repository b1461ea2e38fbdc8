"""What each process of a run loads: one of them what is needed once, all of them, or each in parts, what is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from anytalker.conditioning.audio_features import silent_rows
from anytalker.data.encoding import ClipEncoder
from anytalker.loading.components import find_model, load_components, model_settings
from anytalker.loading.found import PARTS
from anytalker.models.digest import weights_digest
from anytalker.pipelines.pipeline import AnyTalkerPipeline
from anytalker.training.batches import GENERIC_PROMPTS
from anytalker.training.config import TrainingConfig
from anytalker.training.model import TextEmbeddings
from anytalker.training.reader import check_shards, clip_lengths
from anytalker.training.sharded_model import empty_transformer, fill, transformer_reader
from anytalker.training.watch import Watch

TRAINED = ("transformer", "image_encoder")
"""The parts that a run may change."""


@dataclass(frozen=True)
class Common:
    """What the main process finds out for all of them.

    `text` and `null_text`: embeddings of prompts, and (1, L, channels) of guidance's null branch; `silence`: see
    `GroupReader`; `window`: audio frames in a window.
    """

    text: TextEmbeddings
    null_text: torch.Tensor
    silence: Mapping[int, torch.Tensor]
    window: int


def load_once(config: TrainingConfig) -> tuple[dict[str, Any], Common]:
    """The parts that only the main process needs, held against the shards, and what it finds out with them.

    The text encoder is the largest of them by far: it embeds the few prompts that are no captions, and is gone.

    Raises:
        InputError: if the model can't be loaded, or the shards were made for another one.
    """
    settings = model_settings(config.model)
    parts = load_components(config.model, names=("vae", "audio_features", "scheduler"))
    features = parts["audio_features"]
    check_shards(config, ClipEncoder(parts["vae"], features, settings.condition, settings.image_size))
    silence = {length: silent_rows(features, 4 * length - 3, settings.fps) for length in clip_lengths(config)}
    return parts, Common(*_embed_prompts(config), silence, features.window)


@torch.no_grad()
def _embed_prompts(config: TrainingConfig) -> tuple[TextEmbeddings, torch.Tensor]:
    pipeline = make_pipeline(config, load_components(config.model, names=("text_encoder", "tokenizer")))
    text = TextEmbeddings(pipeline.encode_text, ["", *GENERIC_PROMPTS], pipeline.settings.text_len)
    return text, pipeline.encode_null_text(None)


def make_pipeline(config: TrainingConfig, parts: Mapping[str, Any]) -> AnyTalkerPipeline:
    """A pipeline of the parts that a process has; the others are None."""
    own: dict[str, Any] = {name: parts.get(name) for name in PARTS}
    return AnyTalkerPipeline(**own, settings=model_settings(config.model))


def load_trained(config: TrainingConfig) -> tuple[dict[str, Any], dict[str, str]]:
    """The parts that a run may change, whole, and their digests."""
    parts = load_components(config.model, names=TRAINED)
    return parts, {name: weights_digest(parts[name]) for name in TRAINED}


def empty_trained(config: TrainingConfig, watch: Watch) -> tuple[dict[str, Any], Any]:
    """The same without weights, to be sharded and filled; and the image encoder, on the main process alone."""
    from accelerate import init_empty_weights
    from transformers import CLIPVisionModel

    encoder = load_components(config.model, names=("image_encoder",))["image_encoder"] if watch.rank == 0 else None
    image_config = watch.share(encoder.config if encoder is not None else None)
    with init_empty_weights(include_buffers=False):
        empty = CLIPVisionModel(image_config)
    return {"transformer": empty_transformer(find_model(config.model)), "image_encoder": empty.eval()}, encoder


def fill_trained(config: TrainingConfig, model: Any, encoder: Any, device: torch.device) -> dict[str, str]:
    """Fill a sharded model; every process must call it.

    Args:
        config: the run.
        model: empty and sharded.
        encoder: the image encoder, small enough to be read whole, on the main process; None on the others.
        device: of the parts.

    Returns:
        Digests of the parts that a run may change, on the main process.
    """
    if encoder is None:
        return fill(model, None, device)
    states = encoder.state_dict()
    with transformer_reader(find_model(config.model), model.transformer) as tensor:

        def read(name: str) -> torch.Tensor:
            part, _, rest = name.partition(".")
            return tensor(rest) if part == "transformer" else states[rest]

        return fill(model, read, device)
