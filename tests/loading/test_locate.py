"""Folders in this package's own format, some of them damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from anytalker.errors import InputError
from anytalker.loading.components import model_folder
from anytalker.loading.locate import find_model
from anytalker.loading.part_loaders import settings_of
from anytalker.models.settings import SETTINGS_FILE


@pytest.fixture
def folder(tmp_path) -> Path:
    return shutil.copytree(model_folder("tiny"), tmp_path / "model")


def gone(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def called(name: str, other: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).rename((folder / name).with_name(other)) and None


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (gone("scheduler/scheduler_config.json"), r"scheduler is not complete: it lacks scheduler_config\.json"),
        (gone("text_encoder/model.safetensors"), r"text_encoder is not complete: it lacks its weights, model\.safe"),
        (
            called("transformer/diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"),
            r"transformer has diffusion_pytorch_model\.fp16\.safetensors, but .* rename it",
        ),
        (
            called("text_encoder/model.safetensors", "model-00001-of-00005.safetensors"),
            r"lacks the index of model-00001-of-00005\.safetensors \(model\.safetensors\.index\.json\)",
        ),
    ],
)
def test_what_is_missing_is_named_before_anything_is_loaded(folder, damage, said: str) -> None:
    damage(folder)
    with pytest.raises(InputError, match=said):
        find_model(folder)


def test_settings_may_begin_with_a_mark_of_their_encoding(folder) -> None:
    settings = (folder / SETTINGS_FILE).read_bytes()
    (folder / SETTINGS_FILE).write_bytes(b"\xef\xbb\xbf" + settings)
    assert settings_of(find_model(folder)).name == "tiny"
