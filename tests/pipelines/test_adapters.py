"""Adapters by diffusers' means: files with every public kind of names, on models as deep as the published ones."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors.torch import save_file

from anytalker import AnyTalkerPipeline, AnyTalkerTransformer3DModel, InputError
from anytalker.models.lora import read_adapter, scaled_adapters
from anytalker.models.release_names import Names
from tests.loading.full_size import small_parts

DEPTH = {"A": 30, "B": 40}
RANK, ALPHA = 4, 2.0
LAYERS = [f"{part}.{kind}" for part in ("self_attn", "cross_attn") for kind in "qkvo"] + ["ffn.0", "ffn.2"]
FORMATS = ("diffusers", "wan", "kohya", "comfy")


class Holder(AnyTalkerPipeline):
    """The adapters' methods on a transformer alone."""

    def __init__(self, transformer: AnyTalkerTransformer3DModel) -> None:
        self.transformer = transformer

    def __setattr__(self, name, value) -> None:
        object.__setattr__(self, name, value)

    components = property(lambda self: {"transformer": self.transformer})


@pytest.fixture(scope="module", params=["A", "B"])
def deep(request) -> AnyTalkerTransformer3DModel:
    return small_parts(request.param, DEPTH[request.param])["transformer"]


@pytest.fixture(scope="module")
def model() -> AnyTalkerTransformer3DModel:
    return small_parts("A", 2)["transformer"]


