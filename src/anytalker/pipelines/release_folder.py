"""Models in the release's own layout: AnyTalker's checkpoint beside Wan's T5, CLIP and VAE torch files."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from anytalker.errors import InputError
from anytalker.models.checkpoints import TORCH_SUFFIXES, Checkpoint
from anytalker.models.conversion import from_release
from anytalker.models.convert import read_release_config
from anytalker.models.precision import cast_transformer
from anytalker.pipelines.schedule import make_scheduler
from anytalker.pipelines.settings import WAN, PipelineSettings

CONFIG_PATTERN = "config_af2v_*.json"
CLIP_HEAD_DIM = 80


@dataclass(frozen=True)
class ReleaseFolder:
    """Where the parts of a model in the release's layout are; see `find_release`."""

    checkpoint: Path
    config: Path
    text_encoder: Path
    tokenizer: Path
    image_encoder: Path
    vae: Path
    audio_features: Path


def looks_like_release(folder: Path) -> bool:
    """Whether a folder is laid out as the release's, whole or not."""
    return any(folder.glob(CONFIG_PATTERN)) or any(folder.glob(f"*/{CONFIG_PATTERN}"))


def find_release(folder: Path) -> ReleaseFolder:
    """Find the parts of a model in a folder of the release's layout, up to two folders deep.

    Raises:
        InputError: naming what is missing, or what there is more than one of.
    """

    def one(what: str, *patterns: str) -> Path:
        found = [
            path
            for pattern in patterns
            for depth in ("", "*/", "*/*/")
            for path in sorted(folder.glob(depth + pattern))
        ]
        if not found:
            raise InputError(f"{folder} is not a complete model: it lacks {what} ({' or '.join(patterns)}).")
        if len(found) > 1:
            names = ", ".join(str(path.relative_to(folder)) for path in found)
            raise InputError(f"{folder} holds several candidates for {what} ({names}); keep one.")
        return found[0]

    config = one("AnyTalker's configuration", CONFIG_PATTERN)
    weights = [path for path in sorted(config.parent.iterdir()) if path.suffix in (".safetensors", *TORCH_SUFFIXES)]
    if len(weights) != 1:
        names = ", ".join(path.name for path in weights) or "none"
        raise InputError(f"Beside {config} there must be one checkpoint of AnyTalker's; there is {names}.")
    return ReleaseFolder(
        checkpoint=weights[0],
        config=config,
        text_encoder=one("the text encoder", "models_t5_*.pth"),
        tokenizer=one("the tokenizer", "umt5-xxl/tokenizer_config.json").parent,
        image_encoder=one("the image encoder", "models_clip_*.pth"),
        vae=one("the video autoencoder", "Wan2.1_VAE.pth"),
        audio_features=one("the audio encoder", "wav2vec2*/config.json").parent,
    )


def release_loaders(folder: Path, torch_dtype: torch.dtype = torch.float32) -> dict[str, Callable[[], Any]]:
    """For each part of a model in the release's layout what loads it.

    Raises:
        InputError: if something is missing; a part's loader, if it is damaged.
    """
    from transformers import AutoTokenizer

    from anytalker.conditioning.audio_features import audio_features_from_pretrained

    parts = find_release(folder)

    def transformer() -> Any:
        with Checkpoint(parts.checkpoint) as tensors:
            model = from_release(dict(tensors), read_release_config(parts.checkpoint, parts.config))
            return cast_transformer(model, torch_dtype)

    return {
        "transformer": transformer,
        "vae": lambda: _load(parts.vae, vae_from_wan).to(torch.float32),
        "text_encoder": lambda: _load(parts.text_encoder, t5_from_wan).to(torch_dtype),
        "tokenizer": lambda: AutoTokenizer.from_pretrained(parts.tokenizer, local_files_only=True),
        "image_encoder": lambda: _load(parts.image_encoder, clip_from_wan).to(torch.float32),
        "scheduler": lambda: make_scheduler(PipelineSettings().shift),
        "audio_features": lambda: audio_features_from_pretrained(parts.audio_features),
    }


def release_settings(folder: Path) -> PipelineSettings:
    """The settings of a model in the release's layout."""
    parts = find_release(folder)
    config = read_release_config(parts.checkpoint, parts.config)
    return PipelineSettings(name=parts.checkpoint.stem, text_len=config["text_len"], **WAN)


def _load(path: Path, build: Callable[[dict[str, torch.Tensor]], Any]) -> Any:
    with Checkpoint(path) as tensors:
        try:
            return build(dict(tensors)).eval()
        except (KeyError, RuntimeError, IndexError, ZeroDivisionError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(f"{path} is not the file that its name says ({reason}); download it again.") from error


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
    positions = visual["visual.pos_embedding"].shape[1]
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=visual["visual.transformer.0.mlp.0.weight"].shape[0],
        num_hidden_layers=_count(visual, r"^visual\.transformer\.(\d+)\."),
        num_attention_heads=width // CLIP_HEAD_DIM,
        image_size=patch * round((positions - 1) ** 0.5),
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
    model = CLIPVisionModel(config)
    prefix = "vision_model." if any(key.startswith("vision_model.") for key in model.state_dict()) else ""
    return _filled(lambda: model, {prefix + key: value for key, value in renamed.items()})


def vae_from_wan(tensors: dict[str, torch.Tensor]) -> Any:
    """AutoencoderKLWan from Wan's VAE tensors."""
    from diffusers import AutoencoderKLWan
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    base, latent = tensors["encoder.conv1.weight"].shape[0], tensors["conv2.weight"].shape[0]
    return _filled(lambda: AutoencoderKLWan(base_dim=base, z_dim=latent), convert_wan_vae_to_diffusers(tensors))


def _filled(make: Callable[[], torch.nn.Module], tensors: dict[str, torch.Tensor]) -> torch.nn.Module:
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
