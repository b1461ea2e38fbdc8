"""What the upscaler is trained on, and its training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from anytalker import AnyTalkerPipeline, InputError
from anytalker.miniature import recipe
from anytalker.miniature.enlargements import KEPT, enlargement_lessons, write_enlargements
from anytalker.miniature.guesses import GuessSettings
from anytalker.models.upscaler import PictureUpscaler
from anytalker.training.upscaler import UpscalerTraining, train_upscaler


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("upscaler")
    write_enlargements(folder / "enlargements", AnyTalkerPipeline.from_pretrained("tiny"), SETTINGS)
    return folder


SETTINGS = GuessSettings(clips=2, frames=13)


def test_a_file_holds_the_same_moments_small_and_large(folder) -> None:
    clip = load_file(sorted((folder / "enlargements").glob("*.safetensors"))[0])
    assert clip["decoded"].shape == (KEPT, 128, 128, 3)
    assert clip["true"].shape == (KEPT, 256, 256, 3)
    true = torch.nn.functional.avg_pool2d(clip["true"].permute(0, 3, 1, 2).float(), 2)
    decoded = clip["decoded"].permute(0, 3, 1, 2).float()
    assert (decoded - true).abs().mean() < 8
    assert (decoded - true).abs().mean() < (decoded - true.roll(2, dims=-1)).abs().mean()


def test_an_upscaler_learns(folder) -> None:
    upscaler = PictureUpscaler(8, 1)
    squares = next(enlargement_lessons(folder / "enlargements", 4, side=48, seed=5))
    assert [tuple(one.shape) for one in squares] == [(4, 3, 48, 48)] + 3 * [(4, 3, 96, 96)]

    def error() -> float:
        return float((upscaler(*squares[:3]) - squares[3]).abs().mean())

    before = error()
    batches = enlargement_lessons(folder / "enlargements", 2, side=32)
    training = UpscalerTraining(steps=40, warmup_steps=4, adversarial_start=30, average=0.9, log_every=40)
    train_upscaler(upscaler, batches, training, log=lambda line: None)
    assert error() < before


def test_a_model_with_an_upscaler_loads_and_plays(folder, monkeypatch) -> None:
    training = replace(UpscalerTraining(), steps=1, batch_size=1)
    recipe.add_upscaler("tiny", folder, training, SETTINGS, log=lambda line: None)
    model = AnyTalkerPipeline.from_pretrained(folder / "model")
    assert model.settings.upscale == 2
    shipped = AnyTalkerPipeline.from_pretrained("tiny")
    for name, tensor in shipped.vae.state_dict().items():
        tolerance = {"rtol": 0.0, "atol": 0.02} if name.startswith("upscaler") else {}  # it goes on with the one it had
        torch.testing.assert_close(model.vae.state_dict()[name], tensor.float(), **tolerance)
    with pytest.raises(InputError, match="where the result would go"):
        recipe.add_upscaler(folder / "model", folder, training, SETTINGS)
    with pytest.raises(InputError, match="another frames"):
        write_enlargements(folder / "enlargements", shipped, replace(SETTINGS, frames=17))
