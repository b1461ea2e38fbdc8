"""The models that have a name: where their parts come from, and their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anytalker.files import home
from anytalker.models.settings import WAN, PipelineSettings

SHARED = "shared"
"""Folder beside the models for the parts that several of them use."""


@dataclass(frozen=True)
class Part:
    """A part of a model on the hub: files of `repository` under `folder` ("" for its root), of these `names` alone."""

    repository: str
    folder: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preset:
    """A model with a name.

    Attributes:
        settings: sizes and defaults.
        repository: hub repository of the release's checkpoint.
        checkpoint: the checkpoint's file in it.
        parts: all other parts, in Diffusers' and transformers' formats.
    """

    settings: PipelineSettings
    repository: str
    checkpoint: str
    parts: dict[str, Part]


_WAN = "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers"
_ENCODERS = {
    "vae": Part(_WAN, "vae"),
    "text_encoder": Part(_WAN, "text_encoder"),
    "tokenizer": Part(_WAN, "tokenizer"),
    "image_encoder": Part(_WAN, "image_encoder"),
    "audio_features": Part("facebook/wav2vec2-base-960h", names=("config.json", "model.safetensors")),
}
PRESETS = {
    "1.3b": Preset(PipelineSettings(name="1.3b", **WAN), "zzz66/AnyTalker-1.3B", "1_3B-single-v1.pth", _ENCODERS),
    "14b": Preset(
        PipelineSettings(name="14b", num_inference_steps=20, **WAN),
        "zzz66/AnyTalker-1.3B",
        "14B-multi-v1.pth",
        _ENCODERS,
    ),
}

TRANSFORMERS: dict[str, dict[str, Any]] = {
    "1.3b": {},
    "14b": {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40, "audio_face_layout": "B"},
}
"""For each preset what of its transformer's configuration differs from the class's defaults."""
_WIDTHS = {"1.3b": 1536, "14b": 5120}


def preset_for(width: int, layout: str) -> str:
    """The preset whose defaults suit a transformer: the one as wide, else the one of the same layout.

    Args:
        width: of its tokens, such as 1536.
        layout: "A" or "B".
    """
    layouts = {name: values.get("audio_face_layout", "A") for name, values in TRANSFORMERS.items()}
    return min(PRESETS, key=lambda name: (_WIDTHS[name] != width, layouts[name] != layout))


def models_home() -> Path:
    """Where downloaded models are: ANYTALKER_HOME/models, by default ~/.cache/anytalker/models."""
    return home() / "models"
