"""Guesses of the shipped miniature, and what its decoder learns from."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from anytalker import AnyTalkerPipeline, InputError
from anytalker.miniature import recipe
from anytalker.miniature.corpus import CorpusSettings, render_clip
from anytalker.miniature.guesses import GuessSettings, guess, lessons, write_guesses
from anytalker.models.latents import decode_video
from anytalker.training.decoder import DecoderTraining


@pytest.fixture(scope="module")
def pipeline() -> AnyTalkerPipeline:
    return AnyTalkerPipeline.from_pretrained("tiny")


@pytest.fixture(scope="module")
def two(pipeline, tmp_path_factory) -> Path:
    """A folder of two short guesses, not to be changed."""
    folder = tmp_path_factory.mktemp("two")
    write_guesses(folder, pipeline, GuessSettings(clips=2, frames=13))
    return folder


def test_less_noise_better_guesses(pipeline) -> None:
    clip = render_clip(50_000, CorpusSettings(persons=2, frames=13))
    errors = []
    for sigma in (1.0, 0.875, 0.3):
        lesson = guess(pipeline, clip, sigma, 24.0, seed=1)
        assert lesson["guess"].shape == lesson["true"].shape == (16, 4, 16, 32)
        errors.append(float((lesson["guess"] - lesson["true"]).float().square().mean()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[0] < 0.3 * lesson["true"].float().square().mean()


def test_lessons_are_pieces_of_the_same_place_and_time(pipeline, tmp_path) -> None:
    write_guesses(tmp_path, pipeline, GuessSettings(clips=2, frames=17))
    guesses, true, pixels = next(lessons(tmp_path, 6, side=12))
    assert guesses.shape == true.shape == (6, 16, 4, 12, 12)
    assert pixels.shape == (6, 3, 13, 96, 96)
    decoded = decode_video(pipeline.vae, true)
    assert (decoded - pixels).abs().mean() < 0.5 * (decoded - pixels.roll(8, dims=-1)).abs().mean()
    assert (decoded - pixels).abs().mean() < (decoded - pixels.roll(1, dims=0)).abs().mean()
    for other in (true.roll(1, dims=-1), true.roll(1, dims=-2), true.roll(1, dims=0)):
        assert (guesses - true).square().mean() < 0.5 * (guesses - other).square().mean()
    moving = (true[:, :, 1:] - true[:, :, :1]).abs()
    assert (guesses[:, :, 1:] - true[:, :, 1:]).abs().mean() < moving.mean()
    with pytest.raises(InputError, match="side is 17, but a clip has 16×"):
        next(lessons(tmp_path, 1, side=17))


def test_only_finished_clips_and_as_many_as_asked_are_learned(two, tmp_path) -> None:
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    (tmp_path / ".0a.partial.safetensors").write_bytes(b"half of a clip")
    batch = next(lessons(tmp_path, 24, clips=1))[1]
    assert (batch == batch[:1]).all()  # the first clip has one place and one time to choose from
    both = next(lessons(tmp_path, 24))[1]
    assert not (both == both[:1]).all()


def test_guesses_are_kept_and_never_mixed(pipeline, two, tmp_path) -> None:
    settings = GuessSettings(clips=2, frames=13)
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    (tmp_path / "00040000.safetensors").rename(tmp_path / "away")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}
    told: list[tuple[int, int]] = []
    write_guesses(tmp_path, pipeline, replace(settings, clips=3), lambda done, total: told.append((done, total)))
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert told == [(2, 3), (3, 3)]
    with pytest.raises(InputError, match="holds guesses with another frames, sigmas; remove it"):
        write_guesses(tmp_path, pipeline, replace(settings, frames=17, sigmas=(1.0,)))
    for frames in (9, 32):
        with pytest.raises(InputError, match=f"frames is {frames}; it must be 4n.1 and at least 13"):
            write_guesses(tmp_path / "short", pipeline, replace(settings, frames=frames))
    with pytest.raises(InputError, match="frames is 65; the model sees 33 at once"):
        write_guesses(tmp_path / "long", pipeline, replace(settings, frames=65))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no guesses"):
        next(lessons(tmp_path / "empty", 1))


def test_one_and_two_people_and_all_levels_of_noise(pipeline, tmp_path) -> None:
    settings = GuessSettings(clips=3, frames=13, sigmas=(1.0, 0.5, 0.0))
    write_guesses(tmp_path, pipeline, settings)
    clips = [load_file(path) for path in sorted(tmp_path.glob("*.safetensors"))]
    assert [clip["frames"].shape[2] for clip in clips] == [128, 256, 256]
    errors = [float((clip["guess"] - clip["true"]).float().square().mean()) for clip in clips]
    by_sigma = {settings.sigmas[(settings.first + number) % 3]: error for number, error in enumerate(errors)}
    assert by_sigma[1.0] > by_sigma[0.5] > by_sigma[0.0] == 0


def test_what_is_no_miniature_or_would_be_overwritten_is_refused(pipeline, tmp_path, monkeypatch) -> None:
    few = GuessSettings(clips=2, frames=13)
    with pytest.raises(InputError, match="is where the result would go"):
        recipe.tune_decoder(tmp_path / "model", tmp_path, DecoderTraining(steps=2), few)
    other = SimpleNamespace(vae=torch.nn.Identity())
    monkeypatch.setattr(recipe.AnyTalkerPipeline, "from_pretrained", lambda model: other)
    with pytest.raises(InputError, match="is no miniature; its autoencoder is a Identity"):
        recipe.tune_decoder(tmp_path / "large", tmp_path, DecoderTraining(steps=2), few)


def test_tuning_gives_a_model_that_differs_in_its_decoder_alone(two, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(recipe, "FINE_BLOCKS", 5)
    monkeypatch.setattr(recipe, "LESSONS", 1)
    shutil.copytree(two, tmp_path / "guesses")
    (tmp_path / "guesses" / "00040000.safetensors").unlink()  # it is made again
    lines: list[str] = []
    recipe.tune_decoder("tiny", tmp_path, DecoderTraining(steps=2), GuessSettings(clips=2, frames=13), lines.append)
    tuned, shipped = (AnyTalkerPipeline.from_pretrained(name) for name in (tmp_path / "model", "tiny"))
    for name, value in shipped.transformer.state_dict().items():
        assert torch.equal(tuned.transformer.state_dict()[name], value)
    changed = {
        name.split(".")[0]
        for name, value in tuned.vae.state_dict().items()
        if not torch.equal(shipped.vae.state_dict().get(name, value + 1), value)
    }
    assert changed == {"decoder", "decode_linear"}
    assert tuned.vae.config.fine_blocks == 5
    assert any("step 2/2" in line for line in lines)
    assert len(list((tmp_path / "guesses").glob("*.safetensors"))) == 2
