"""Edited videos: only windows in which a voice changed are made again."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from anytalker.denoising.denoiser import Denoiser
from anytalker.denoising.segments import KeptWindows
from anytalker.errors import InputError
from anytalker.loading.scheduler import make_scheduler
from anytalker.media.destination import latents_path
from anytalker.media.video import read_video
from anytalker.pipelines.kept import read_earlier
from tests.denoising.test_wavefront import MODEL, conditioning
from tests.pipelines.test_pipeline import FACES
from tests.pipelines.test_prepared_video import short_windows

SECONDS = 5.75
RATE = 16000


@pytest.fixture(scope="module")
def pipeline():
    return short_windows()


@pytest.fixture(scope="module")
def make(pipeline):
    """Writes a video of two people, in windows of four latent frames, and returns its latents and what was said."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (100, 200, 3), dtype=np.uint8))

    def build(path: Path, voice: np.ndarray, seed: int = 3, **options) -> tuple[torch.Tensor, list[str]]:
        said: list[str] = []
        generator = torch.Generator().manual_seed(seed)
        given = {"faces": FACES, "fps": 12, "generator": generator} | options
        pipeline.generate_to(path, picture, [voice, None], say=said.append, **given)
        kept = latents_path(path)
        return (load_file(kept)["latents"] if kept.exists() else torch.zeros(0)), said

    return build


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    return np.random.default_rng(1).uniform(-0.3, 0.3, int(RATE * SECONDS)).astype(np.float32)


@pytest.fixture(scope="module")
def first(make, voice, tmp_path_factory) -> tuple[Path, torch.Tensor]:
    path = tmp_path_factory.mktemp("first") / "talk.mp4"
    return path, make(path, voice, keep_latents=True)[0]


def changed_from(voice: np.ndarray, second: float) -> np.ndarray:
    later = voice.copy()
    later[int(second * RATE) :] = later[int(second * RATE) :][::-1]
    return later


def test_only_windows_that_hear_the_change_are_made_again(make, voice, first, tmp_path) -> None:
    path, before = first
    after, said = make(tmp_path / "edited.mp4", changed_from(voice, 4.0), edit_of=path)
    assert "4 of 8 windows are made again." in said[-1]
    same = [bool(torch.equal(a, b)) for a, b in zip(before[0].transpose(0, 1), after[0].transpose(0, 1), strict=True)]
    assert same == [True] * 11 + [False] * 7
    frames = [read_video(video)[0] for video in (path, tmp_path / "edited.mp4")]
    same = (frames[0] == frames[1]).all(axis=(1, 2, 3)).tolist()
    assert all(same[:32])
    assert not any(same[41:])
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "edited.json",
        "edited.latents.safetensors",
        "edited.mp4",
    ]


def test_pictures_are_copied_only_from_the_video_that_was_made_with_the_latents(make, voice, first, tmp_path) -> None:
    earlier = read_earlier(first[0])
    assert earlier.pictures(12, "") is not None
    assert earlier.pictures(12, "AI-generated") is None
    assert earlier.pictures(12, None) is None
    for file in (first[0], latents_path(first[0])):
        shutil.copy(file, tmp_path)
    (tmp_path / "talk.mp4").write_bytes(b"another video")
    assert read_earlier(tmp_path / "talk.mp4").pictures(12, "") is None
    make(tmp_path / "same.mp4", voice, edit_of=tmp_path / "talk.mp4")
    assert (tmp_path / "same.mp4").read_bytes() == first[0].read_bytes()


def test_a_longer_voice_leaves_the_windows_before_it(make, voice, first, tmp_path) -> None:
    path, before = first
    after, _ = make(tmp_path / "longer.mp4", np.concatenate([voice, voice]), edit_of=path)
    assert after.shape[2] > before.shape[2]
    assert torch.equal(after[:, :, :10], before[:, :, :10])


def test_nothing_is_made_again_where_nothing_changed(make, voice, first, tmp_path) -> None:
    path, before = first
    after, said = make(tmp_path / "same.mp4", voice, edit_of=path)
    assert said[-1].startswith("0 of 8 windows")
    assert torch.equal(before, after)
    assert (tmp_path / "same.mp4").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("changes", [{"seed": 4}, {"prompt": "they argue"}, {"num_inference_steps": 2}])
def test_other_changes_are_refused_by_name(make, voice, first, tmp_path, changes) -> None:
    named = {"seed": "seed", "prompt": "prompt", "num_inference_steps": "steps"}[next(iter(changes))]
    with pytest.raises(InputError, match=rf"other values of .*{named}"):
        make(tmp_path / "other.mp4", voice, edit_of=first[0], **changes)
    assert not list(tmp_path.iterdir())


def test_a_video_without_latents_is_refused(make, voice, tmp_path) -> None:
    with pytest.raises(InputError, match="--keep-latents"):
        make(tmp_path / "other.mp4", voice, edit_of=tmp_path / "talk.mp4")
    (tmp_path / "talk.latents.safetensors").write_bytes(b"no latents")
    with pytest.raises(InputError, match="is damaged"):
        make(tmp_path / "other.mp4", voice, edit_of=tmp_path / "talk.mp4")


def test_windows_next_to_kept_ones_hear_their_own_audio() -> None:
    """With one step, a window's velocity depends on noise and conditioning alone: kept neighbours change nothing."""
    denoiser = Denoiser(MODEL, make_scheduler(3.0), 1, window=4, window_overlap=0)
    whole = conditioning(9)
    noise = torch.randn(1, 16, 9, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = denoiser(noise, whole)
    run = denoiser.begin(
        lambda start, stop: noise[:, :, start:stop],
        whole,
        KeptWindows(frozenset({0}), lambda start, stop: expected[:, :, start:stop]),
    )
    finished = []
    while run.done < run.total:
        run.advance()
        finished += run.finished()
    assert torch.allclose(torch.cat(finished, dim=2), expected, atol=1e-6)
