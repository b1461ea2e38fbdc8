"""The published tree at a small size, with every file that users have after they followed the release's README."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from safetensors.torch import save_file

from anytalker.loading.locate import find_model
from anytalker.loading.part_loaders import settings_of
from anytalker.models.conversion import to_release
from tests.loading.full_size import small_parts

BASE, AUDIO, OWN = "Wan2.1-Fun-1.3B-Inp", "wav2vec2-base-960h", "AnyTalker"
SMALL, LARGE = "1_3B-single-v1.pth", "14B-multi-v1.pth"
CONFIGS = {SMALL: "config_af2v_1_3B.json", LARGE: "config_af2v_14B.json"}
T5_FILE, VAE_FILE = "models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth"
CLIP_FILE = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"


T5 = (
    ("shared.weight", "token_embedding.weight"),
    ("encoder.final_layer_norm.weight", "norm.weight"),
    ("encoder.block.{}.layer.0.layer_norm.weight", "blocks.{}.norm1.weight"),
    ("encoder.block.{}.layer.1.layer_norm.weight", "blocks.{}.norm2.weight"),
    ("encoder.block.{}.layer.0.SelfAttention.q.weight", "blocks.{}.attn.q.weight"),
    ("encoder.block.{}.layer.0.SelfAttention.k.weight", "blocks.{}.attn.k.weight"),
    ("encoder.block.{}.layer.0.SelfAttention.v.weight", "blocks.{}.attn.v.weight"),
    ("encoder.block.{}.layer.0.SelfAttention.o.weight", "blocks.{}.attn.o.weight"),
    (
        "encoder.block.{}.layer.0.SelfAttention.relative_attention_bias.weight",
        "blocks.{}.pos_embedding.embedding.weight",
    ),
    ("encoder.block.{}.layer.1.DenseReluDense.wi_0.weight", "blocks.{}.ffn.gate.0.weight"),
    ("encoder.block.{}.layer.1.DenseReluDense.wi_1.weight", "blocks.{}.ffn.fc1.weight"),
    ("encoder.block.{}.layer.1.DenseReluDense.wo.weight", "blocks.{}.ffn.fc2.weight"),
)


def wan_t5(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    state = model.state_dict()
    pairs = [(ours.format(i), wans.format(i)) for ours, wans in T5 for i in range(model.config.num_layers)]
    return {wans: state[ours] for ours, wans in pairs}


def wan_clip(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    state = {key.removeprefix("vision_model."): value for key, value in model.state_dict().items()}
    named = {
        "visual.cls_embedding": state["embeddings.class_embedding"][None, None],
        "visual.pos_embedding": state["embeddings.position_embedding.weight"][None],
        "visual.patch_embedding.weight": state["embeddings.patch_embedding.weight"],
        "visual.head": torch.zeros(model.config.hidden_size, 4),
        "textual.token_embedding.weight": torch.zeros(8, 4),
    }
    for part in ("weight", "bias"):
        named[f"visual.pre_norm.{part}"] = state[f"pre_layrnorm.{part}"]
        named[f"visual.post_norm.{part}"] = state[f"post_layernorm.{part}"]
        for i in range(model.config.num_hidden_layers):
            ours, wans = f"encoder.layers.{i}.", f"visual.transformer.{i}."
            joint = [state[f"{ours}self_attn.{name}_proj.{part}"] for name in "qkv"]
            named[f"{wans}attn.to_qkv.{part}"] = torch.cat(joint)
            named[f"{wans}attn.proj.{part}"] = state[f"{ours}self_attn.out_proj.{part}"]
            named[f"{wans}norm1.{part}"] = state[f"{ours}layer_norm1.{part}"]
            named[f"{wans}norm2.{part}"] = state[f"{ours}layer_norm2.{part}"]
            named[f"{wans}mlp.0.{part}"] = state[f"{ours}mlp.fc1.{part}"]
            named[f"{wans}mlp.2.{part}"] = state[f"{ours}mlp.fc2.{part}"]
    return named


def wan_vae(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state under Wan's names, found by asking diffusers' own converter what each possible name becomes."""
    ends = [f"residual.{i}.{part}" for i in (0, 2, 3, 6) for part in ("gamma", "weight", "bias")]
    ends += [f"{layer}.{part}" for layer in ("shortcut", "resample.1", "time_conv") for part in ("weight", "bias")]
    ends += [f"{layer}.{part}" for layer in ("norm", "to_qkv", "proj") for part in ("gamma", "weight", "bias")]
    candidates = [
        f"{side}.{i}.{end}" for side in ("encoder.downsamples", "encoder.middle") for i in range(11) for end in ends
    ]
    candidates += [
        f"{side}.{i}.{end}" for side in ("decoder.upsamples", "decoder.middle") for i in range(15) for end in ends
    ]
    candidates += [f"{side}.head.{end}" for side in ("encoder", "decoder") for end in ("0.gamma", "2.weight", "2.bias")]
    candidates += [f"{name}.{part}" for name in ("conv1", "conv2") for part in ("weight", "bias")]
    candidates += [f"{side}.conv1.{part}" for side in ("encoder", "decoder") for part in ("weight", "bias")]
    becomes: dict[str, str] = {}
    for candidate in candidates:
        becomes.setdefault(next(iter(convert_wan_vae_to_diffusers({candidate: None}))), candidate)
    return {becomes[key]: value for key, value in model.state_dict().items()}


