"""Between the release's checkpoints and ours: the same tensors under other names, nothing is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import init_empty_weights

from anytalker.errors import InputError
from anytalker.models.release_names import Names, check_tensors, model_config
from anytalker.models.transformer import AnyTalkerTransformer3DModel


def from_release(state_dict: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> AnyTalkerTransformer3DModel:
    """Our model with the release's weights, bit for bit.

    Args:
        state_dict: the release's tensors by the release's names.
        config: the release's configuration, see `to_release`.

    Raises:
        InputError: for missing, unexpected or wrongly shaped tensors, or a configuration that lacks something.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in state_dict.items()}
    values = model_config(shapes, config)
    with init_empty_weights():  # the tensors take the place of what would be drawn at random first
        model = AnyTalkerTransformer3DModel(**values)
    names = Names(values["audio_face_layout"])
    check_tensors(shapes, {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}, names)
    model.load_state_dict({str(names.ours(key)): value for key, value in state_dict.items()}, assign=True)
    return model.eval()


def to_release(model: AnyTalkerTransformer3DModel) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The release's tensors and configuration of a model, bit for bit; `from_release` undoes it.

    Raises:
        InputError: if the model works in a way the release's code doesn't know.
    """
    config, names = release_config(model.config), Names(model.config.audio_face_layout)
    return {str(names.releases(key)): value for key, value in model.state_dict().items()}, config


def release_config(ours: Mapping[str, Any]) -> dict[str, Any]:
    """The release's configuration for ours.

    Raises:
        InputError: if the model works in a way the release's code doesn't know.
    """
    if ours.get("condition_skip") is not None:
        raise InputError("A model with condition_skip can't be written in the release's layout.")
    config = {
        "model_type": "a2v_af",
        "patch_size": list(ours["patch_size"]),
        "text_len": ours["text_len"],
        "in_dim": ours["in_channels"],
        "freq_dim": ours["freq_dim"],
        "text_dim": ours["text_dim"],
        "out_dim": ours["out_channels"],
        "cross_attn_norm": ours["cross_attn_norm"],
        "dim": ours["num_attention_heads"] * ours["attention_head_dim"],
        "num_heads": ours["num_attention_heads"],
        "ffn_dim": ours["ffn_dim"],
        "num_layers": ours["num_layers"],
    }
    if ours["audio_channels"] != 768:
        config["audio_channels"] = ours["audio_channels"]
    if ours.get("audio_face_layout") == "B":
        config["legacy_audio_cross_attn"] = True
    return config
