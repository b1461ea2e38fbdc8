"""A folder in the release's own layout, with Wan's torch files, loads as it stands."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

from anytalker import AnyTalkerPipeline, InputError
from anytalker.models.conversion import to_release
from tests.pipelines.full_size import small_parts

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


@pytest.fixture(scope="module", params=["A", "B"])
def release(request, tmp_path_factory) -> tuple[Path, dict]:
    """A small model laid out as the release lays out its own, and the parts it was made of."""
    folder, parts = tmp_path_factory.mktemp("release"), small_parts(request.param)
    wan, own = folder / "Wan2.1-Fun-1.3B-Inp", folder / "AnyTalker"
    wan.mkdir()
    own.mkdir()
    torch.save(wan_t5(parts["text_encoder"]), wan / "models_t5_umt5-xxl-enc-bf16.pth")
    torch.save(wan_clip(parts["image_encoder"]), wan / "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth")
    torch.save(wan_vae(parts["vae"]), wan / "Wan2.1_VAE.pth")
    parts["tokenizer"].save_pretrained(wan / "google" / "umt5-xxl")
    parts["audio_features"].save_pretrained(folder / "wav2vec2-base-960h")
    weights, config = to_release(parts["transformer"])
    torch.save({"model": weights}, own / "1_3B-single-v1.pth")
    (own / "config_af2v_1_3B.json").write_text(json.dumps(config))
    return folder, parts


def test_every_part_is_what_it_was(release) -> None:
    folder, parts = release
    pipeline = AnyTalkerPipeline.from_pretrained(folder)
    for name in ("transformer", "vae", "text_encoder", "image_encoder"):
        expected = parts[name].state_dict()
        loaded = getattr(pipeline, name).state_dict()
        assert set(loaded) == set(expected), name
        assert all(torch.equal(loaded[key], value) for key, value in expected.items()), name
    pixels = torch.rand(1, 3, 28, 28)
    with torch.no_grad():
        assert torch.equal(
            pipeline.image_encoder(pixels, output_hidden_states=True).hidden_states[-2],
            parts["image_encoder"](pixels, output_hidden_states=True).hidden_states[-2],
        )
        tokens = torch.tensor([[5, 6, 7, 1]])
        assert torch.equal(
            pipeline.text_encoder(tokens).last_hidden_state, parts["text_encoder"](tokens).last_hidden_state
        )
        video = torch.rand(1, 3, 5, 16, 16)
        assert torch.equal(pipeline.vae.encode(video).latent_dist.mode(), parts["vae"].encode(video).latent_dist.mode())


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: next(folder.rglob(name)).unlink()


def swap(name: str) -> Callable[[Path], None]:
    return lambda folder: torch.save({"something": torch.zeros(3)}, next(folder.rglob(name)))


def cut(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = next(folder.rglob(name))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return apply


def again(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(next(folder.rglob(name)).read_bytes())


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (remove("Wan2.1_VAE.pth"), "lacks the video autoencoder"),
        (remove("models_t5*.pth"), "lacks the text encoder"),
        (remove("1_3B-single-v1.pth"), "one checkpoint of AnyTalker's; there is none"),
        (swap("models_clip*.pth"), "models_clip.* is not the file that its name says"),
        (swap("1_3B-single-v1.pth"), "checkpoint or its configuration lacks"),
        (cut("Wan2.1_VAE.pth"), "Wan2.1_VAE.pth is damaged or cut off"),
        (again("Wan2.1_VAE.pth"), "several candidates for the video autoencoder"),
    ],
)
def test_damaged_folders_are_named(release, tmp_path, damage, reason: str) -> None:
    folder = shutil.copytree(release[0], tmp_path / "copy")
    damage(folder)
    with pytest.raises(InputError) as refused:
        AnyTalkerPipeline.from_pretrained(folder)
    assert re.search(reason, str(refused.value))
    assert "\n" not in str(refused.value).strip()
