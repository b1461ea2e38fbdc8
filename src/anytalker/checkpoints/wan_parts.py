"""Wan's own torch files of text encoder, image encoder and autoencoder, as models of transformers and Diffusers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights

from anytalker.checkpoints.tensors import Checkpoint
from anytalker.checkpoints.weight_files import Shape
from anytalker.errors import InputError

CLIP_HEAD_DIM = 80


def load_wan_file(path: Path, build: Callable[[dict[str, torch.Tensor]], Any]) -> Any:
    """A model from one of Wan's files.

    Args:
        path: the file.
        build: `t5_from_wan`, `clip_from_wan` or `vae_from_wan`.

    Raises:
        InputError: if it is damaged, or something else.
    """
    with Checkpoint(path) as tensors:
        try:
            return build(dict(tensors)).eval()
        except (KeyError, RuntimeError, IndexError, ZeroDivisionError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(f"{path} is not the file that its name says ({reason}); download it again.") from error


def clip_image_size(shapes: Mapping[str, Shape]) -> int:
    """Side in pixels of the pictures that a CLIP tower reads, by the shapes of Wan's tensors."""
    patch = shapes["visual.patch_embedding.weight"][2]
    return int(patch * round((shapes["visual.pos_embedding"][1] - 1) ** 0.5))


def autoencoder_sizes(shapes: Mapping[str, Shape]) -> dict[str, int]:
    """The arguments of AutoencoderKLWan that differ between autoencoders, by the shapes of Wan's tensors."""
    return {"base_dim": shapes["encoder.conv1.weight"][0], "z_dim": shapes["conv2.weight"][0]}


_T5_NAMES = (
    (r"^token_embedding\.weight$", "shared.weight"),
    (r"^norm\.weight$", "encoder.final_layer_norm.weight"),
    (r"^blocks\.(\d+)\.norm1\.weight$", r"encoder.block.\1.layer.0.layer_norm.weight"),
    (r"^blocks\.(\d+)\.attn\.([qkvo])\.weight$", r"encoder.block.\1.layer.0.SelfAttention.\2.weight"),
    (
        r"^blocks\.(\d+)\.pos_embedding\.embedding\.weight$",
        r"encoder.block.\1.layer.0.SelfAttention.relative_attention_bias.weight",
    ),
    (r"^blocks\.(\d+)\.norm2\.weight$", r"encoder.block.\1.layer.1.layer_norm.weight"),
    (r"^blocks\.(\d+)\.ffn\.gate\.0\.weight$", r"encoder.block.\1.layer.1.DenseReluDense.wi_0.weight"),
    (r"^blocks\.(\d+)\.ffn\.fc1\.weight$", r"encoder.block.\1.layer.1.DenseReluDense.wi_1.weight"),
    (r"^blocks\.(\d+)\.ffn\.fc2\.weight$", r"encoder.block.\1.layer.1.DenseReluDense.wo.weight"),
)


def t5_from_wan(tensors: dict[str, torch.Tensor]) -> Any:
    """UMT5 encoder from Wan's T5 tensors; sizes are read off them."""
    from transformers import UMT5Config, UMT5EncoderModel

    vocabulary, width = tensors["token_embedding.weight"].shape
    buckets, heads = tensors["blocks.0.pos_embedding.embedding.weight"].shape
    config = UMT5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=tensors["blocks.0.attn.q.weight"].shape[0] // heads,
        d_ff=tensors["blocks.0.ffn.fc1.weight"].shape[0],
        num_layers=_count(tensors, r"^blocks\.(\d+)\."),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
        feed_forward_proj="gated-gelu",
    )
    renamed = {_renamed(key, _T5_NAMES): value for key, value in tensors.items()}
    renamed["encoder.embed_tokens.weight"] = renamed["shared.weight"]
    return _filled(lambda: UMT5EncoderModel(config), renamed)


