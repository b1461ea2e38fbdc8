"""The classes of a full-size model at a tiny size, for tests of loading: AutoencoderKLWan, UMT5, CLIP, wav2vec2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from transformers import (
    ByT5Tokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    UMT5Config,
    UMT5EncoderModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
)

from anytalker import AnyTalkerPipeline, AnyTalkerTransformer3DModel
from anytalker.conditioning.audio_features import Wav2Vec2Features
from anytalker.loading.scheduler import make_scheduler
from anytalker.models.settings import PipelineSettings

IMAGE_WIDTH = 160
"""Two heads of 80, as wide as those of the CLIP tower that the release uses."""


def small_parts(layout: str = "A", depth: int = 2) -> dict[str, Any]:
    """Every part that is downloaded, of the class it has at full size, with the same random weights every time."""
    torch.manual_seed(3)
    audio = Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        vocab_size=8,
    )
    return {
        "transformer": AnyTalkerTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=24,
            text_dim=16,
            text_len=8,
            ffn_dim=64,
            num_layers=depth,
            image_dim=IMAGE_WIDTH,
            audio_blocks=2,
            audio_channels=16,
            audio_hidden_dim=16,
            audio_tokens=3,
            audio_face_layout=layout,
        ).eval(),
        "vae": AutoencoderKLWan(base_dim=8).eval(),
        "text_encoder": UMT5EncoderModel(
            UMT5Config(vocab_size=384, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
        ).eval(),
        "tokenizer": ByT5Tokenizer(),
        "image_encoder": CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=IMAGE_WIDTH,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=28,
                patch_size=14,
                hidden_act="gelu",
            )
        ).eval(),
        "audio_features": Wav2Vec2Model(audio).eval(),
    }


def save_small_model(folder: Path, layout: str = "A", depth: int = 2, **settings: Any) -> Path:
    """Write a whole model of small parts to a folder."""
    parts = small_parts(layout, depth)
    parts["audio_features"] = Wav2Vec2Features(parts["audio_features"])
    sizes = {"max_area": 32 * 48, "size_multiple": 16, "image_size": 28, "text_len": 8, "num_inference_steps": 2}
    chosen = PipelineSettings(**{"name": "small"} | sizes | settings)
    AnyTalkerPipeline(**parts, scheduler=make_scheduler(chosen.shift), settings=chosen).save_pretrained(folder)
    return folder
