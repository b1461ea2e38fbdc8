"""Adapters from files: ours and those with Wan's names, merged as peft merges them."""

from __future__ import annotations

import copy

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file

from anytalker import AnyTalkerTransformer3DModel, InputError
from anytalker.models.lora import merge_lora
from anytalker.models.release_names import Names
from anytalker.training.adapters import add_adapter, save_adapter
from anytalker.training.config import LoraConfig
from tests.loading.full_size import small_parts


def small(layout: str = "A") -> AnyTalkerTransformer3DModel:
    return small_parts(layout)["transformer"]


def merged(transformer: AnyTalkerTransformer3DModel) -> AnyTalkerTransformer3DModel:
    """A copy that peft itself has merged."""
    whole = copy.deepcopy(transformer)
    for name, module in list(whole.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            whole.set_submodule(name, module.get_base_layer())
    return whole


def test_an_adapter_of_our_training_merges_as_peft_does(tmp_path) -> None:
    trained = small()
    add_adapter(trained, LoraConfig(rank=2, alpha=6, layers=["to_q", "to_out"]))
    with torch.no_grad():
        for name, parameter in trained.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    save_adapter(trained, tmp_path / "adapter.safetensors")
    fresh, expected = small(), merged(trained).state_dict()
    before = small().state_dict()
    assert merge_lora(fresh, tmp_path / "adapter.safetensors") == sum("lora_B" in name for name in trained.state_dict())
    changed = 0
    for name, value in fresh.state_dict().items():
        torch.testing.assert_close(value, expected[name])
        changed += not torch.equal(value, before[name])
    assert changed == 8
    shapes = {value.shape for name, value in trained.state_dict().items() if "lora_A" in name}
    assert {shape[0] for shape in shapes} == {2}
    name = "blocks.0.attn1.to_q"
    up, down = (trained.state_dict()[f"{name}.lora_{side}.default.weight"] for side in "BA")
    torch.testing.assert_close(expected[f"{name}.weight"] - before[f"{name}.weight"], 6 / 2 * up @ down)


@pytest.mark.parametrize("layout", ["A", "B"])
def test_training_puts_adapters_only_where_they_are_heard(layout) -> None:
    trained = small(layout)
    add_adapter(trained, LoraConfig(rank=2, layers=["to_q", "to_out"]))
    layers = {name for name, module in trained.named_modules() if isinstance(module, BaseTunerLayer)}
    assert any(name.endswith("attn1.to_out") for name in layers)
    assert not any(name.endswith("attn_people.to_out") for name in layers)
    assert any(name.endswith("attn_people.to_q") for name in layers) == (layout == "B")


@pytest.mark.parametrize("layout", ["A", "B"])
def test_wans_names_alphas_and_differences(tmp_path, layout) -> None:
    model, names = small(layout), Names(layout)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    down, up = torch.randn(3, 48, generator=generator), torch.randn(48, 3, generator=generator)
    bias, table = torch.randn(48, generator=generator), torch.randn(48, generator=generator)
    query = names.releases("blocks.1.attn1.to_q.weight").removesuffix(".weight")
    assert query == "blocks.1.self_attn.q"
    save_file(
        {
            f"diffusion_model.{query}.lora_down.weight": down,
            f"diffusion_model.{query}.lora_up.weight": up,
            f"diffusion_model.{query}.alpha": torch.tensor(1.5),
            f"diffusion_model.{query}.diff_b": bias,
            "diffusion_model.blocks.0.self_attn.norm_q.diff": table,
            "transformer.blocks.0.attn1.to_out.0.lora_A.weight": down.clone(),
            "transformer.blocks.0.attn1.to_out.0.lora_B.weight": up.clone(),
        },
        tmp_path / "wan.safetensors",
    )
    assert merge_lora(model, tmp_path / "wan.safetensors", strength=0.5) == 4
    after = model.state_dict()
    expected = before | {
        "blocks.1.attn1.to_q.weight": before["blocks.1.attn1.to_q.weight"] + 0.5 * 0.5 * up @ down,
        "blocks.1.attn1.to_q.bias": before["blocks.1.attn1.to_q.bias"] + 0.5 * bias,
        "blocks.0.attn1.norm_q.weight": before["blocks.0.attn1.norm_q.weight"] + 0.5 * table,
        "blocks.0.attn1.to_out.weight": before["blocks.0.attn1.to_out.weight"] + 0.5 * up @ down,
    }
    for name, value in after.items():
        torch.testing.assert_close(value, expected[name])


def test_kohyas_names_are_those_of_wan(tmp_path) -> None:
    layers = [f"{part}.{kind}" for part in ("self_attn", "cross_attn") for kind in "qkvo"] + ["ffn.0", "ffn.2"]
    names, plain = Names("A"), small().state_dict()
    shapes = {name: tensor.shape for name, tensor in plain.items()}
    generator, wans, kohyas = torch.Generator().manual_seed(0), {}, {}
    one, other = small(), small()
    for block in range(one.config.num_layers):
        for layer in layers:
            key = f"blocks.{block}.{layer}"
            height, width = shapes[names.ours(f"{key}.weight")]
            pair = {
                "lora_down.weight": torch.randn(4, width, generator=generator),
                "lora_up.weight": torch.randn(height, 4, generator=generator),
                "alpha": torch.tensor(1.0),
            }
            wans |= {f"{key}.{kind}": tensor for kind, tensor in pair.items()}
            kohyas |= {f"lora_unet_{key.replace('.', '_')}.{kind}": tensor for kind, tensor in pair.items()}
    save_file(wans, tmp_path / "wan.safetensors")
    save_file(kohyas, tmp_path / "kohya.safetensors")
    changed = {key.replace(".alpha", ".weight") for key in wans}
    assert merge_lora(one, tmp_path / "wan.safetensors") == merge_lora(other, tmp_path / "kohya.safetensors")
    both = other.state_dict()
    for name, value in one.state_dict().items():
        torch.testing.assert_close(both[name], value)
        assert torch.equal(value, plain[name]) == (names.releases(name) not in changed)
    del kohyas["lora_unet_blocks_0_self_attn_q.lora_up.weight"]
    save_file(kohyas, tmp_path / "kohya.safetensors")
    with pytest.raises(InputError, match="not the layers of Wan"):
        merge_lora(other, tmp_path / "kohya.safetensors")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"blocks.9.attn1.to_q.lora_A.weight": (2, 48), "blocks.9.attn1.to_q.lora_B.weight": (48, 2)},
            "1 of its layers",
        ),
        ({"blocks.0.attn1.to_q.lora_A.weight": (2, 64), "blocks.0.attn1.to_q.lora_B.weight": (64, 2)}, "another size"),
        ({"blocks.0.attn1.to_q.lora_A.weight": (2, 48)}, "no counterpart"),
        ({"something": (2, 2)}, "no adapter for this model"),
    ],
)
def test_other_adapters_are_refused_and_change_nothing(tmp_path, tensors, message) -> None:
    good = {"blocks.0.attn1.to_k.diff_b": torch.ones(48)} if "something" not in tensors else {}
    save_file(good | {name: torch.ones(shape) for name, shape in tensors.items()}, tmp_path / "bad.safetensors")
    model = small()
    with pytest.raises(InputError, match=message):
        merge_lora(model, tmp_path / "bad.safetensors")
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), small().parameters(), strict=True))


def test_files_that_cannot_be_read_are_named(tmp_path) -> None:
    with pytest.raises(InputError, match="There is no adapter"):
        merge_lora(small(), tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(InputError, match="can't be read as safetensors"):
        merge_lora(small(), tmp_path / "text.safetensors")
