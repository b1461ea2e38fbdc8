"""What stays in float32 stays there however a transformer is loaded, and bfloat16 stays near float32."""

from __future__ import annotations

import pytest
import torch

from anytalker import AnyTalkerTransformer3DModel, InputError
from anytalker.doctor.memory import transformer_bytes
from anytalker.models.precision import cast_transformer, stays_float32
from tests.models.test_transformer import run, small_inputs, small_model


@pytest.mark.parametrize("layout", ["A", "B"])
def test_loading_and_casting_agree(layout: str, tmp_path) -> None:
    small_model(audio_face_layout=layout, audio_dim=12).save_pretrained(tmp_path)
    loaded = AnyTalkerTransformer3DModel.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    cast = cast_transformer(AnyTalkerTransformer3DModel.from_pretrained(tmp_path), torch.bfloat16)
    for (name, one), (_, two) in zip(loaded.named_parameters(), cast.named_parameters(), strict=True):
        assert one.dtype == two.dtype == (torch.float32 if stays_float32(name) else torch.bfloat16), name
        assert torch.equal(one, two)
    assert loaded.dtype == cast.dtype == torch.bfloat16
    assert {buffer.dtype for model in (loaded, cast) for buffer in model.buffers()} == {torch.float32}
    assert transformer_bytes(dict(cast.config), torch.bfloat16) == sum(p.nbytes for p in cast.parameters())
    kept = {name.rpartition(".")[0] for name, _ in cast.named_parameters() if stays_float32(name)}
    norms = {"blocks.0.norm2", "face_embedder.norm1", "audio_embedder.norm"}
    norms |= {"blocks.1.norm_people"} if layout == "B" else set()
    assert norms | {"condition_embedder.time_proj", "condition_embedder.time_embedder.linear_1", "blocks.1"} <= kept
    assert not any("attn" in name or "ffn" in name for name in kept)


@pytest.mark.parametrize("backend", ["dense", "sparse"])
@pytest.mark.parametrize("layout", ["A", "B"])
def test_half_precision_with_contexts_and_gradients(layout: str, backend: str, error) -> None:
    model, inputs = small_model(audio_face_layout=layout, audio_dim=12), small_inputs(2)
    exact = run(model, inputs)
    half = cast_transformer(model, torch.bfloat16)
    half.set_audio_face_backend(backend)
    velocity = run(half, inputs)
    assert velocity.dtype == torch.float32
    assert error(velocity, exact) < 0.01
    still = {key: value for key, value in inputs.items() if key not in ("hidden_states", "timestep")}
    context = half.make_context(**still)
    assert {pair.dtype for block in context.blocks for pair in (*block.text, *block.people.face)} == {torch.bfloat16}
    half(**inputs, return_dict=False)[0].square().mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in half.parameters() if parameter.grad is not None)


def test_other_patches_and_too_many_positions_are_refused() -> None:
    for patch in ((1, 1, 1), (2, 2, 2), (1, 4, 4)):
        with pytest.raises(InputError, match=r"it must be \(1, 2, 2\)"):
            small_model(patch_size=patch)
    model = small_model(rope_max_seq_len=4)
    for sizes in ({"frames": 5}, {"height": 5}, {"width": 6}):
        with pytest.raises(InputError, match="the model knows 4 positions"):
            run(model, small_inputs(1, **({"frames": 2, "height": 4, "width": 4} | sizes)))