def lora(transformer, seed: int = 0) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Random matrices down and up by Wan's names, for all layers that public adapters change, of some blocks."""
    names, generator = Names(transformer.config.audio_face_layout), torch.Generator().manual_seed(seed)
    shapes = {name: parameter.shape for name, parameter in transformer.named_parameters()}
    found = {}
    depth = transformer.config.num_layers
    for block in sorted({0, 1, depth // 2, depth - 1}):
        for layer in LAYERS:
            height, width = shapes[names.ours(f"blocks.{block}.{layer}.weight")]
            sizes = ((RANK, width), (height, RANK))
            found[f"blocks.{block}.{layer}"] = tuple(0.1 * torch.randn(size, generator=generator) for size in sizes)
    return found


def named(pairs, form: str, layout: str) -> dict[str, torch.Tensor]:
    """The tensors of a file; diffusers' has no alpha, so it is in the matrices."""
    tensors: dict[str, torch.Tensor] = {}
    for layer, (down, up) in pairs.items():
        start = {"wan": layer, "comfy": f"diffusion_model.{layer}", "kohya": "lora_unet_" + layer.replace(".", "_")}
        if form == "diffusers":
            ours = Names(layout).ours(f"{layer}.weight").removesuffix(".weight").replace(".to_out", ".to_out.0")
            sides, ours = {"lora_A": down, "lora_B": up * ALPHA / RANK}, f"transformer.{ours}"
        else:
            sides, ours = {"lora_down": down, "lora_up": up}, start[form]
            tensors[f"{ours}.alpha"] = torch.tensor(ALPHA)
        tensors |= {f"{ours}.{side}.weight": tensor for side, tensor in sides.items()}
    return tensors


def by_hand(transformer, weighted) -> dict[str, torch.Tensor]:
    """The state with matrices multiplied in, by our names; `weighted`: pairs and a factor each."""
    state = {name: value.clone() for name, value in transformer.state_dict().items()}
    names = Names(transformer.config.audio_face_layout)
    for pairs, factor in weighted:
        for layer, (down, up) in pairs.items():
            state[names.ours(f"{layer}.weight")] += factor * ALPHA / RANK * up @ down
    return state


def velocity(transformer) -> torch.Tensor:
    config, rng = transformer.config, torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=rng)

    with torch.no_grad():
        return transformer(
            draw(1, 36, 2, 4, 4),
            torch.tensor([500.0]),
            draw(1, 3, config.text_dim),
            draw(1, 5, config.image_dim),
            draw(1, 2, 5, config.image_dim),
            draw(1, 2, 5, config.audio_window, config.audio_blocks, config.audio_channels),
            torch.rand(1, 2, 2, 2, 2, generator=rng),
            return_dict=False,
        )[0]


def with_state(transformer, state) -> AnyTalkerTransformer3DModel:
    other = copy.deepcopy(transformer)
    other.load_state_dict(state)
    return other


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def test_every_public_format_equals_merging_by_hand(deep, tmp_path) -> None:
    layout, pairs = deep.config.audio_face_layout, lora(deep)
    plain, expected = velocity(deep), velocity(with_state(deep, by_hand(deep, [(pairs, 1.0)])))
    assert distance(plain, expected) > 1e-2
    pipe = Holder(deep)
    for form in FORMATS:
        save_file(named(pairs, form, layout), tmp_path / f"{form}.safetensors")
        pipe.load_lora_weights(tmp_path / f"{form}.safetensors", adapter_name=form)
        assert distance(velocity(pipe.transformer), expected) < 1e-5, form
        pipe.unload_lora_weights()
        assert distance(velocity(pipe.transformer), plain) < 1e-6


def test_layers_of_different_ranks_come_back_as_they_were_saved(model, tmp_path) -> None:
    pairs = lora(model)
    pairs |= {layer: (down[:1], up[:, :1]) for layer, (down, up) in pairs.items() if layer.endswith("self_attn.q")}
    pipe = Holder(copy.deepcopy(model))
    pipe.load_lora_weights(named(pairs, "comfy", "A"))
    saved, expected = pipe.save_lora_weights(tmp_path), velocity(pipe.transformer)
    pipe.unload_lora_weights()
    pipe.load_lora_weights(saved)
    assert distance(velocity(pipe.transformer), expected) < 1e-5


@pytest.mark.parametrize(
    ("settings", "factor"),
    [
        ({"lora_alpha": 2, "alpha_pattern": {"to_k": 8}}, 0.5),
        ({"transformer.lora_alpha": 2, "transformer.alpha_pattern": {"^blocks.0.attn1.to_q": 8}}, 2.0),
        ({"lora_alpha": 2, "use_rslora": True}, 1.0),
        ({}, 1.0),
    ],
)
def test_an_adapter_is_as_strong_as_its_settings_say(model, tmp_path, settings, factor) -> None:
    width = model.blocks[0].attn1.to_q.weight.shape[0]
    tensors = {
        f"blocks.0.attn1.to_q.lora_{side}.weight": torch.ones(shape)
        for side, shape in (("A", (4, width)), ("B", (width, 4)))
    }
    save_file(tensors, tmp_path / "a.safetensors", {"lora_adapter_metadata": json.dumps(settings)})
    assert read_adapter(model, tmp_path / "a.safetensors").pairs["blocks.0.attn1.to_q"][2] == factor


def test_several_adapters_with_weights_fused_and_removed(model, tmp_path) -> None:
    pipe = Holder(copy.deepcopy(model))
    one, two = lora(model, 1), lora(model, 2)
    for name, pairs in (("one", one), ("two", two)):
        pipe.load_lora_weights(named(pairs, "comfy", "A"), adapter_name=name)
    pipe.set_adapters(["one", "two"], [0.5, -1.0])
    expected = velocity(with_state(model, by_hand(model, [(one, 0.5), (two, -1.0)])))
    assert distance(velocity(pipe.transformer), expected) < 1e-5
    assert pipe.get_active_adapters() == ["one", "two"]
    assert pipe.get_list_adapters() == {"transformer": ["one", "two"]}
    assert pipe.recorded_adapters == {"adapters": {"one": 0.5, "two": -1.0}}
    halved = velocity(with_state(model, by_hand(model, [(one, 0.25), (two, -0.5)])))
    with scaled_adapters(pipe.transformer, 0.5):
        assert distance(velocity(pipe.transformer), halved) < 1e-5
    assert distance(velocity(pipe.transformer), expected) < 1e-5
    pipe.disable_lora()
    assert torch.equal(velocity(pipe.transformer), velocity(model))
    pipe.enable_lora()
    pipe.fuse_lora(lora_scale=0.5)
    assert distance(velocity(pipe.transformer), halved) < 1e-5
    assert pipe.num_fused_loras == 2
    assert pipe.recorded_adapters["fused_adapters"] == ["one", "two"]
    pipe.unfuse_lora()
    assert distance(velocity(pipe.transformer), expected) < 1e-5
    pipe.delete_adapters("one")
    pipe.set_adapters("two", 1.0)
    assert distance(velocity(pipe.transformer), velocity(with_state(model, by_hand(model, [(two, 1.0)])))) < 1e-5
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    assert distance(velocity(pipe.transformer), velocity(with_state(model, by_hand(model, [(two, 1.0)])))) < 1e-5


def test_norms_and_biases_are_switched_with_their_adapter(model) -> None:
    pipe = Holder(copy.deepcopy(model))
    pairs, bias, norm = lora(model), torch.randn(48), torch.randn(48)
    tensors = named(pairs, "comfy", "A")
    tensors["diffusion_model.blocks.1.self_attn.q.diff_b"] = bias
    tensors["diffusion_model.blocks.0.self_attn.norm_q.diff"] = norm

    def expected(scale: float) -> torch.Tensor:
        state = by_hand(model, [(pairs, scale)])
        state["blocks.1.attn1.to_q.bias"] += scale * bias
        state["blocks.0.attn1.norm_q.weight"] += scale * norm
        return velocity(with_state(model, state))

    pipe.load_lora_weights(tensors)
    assert distance(velocity(pipe.transformer), expected(1.0)) < 1e-5
    pipe.set_adapters("default_0", 0.5)
    assert distance(velocity(pipe.transformer), expected(0.5)) < 1e-5
    with scaled_adapters(pipe.transformer, 0.5):
        assert distance(velocity(pipe.transformer), expected(0.25)) < 1e-5
    pipe.fuse_lora()
    assert distance(velocity(pipe.transformer), expected(0.5)) < 1e-5
    pipe.unfuse_lora()
    pipe.disable_lora()
    assert distance(velocity(pipe.transformer), velocity(model)) < 1e-6
    pipe.enable_lora()
    assert distance(velocity(pipe.transformer), expected(0.5)) < 1e-5
    with pytest.raises(InputError, match="changes norms or biases"):
        pipe.save_lora_weights("anywhere")
    pipe.delete_adapters("default_0")
    assert distance(velocity(pipe.transformer), velocity(model)) < 1e-6


def test_saved_swapped_and_refused(model, tmp_path) -> None:
    pipe = Holder(copy.deepcopy(model))
    one, two = lora(model, 1), lora(model, 2)
    pipe.load_lora_weights(named(one, "wan", "A"), adapter_name="style")
    shown = velocity(pipe.transformer)
    pipe.save_lora_weights(tmp_path)
    again = Holder(copy.deepcopy(model))
    again.load_lora_weights(tmp_path)
    assert distance(velocity(again.transformer), shown) < 1e-5
    pipe.load_lora_weights(named(two, "wan", "A"), adapter_name="style", hotswap=True)
    expected = velocity(with_state(model, by_hand(model, [(two, 1.0)])))
    assert distance(velocity(pipe.transformer), expected) < 1e-5
    for options, reason in (
        ({"adapter_name": "style"}, "loaded already"),
        ({"adapter_name": "other", "hotswap": True}, "needs a loaded adapter"),
    ):
        with pytest.raises(InputError, match=reason):
            pipe.load_lora_weights(named(one, "wan", "A"), **options)
    with pytest.raises(InputError, match="is no adapter for this model"):
        pipe.load_lora_weights({"unet.lora_A.weight": torch.zeros(2, 2), "unet.lora_B.weight": torch.zeros(2, 2)})
    with pytest.raises(InputError, match="can't be downloaded"):
        pipe.load_lora_weights("somebody/wan-style")
    with pytest.raises(ValueError, match="nobody"):
        pipe.set_adapters("nobody")
