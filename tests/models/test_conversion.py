"""The way to the release's checkpoints and back."""

from __future__ import annotations

import pytest
import torch

from anytalker import InputError
from anytalker.models.conversion import from_release, to_release
from tests.models.test_transformer import small_model


@pytest.mark.parametrize("layout", ["A", "B"])
def test_round_trip_is_bit_for_bit(layout: str) -> None:
    model = small_model(audio_face_layout=layout)
    weights, config = to_release(model)
    back = from_release(weights, config)
    for name, value in model.config.items():
        assert name.startswith("_") or back.config[name] == value, name
    for key, value in model.state_dict().items():
        assert torch.equal(back.state_dict()[key], value), key
    again, config_again = to_release(back)
    assert config_again == config
    assert all(torch.equal(again[key], value) for key, value in weights.items())


def test_names_are_the_releases() -> None:
    weights, _ = to_release(small_model())
    for name in (
        "blocks.1.cross_attn.k_face.weight",
        "head.modulation",
        "audio_ref_emb.proj.4.bias",
        "text_embedding.0.bias",
    ):
        assert name in weights
    assert not any("attn2" in name or "None" in name for name in weights)


@pytest.mark.parametrize("damage", ["missing", "unexpected", "wrong shape"])
def test_a_damaged_checkpoint_is_named(damage: str) -> None:
    weights, config = to_release(small_model())
    if damage == "missing":
        del weights["blocks.0.ffn.2.bias"]
        culprit = "blocks.0.ffn.2.bias"
    elif damage == "unexpected":
        weights["blocks.0.extra.weight"] = torch.zeros(1)
        culprit = "blocks.0.extra.weight"
    else:
        weights["patch_embedding.bias"] = torch.zeros(7)
        culprit = r"patch_embedding.bias is \(7,\) instead of \(48,\)"
    with pytest.raises(InputError, match=culprit):
        from_release(weights, config)


def test_the_other_layout_is_refused_clearly() -> None:
    weights, config = to_release(small_model())
    with pytest.raises(InputError, match="says layout B"):
        from_release(weights, config | {"legacy_audio_cross_attn": True})


def test_a_model_of_deviations_has_no_place_in_the_release() -> None:
    with pytest.raises(InputError, match="condition_skip"):
        to_release(small_model(condition_skip=0.5, audio_blocks=12, audio_channels=768))