_CLIP_NAMES = (
    (r"^visual\.patch_embedding\.weight$", "embeddings.patch_embedding.weight"),
    (r"^visual\.pre_norm\.(\w+)$", r"pre_layrnorm.\1"),
    (r"^visual\.post_norm\.(\w+)$", r"post_layernorm.\1"),
    (r"^visual\.transformer\.(\d+)\.norm([12])\.(\w+)$", r"encoder.layers.\1.layer_norm\2.\3"),
    (r"^visual\.transformer\.(\d+)\.attn\.proj\.(\w+)$", r"encoder.layers.\1.self_attn.out_proj.\2"),
    (r"^visual\.transformer\.(\d+)\.mlp\.0\.(\w+)$", r"encoder.layers.\1.mlp.fc1.\2"),
    (r"^visual\.transformer\.(\d+)\.mlp\.2\.(\w+)$", r"encoder.layers.\1.mlp.fc2.\2"),
)


def clip_from_wan(tensors: dict[str, torch.Tensor]) -> Any:
    """CLIP vision tower from Wan's CLIP tensors, whose text tower is left out; sizes are read off them."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    visual = {key: value for key, value in tensors.items() if key.startswith("visual.")}
    width, _, patch, _ = visual["visual.patch_embedding.weight"].shape
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=visual["visual.transformer.0.mlp.0.weight"].shape[0],
        num_hidden_layers=_count(visual, r"^visual\.transformer\.(\d+)\."),
        num_attention_heads=width // CLIP_HEAD_DIM,
        image_size=clip_image_size({key: tuple(value.shape) for key, value in visual.items()}),
        patch_size=patch,
        hidden_act="gelu",
    )
    renamed = {
        "embeddings.class_embedding": visual["visual.cls_embedding"].flatten(),
        "embeddings.position_embedding.weight": visual["visual.pos_embedding"][0],
    }
    for key, value in visual.items():
        joint = re.match(r"^visual\.transformer\.(\d+)\.attn\.to_qkv\.(\w+)$", key)
        if joint:
            for name, part in zip("qkv", value.chunk(3), strict=True):
                renamed[f"encoder.layers.{joint[1]}.self_attn.{name}_proj.{joint[2]}"] = part
        elif any(re.match(pattern, key) for pattern, _ in _CLIP_NAMES):
            renamed[_renamed(key, _CLIP_NAMES)] = value
    with init_empty_weights():
        names = CLIPVisionModel(config).state_dict()
    prefix = "vision_model." if any(key.startswith("vision_model.") for key in names) else ""
    return _filled(lambda: CLIPVisionModel(config), {prefix + key: value for key, value in renamed.items()})


def vae_from_wan(tensors: dict[str, torch.Tensor]) -> Any:
    """AutoencoderKLWan from Wan's VAE tensors."""
    from diffusers import AutoencoderKLWan
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    sizes = autoencoder_sizes({key: tuple(value.shape) for key, value in tensors.items()})
    return _filled(lambda: AutoencoderKLWan(**sizes), convert_wan_vae_to_diffusers(tensors))


def _filled(make: Callable[[], torch.nn.Module], tensors: dict[str, torch.Tensor]) -> torch.nn.Module:
    with init_empty_weights():  # the tensors take the place of what would be drawn at random first
        model = make()
    buffers = {name for name, _ in model.named_buffers()}
    missing, unexpected = model.load_state_dict(tensors, strict=False, assign=True)
    absent = [name for name in missing if name not in buffers]
    if absent or unexpected:
        raise KeyError(f"missing {absent[:2]}, unexpected {list(unexpected)[:2]}")
    return model


def _renamed(key: str, names: tuple[tuple[str, str], ...]) -> str:
    for pattern, name in names:
        renamed, count = re.subn(pattern, name, key)
        if count:
            return renamed
    raise KeyError(key)


def _count(tensors: dict[str, torch.Tensor], pattern: str) -> int:
    return 1 + max(int(match[1]) for match in (re.match(pattern, key) for key in tensors) if match)
