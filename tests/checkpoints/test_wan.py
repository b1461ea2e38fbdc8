"""The model that stage 1 starts from: Wan's own videos, whatever it hears, and layers that can learn to hear."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file

from anytalker import InputError
from anytalker.checkpoints.wan import is_audio_face, write_start
from anytalker.models.conversion import to_release
from anytalker.models.transformer import AnyTalkerTransformer3DModel
from tests.models.test_transformer import small_inputs, small_model


def small_wan(**changes) -> WanTransformer3DModel:
    torch.manual_seed(5)
    config = {
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "in_channels": 36,
        "text_dim": 8,
        "ffn_dim": 64,
        "num_layers": 2,
        "image_dim": 12,
        "added_kv_proj_dim": 48,
    }
    return WanTransformer3DModel(**config | changes).eval()


def config_of(**changes) -> dict:
    return {key: value for key, value in small_model(**changes).config.items() if not key.startswith("_")}


def started(source: Path, folder: Path, **changes) -> AnyTalkerTransformer3DModel:
    write_start(source, config_of(**changes), folder / "start")
    return AnyTalkerTransformer3DModel.from_pretrained(folder / "start")


@torch.no_grad()
def test_the_first_videos_are_wans_own_whatever_is_heard(tmp_path) -> None:
    wan = small_wan()
    wan.save_pretrained(tmp_path / "wan")
    inputs = small_inputs()
    text = torch.nn.functional.pad(inputs["encoder_hidden_states"], (0, 0, 0, 512 - 4))  # Diffusers counts on 512
    expected = wan(
        inputs["hidden_states"],
        inputs["timestep"],
        text,
        inputs["encoder_hidden_states_image"],
    ).sample
    model = started(tmp_path / "wan", tmp_path, text_len=512)
    for voices in (inputs["audio_embeds"], -inputs["audio_embeds"]):
        torch.testing.assert_close(model(**inputs | {"audio_embeds": voices}).sample, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_layout_b_starts_deaf_too(tmp_path) -> None:
    small_wan().save_pretrained(tmp_path / "wan")
    model, inputs = started(tmp_path / "wan", tmp_path, audio_face_layout="B", audio_dim=20), small_inputs()
    first = model(**inputs).sample
    assert torch.equal(model(**inputs | {"audio_embeds": inputs["audio_embeds"] + 1}).sample, first)


@pytest.mark.parametrize("layout", ["A", "B"])
def test_it_can_learn_to_hear(tmp_path, layout: str) -> None:
    small_wan().save_pretrained(tmp_path / "wan")
    model, inputs = started(tmp_path / "wan", tmp_path, audio_face_layout=layout), small_inputs()
    optimizer = torch.optim.SGD([p for name, p in model.named_parameters() if is_audio_face(name)], lr=0.1)
    for _ in range(2):  # the first step opens the way, the second goes through it
        optimizer.zero_grad()
        model(**inputs).sample.square().mean().backward()
        optimizer.step()
    assert model.audio_embedder.proj1.weight.grad.abs().max() > 0
    assert model.face_embedder.norm1.weight.grad.abs().max() > 0


@pytest.mark.parametrize("kind", ["original", "ours"])
def test_other_formats_start_alike_and_lose_their_own_audio_layers(tmp_path, kind: str) -> None:
    trained = small_model()
    if kind == "ours":
        trained.save_pretrained(tmp_path / "source")
    else:
        weights, _ = to_release(trained)
        wans = {key: value.clone() for key, value in weights.items() if "audio" not in key and "face" not in key}
        (tmp_path / "source").mkdir()
        save_file(wans, tmp_path / "source" / "model.safetensors")
    model = started(tmp_path / "source", tmp_path)
    for name, value in model.state_dict().items():
        if not is_audio_face(name):
            assert torch.equal(value, trained.state_dict()[name]), name
    assert torch.equal(model.face_embedder.norm1.weight, trained.condition_embedder.image_embedder.norm1.weight)
    assert not torch.equal(model.audio_embedder.proj1.weight, trained.audio_embedder.proj1.weight)
    assert model.blocks[0].attn2.audio_v_proj.weight.abs().max() == 0


def test_the_seed_decides(tmp_path) -> None:
    small_wan().save_pretrained(tmp_path / "wan")
    config, made = config_of(), {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_start(tmp_path / "wan", config, tmp_path / name, seed)
        made[name] = AnyTalkerTransformer3DModel.from_pretrained(tmp_path / name).audio_embedder.proj1.weight
    assert torch.equal(made["a"], made["b"])
    assert not torch.equal(made["a"], made["c"])


def test_a_transformer_of_another_kind_or_size_is_named_and_nothing_is_written(tmp_path) -> None:
    for name, changes, culprit in (
        ("small", {"ffn_dim": 32}, r"ffn.net.0.proj.weight is \(32, 48\) instead of \(64, 48\)"),
        ("text-only", {"image_dim": None, "added_kv_proj_dim": None}, "missing .*condition_embedder.image_embedder"),
        ("deep", {"num_layers": 3}, r"unexpected \(blocks.2"),
    ):
        small_wan(**changes).save_pretrained(tmp_path / name)
        with pytest.raises(InputError, match=f"is no Wan image-to-video transformer of this size: .*{culprit}"):
            write_start(tmp_path / name, config_of(), tmp_path / "start")
        assert not (tmp_path / "start").exists()