def write_base(folder: Path, parts: dict[str, Any]) -> Path:
    """A Wan model as published: its transformer, the encoders, the autoencoder, and two tokenizers."""
    folder.mkdir(parents=True)
    weights, config = to_release(parts["transformer"])
    plain = ("audio", "face", "norm_x")
    own = {key: value.clone() for key, value in weights.items() if not any(word in key for word in plain)}
    save_file(own, folder / "diffusion_pytorch_model.safetensors")
    (folder / "config.json").write_text(json.dumps(config | {"_class_name": "WanModel", "model_type": "i2v"}))
    torch.save(wan_t5(parts["text_encoder"]), folder / T5_FILE)
    torch.save(wan_clip(parts["image_encoder"]), folder / CLIP_FILE)
    torch.save(wan_vae(parts["vae"]), folder / VAE_FILE)
    parts["tokenizer"].save_pretrained(folder / "google" / "umt5-xxl")
    (folder / "xlm-roberta-large").mkdir()
    (folder / "xlm-roberta-large" / "tokenizer_config.json").write_text('{"model_max_length": 512}')
    (folder / "xlm-roberta-large" / "tokenizer.json").write_text("{}")
    return folder


def write_own(folder: Path, large: dict[str, Any], small: dict[str, Any]) -> Path:
    """AnyTalker's folder as published: 1.3B in layout A and 14B in layout B, and their configurations."""
    folder.mkdir(parents=True)
    for name, parts in ((SMALL, small), (LARGE, large)):
        weights, config = to_release(parts["transformer"])
        torch.save({"model": weights}, folder / name)
        (folder / CONFIGS[name]).write_text(json.dumps(config))
    return folder


def write_tree(root: Path) -> Path:
    """The whole tree: checkpoints/{Wan, wav2vec2, AnyTalker}."""
    small, large = small_parts("A"), small_parts("B")
    write_base(root / BASE, small)
    small["audio_features"].save_pretrained(root / AUDIO)
    write_own(root / OWN, large, small)
    return root


def make_quick(checkpoint: Path) -> None:
    """Settings beside a checkpoint for videos of a size that tests can make."""
    found = find_model(checkpoint)
    settings = replace(settings_of(found), max_area=32 * 48, size_multiple=16, num_inference_steps=1)
    found.settings.write_text(json.dumps(asdict(settings)))
