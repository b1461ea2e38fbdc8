"""A transformer from one file: quantized in GGUF, or safetensors, by the release's names of tensors or ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import BitsAndBytesConfig, GGUFQuantizationConfig
from safetensors.torch import save_file

from anytalker import AnyTalkerPipeline, AnyTalkerTransformer3DModel, InputError
from anytalker.models.conversion import to_release
from anytalker.models.lora import merge_lora
from anytalker.models.precision import stays_float32
from tests.loading.full_size import save_small_model
from tests.models.test_transformer import run, small_inputs, small_model
from tests.pipelines.test_adapters import Holder
from tests.pipelines.test_storage import make

gguf = pytest.importorskip("gguf", reason="an extra: pip install 'anytalker[quantize]'")
WIDE: dict[str, Any] = {"attention_head_dim": 32, "audio_channels": 10, "text_dim": 8, "image_dim": 12}


def write_gguf(path: Path, tensors: dict[str, torch.Tensor], kind: str = "Q8_0") -> dict[str, torch.Tensor]:
    """Write as converters do, matrices in blocks where their rows are whole ones; returns what is then in the file."""
    quantized = gguf.GGMLQuantizationType[kind]
    block = gguf.GGML_QUANT_SIZES[quantized][0]
    writer, kept = gguf.GGUFWriter(path, "wan"), {}
    for name, tensor in tensors.items():
        values = tensor.float().numpy()
        if tensor.ndim == 2 and tensor.shape[1] % block == 0:
            packed = gguf.quants.quantize(values, quantized)
            writer.add_tensor(name, packed, raw_dtype=quantized)
            values = gguf.quants.dequantize(packed, quantized)
            if kind != "BF16":  # diffusers multiplies scales of half precision in half precision
                values = values.astype(np.float16).astype(np.float32)
        else:
            writer.add_tensor(name, values)
        kept[name] = torch.from_numpy(values.copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return kept


@pytest.mark.parametrize("layout", ["A", "B"])
@pytest.mark.parametrize(("kind", "lost"), [("Q8_0", 0.01), ("Q4_0", 0.2), ("BF16", 0.01)])
def test_quantized_layers_give_what_is_in_the_file(tmp_path, error, layout, kind, lost) -> None:
    exact = small_model(**WIDE, audio_face_layout=layout, audio_dim=32)
    released, config = to_release(exact)
    kept = write_gguf(tmp_path / "model.gguf", released, kind)
    (tmp_path / "config.json").write_text(json.dumps(config | {"text_len": 6}))
    loaded = AnyTalkerTransformer3DModel.from_single_file(tmp_path / "model.gguf")
    assert type(loaded.blocks[0].attn1.to_q).__name__ == "GGUFLinear"
    assert loaded.blocks[0].attn1.to_q.weight.dtype == torch.uint8
    if layout == "B":
        assert loaded.blocks[0].attn_people.to_out.weight.dtype == torch.float32
    assert all(value.dtype == torch.float32 for name, value in loaded.named_parameters() if stays_float32(name))
    by_hand = small_model(**WIDE, audio_face_layout=layout, audio_dim=32)
    theirs = dict(zip(to_release(by_hand)[0], by_hand.state_dict(), strict=True))
    by_hand.load_state_dict({theirs[name]: tensor for name, tensor in kept.items()})
    inputs = small_inputs()
    assert error(run(loaded, inputs), run(by_hand, inputs)) < 1e-5
    assert 0 < error(run(loaded, inputs), run(exact, inputs)) < lost


def test_a_pipeline_takes_it(tmp_path) -> None:
    folder = save_small_model(tmp_path / "small")
    config = folder / "transformer"
    pipe = AnyTalkerPipeline.from_pretrained(folder)
    kept = write_gguf(tmp_path / "ours.gguf", pipe.transformer.state_dict())
    quantized = AnyTalkerTransformer3DModel.from_single_file(
        tmp_path / "ours.gguf", config=config, quantization_config=GGUFQuantizationConfig(compute_dtype=torch.float32)
    )
    made = make(AnyTalkerPipeline(**pipe.components | {"transformer": quantized}, **pipe.parameters))
    pipe.transformer.load_state_dict(kept)
    np.testing.assert_allclose(made.frames, make(pipe).frames, atol=1e-5)


def test_adapters_go_beside_quantized_layers(tmp_path, error) -> None:
    exact = small_model(**WIDE)
    kept = write_gguf(tmp_path / "ours.gguf", exact.state_dict())
    exact.load_state_dict(kept)
    layers = {"blocks.0.attn1.to_q": (64, 64), "blocks.1.ffn.net.2": (64, 64)}
    torch.manual_seed(4)
    pairs = {
        f"transformer.{layer}.{part}.weight": 0.3 * torch.randn(shape)
        for layer, (rows, columns) in layers.items()
        for part, shape in (("lora_A", (2, columns)), ("lora_B", (rows, 2)))
    }
    save_file(pairs, tmp_path / "adapter.safetensors")
    quantized = AnyTalkerTransformer3DModel.from_single_file(tmp_path / "ours.gguf", json.loads(exact.to_json_string()))
    with pytest.raises(InputError, match=r"merged into the layers of a \.gguf file; use load_lora_weights"):
        merge_lora(quantized, tmp_path / "adapter.safetensors")
    before, made = run(exact, small_inputs()), []
    for transformer in (quantized, exact):
        pipe = Holder(transformer)
        pipe.load_lora_weights(tmp_path / "adapter.safetensors", adapter_name="style")
        made.append(run(transformer, small_inputs()))
        assert error(made[-1], before) > 0.01
    assert error(*made) < 1e-5
    with pytest.raises(InputError, match=r"merged into the layers of a \.gguf file; leave the adapters loaded"):
        Holder(quantized).fuse_lora()


def test_safetensors_and_half_precision(tmp_path) -> None:
    exact = small_model(**WIDE)
    config = json.loads(exact.to_json_string())
    save_file(exact.state_dict(), tmp_path / "ours.safetensors")
    released, releases = to_release(exact)
    save_file(released, tmp_path / "theirs.safetensors")
    (tmp_path / "theirs.json").write_text(json.dumps(releases))
    load = AnyTalkerTransformer3DModel.from_single_file
    for loaded in (
        load(tmp_path / "ours.safetensors", config),
        load(tmp_path / "theirs.safetensors", tmp_path / "theirs.json"),
    ):
        # The last bits depend on where in memory a file's tensors lie.
        torch.testing.assert_close(run(loaded, small_inputs()), run(exact, small_inputs()), rtol=1e-5, atol=1e-5)
    half = load(tmp_path / "ours.safetensors", config, torch_dtype=torch.bfloat16)
    types = {name: value.dtype for name, value in half.named_parameters()}
    assert types["blocks.0.attn1.to_q.weight"] == torch.bfloat16
    assert types["blocks.0.scale_shift_table"] == torch.float32
    write_gguf(tmp_path / "ours.gguf", exact.state_dict())
    half = load(tmp_path / "ours.gguf", config, GGUFQuantizationConfig(compute_dtype=torch.bfloat16))
    assert half.patch_embedding.weight.dtype == half.blocks[0].attn1.to_q.compute_dtype == torch.bfloat16


def test_what_cannot_be_loaded_is_named(tmp_path) -> None:
    model = small_model(**WIDE)
    config, load = json.loads(model.to_json_string()), AnyTalkerTransformer3DModel.from_single_file
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    write_gguf(tmp_path / "a.gguf", model.state_dict())
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(20))
    (tmp_path / "a.pth").write_bytes(b"")
    for name, options, reason in (
        ("none.gguf", {"config": config}, "There is no file"),
        ("a.gguf", {}, "There is no configuration for .*a.gguf"),
        (
            "a.gguf",
            {"config": config, "quantization_config": BitsAndBytesConfig(load_in_8bit=True)},
            "is quantized already",
        ),
        ("a.gguf", {"config": config | {"num_layers": 3}}, "doesn't fit its configuration: tensors .* missing"),
        ("a.safetensors", {"config": config, "quantization_config": GGUFQuantizationConfig()}, "is not quantized"),
        ("a.pth", {"config": config}, r"must be \.gguf or \.safetensors"),
        ("broken.gguf", {"config": config}, "can't be read"),
    ):
        with pytest.raises(InputError, match=reason):
            load(tmp_path / name, **options)
    folder = save_small_model(tmp_path / "small")
    with pytest.raises(InputError, match="GGUF is quantized already; give transformer="):
        AnyTalkerPipeline.from_pretrained(folder, quantization_config=GGUFQuantizationConfig())
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="bitsandbytes quantizes on a GPU, and there is none"):
            AnyTalkerPipeline.from_pretrained(folder, quantization_config=BitsAndBytesConfig(load_in_8bit=True))
