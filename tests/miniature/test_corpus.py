"""The miniature's clips: the same seed, the same clip; voices, truth and pixels belong together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from anytalker import InputError
from anytalker.cli.app import app
from anytalker.conditioning.log_mel import LogMelFeatures
from anytalker.data.encoding import ClipEncoder
from anytalker.data.shards import read_all
from anytalker.evaluation.lip_sync.mouths import mouth_signal
from anytalker.miniature import recipe
from anytalker.miniature.corpus import CorpusSettings, build_corpus, render_clip
from anytalker.models.autoencoder import MiniatureAutoencoder
from anytalker.training.config import load_config

DUO = CorpusSettings(persons=2, frames=61)


def test_a_seed_is_a_clip_and_unseen_people_are_others() -> None:
    settings = CorpusSettings(frames=9)
    first, again = (render_clip(3, settings) for _ in range(2))
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.voices[0], again.voices[0])
    other = render_clip(3, CorpusSettings(frames=9, unseen=True))
    assert np.abs(first.frames[0].astype(int) - other.frames[0]).mean() > 5


def test_people_stand_anywhere_in_wide_frames_and_windows_show_the_same_around_the_face() -> None:
    wide = CorpusSettings(frames=5, room=2.0)
    centers = []
    for seed in range(8):
        whole, window = render_clip(seed, wide), render_clip(seed, replace(wide, window=True))
        x, _, width, _ = whole.boxes[0]
        centers.append(x + width / 2)
        assert whole.frames.shape == (5, 128, 256, 3)
        assert window.frames.shape == (5, 128, 128, 3)
        left = x - window.boxes[0][0]
        assert window.boxes[0][1:] == whole.boxes[0][1:]
        np.testing.assert_array_equal(window.frames, whole.frames[:, :, left : left + 128])
        np.testing.assert_array_equal(window.voices[0], whole.voices[0])
        assert abs(window.boxes[0][0] + width / 2 - 64) < 20
    assert np.ptp(centers) > 60
    with pytest.raises(ValueError, match="A window shows one person, not 2"):
        render_clip(0, replace(wide, persons=2, window=True))


def test_the_papers_framing_is_prepared_when_it_is_asked_for(tmp_path, monkeypatch) -> None:
    asked: list[dict[str, CorpusSettings]] = []
    monkeypatch.setattr(recipe, "prepare_miniature", lambda *args, corpora, log: asked.append(corpora))
    for options in ([], ["--framed"]):
        assert CliRunner().invoke(app, ["miniature", "prepare", str(tmp_path), *options]).exit_code == 0
    assert asked[0] == recipe.CORPORA
    assert set(asked[1]) - set(asked[0]) == {"whole", "windows", "few"}
    whole, windows = asked[1]["whole"], asked[1]["windows"]
    assert whole.room == 2.0
    assert replace(windows, window=False) == whole


def test_a_trial_of_both_stages_is_prepared_once(tmp_path, monkeypatch) -> None:
    """That it runs, the commands of docs/training.md show."""
    monkeypatch.chdir(tmp_path)
    fewest = {name: replace(settings, clips=2, frames=17) for name, settings in recipe.QUICK_CORPORA.items()}
    monkeypatch.setattr(recipe, "QUICK_CORPORA", fewest)
    assert CliRunner().invoke(app, ["miniature", "prepare", "trial", "--quick"]).exit_code == 0
    assert CliRunner().invoke(app, ["miniature", "prepare", "trial", "--quick"]).exit_code == 0
    first, second = (load_config(Path("trial", f"{stage}.yaml")) for stage in ("stage1", "stage2"))
    assert second.model == first.output / "model"
    assert (
        type(CliRunner().invoke(app, ["miniature", "prepare", "x", "--quick", "--clips", "3"]).exception) is InputError
    )


def test_finished_clips_look_less_drawn_and_what_stands_still_stays_still() -> None:
    settings = CorpusSettings(persons=2, frames=33, size=64)
    drawn, finished = (render_clip(4, replace(settings, finished=share)) for share in (0.0, 1.0))
    assert all(np.array_equal(a, b) for a, b in zip(drawn.voices, finished.voices, strict=True))
    assert drawn.states == finished.states
    assert drawn.boxes == finished.boxes
    corner = finished.frames[:, :12, :12].astype(int)
    assert np.ptp(corner, axis=0).max() == 0
    assert np.abs(corner - drawn.frames[:, :12, :12]).mean() > 2
    assert drawn.scene.people[0].eye_size > finished.scene.people[0].eye_size


def test_in_conversations_mouths_follow_their_own_voices() -> None:
    own, crossed = [], []
    for seed in range(4):
        clip = render_clip(seed, DUO)
        assert clip.frames.shape == (61, 128, 256, 3)
        openings = [np.array([state.opening for state in person]) for person in clip.states]
        for person in range(2):
            if openings[person].std() < 0.05:
                continue
            signal = mouth_signal(clip.frames / 255, clip.boxes[person])
            own.append(np.corrcoef(signal, openings[person])[0, 1])
            crossed.append(np.corrcoef(signal, openings[1 - person])[0, 1])
    assert np.mean(own) > 0.7
    assert np.nanmean(crossed) < 0.2


def test_a_corpus_holds_the_truth_and_goes_on_where_it_stopped(tmp_path) -> None:
    vae = MiniatureAutoencoder(width=16, blocks=1, fine_width=8, fine_blocks=1).eval()
    encoder = ClipEncoder(vae, LogMelFeatures(), "still", 32)
    settings = CorpusSettings(clips=4, persons=2, frames=9, size=48)
    build_corpus(tmp_path, settings, encoder, clips_per_shard=2)
    samples = list(read_all(tmp_path))
    assert len(samples) == 4
    assert samples[0]["openings"].shape == samples[0]["gazes"].shape == (2, 9)
    assert samples[0]["condition"].shape == (16, 1, 6, 12)
    assert len(samples[0]["record"]["persons"]) == 2
    (tmp_path / "index.json").unlink()
    (tmp_path / "clips-000001.tar").unlink()
    build_corpus(tmp_path, settings, encoder, clips_per_shard=2)
    again = list(read_all(tmp_path))
    assert all(torch.equal(a["latents"], b["latents"]) for a, b in zip(samples, again, strict=True))
    build_corpus(tmp_path, replace(settings, clips=5), encoder, clips_per_shard=2)
    more = list(read_all(tmp_path))
    assert len(more) == 5
    assert all(torch.equal(a["latents"], b["latents"]) for a, b in zip(samples, more, strict=False))
    build_corpus(tmp_path, settings, encoder, clips_per_shard=2)
    assert len(list(read_all(tmp_path))) == 5
    with pytest.raises(InputError, match="other settings"):
        build_corpus(tmp_path, replace(settings, frames=13), encoder)
