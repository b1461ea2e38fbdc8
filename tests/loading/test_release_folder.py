"""A folder in the release's own layout, with Wan's torch files, loads as it stands."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from anytalker import AnyTalkerPipeline, InputError
from anytalker.models.conversion import to_release
from tests.loading.full_size import small_parts
from tests.loading.published import AUDIO, BASE, CONFIGS, OWN, SMALL, write_base


@pytest.fixture(scope="module", params=["A", "B"])
def release(request, tmp_path_factory) -> tuple[Path, dict]:
    """A small model laid out as the release lays out its own, and the parts it was made of."""
    folder, parts = tmp_path_factory.mktemp("release"), small_parts(request.param)
    write_base(folder / BASE, parts)
    parts["audio_features"].save_pretrained(folder / AUDIO)
    weights, config = to_release(parts["transformer"])
    (folder / OWN).mkdir()
    torch.save({"model": weights}, folder / OWN / SMALL)
    (folder / OWN / CONFIGS[SMALL]).write_text(json.dumps(config))
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
    return lambda folder: torch.save({"something": torch.zeros(3)}, next(folder.rglob(name)).parent / "Wan2.1_VAE.pt")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (remove("Wan2.1_VAE.pth"), "lacks the video autoencoder"),
        (remove("models_t5*.pth"), "lacks the text encoder"),
        (remove("1_3B-single-v1.pth"), "lacks AnyTalker's checkpoint"),
        (swap("models_clip*.pth"), "models_clip.* is not the file that its name says"),
        (swap("1_3B-single-v1.pth"), "checkpoint or its configuration lacks"),
        (cut("Wan2.1_VAE.pth"), "Wan2.1_VAE.pth is damaged or cut off"),
        (again("Wan2.1_VAE.pth"), r"several candidates for the video autoencoder"),
    ],
)
def test_damaged_folders_are_named(release, tmp_path, damage, reason: str) -> None:
    folder = shutil.copytree(release[0], tmp_path / "copy")
    damage(folder)
    with pytest.raises(InputError) as refused:
        AnyTalkerPipeline.from_pretrained(folder)
    assert re.search(reason, str(refused.value))
    assert "\n" not in str(refused.value).strip()
