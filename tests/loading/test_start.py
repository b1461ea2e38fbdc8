"""The way into stage 1: a whole model whose voices move nothing yet, made from one without voices."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from anytalker import AnyTalkerPipeline, InputError
from anytalker.cli.app import app
from anytalker.loading.components import model_folder
from anytalker.loading.start import start_from_wan
from anytalker.miniature.demo import demo_scene


def test_a_started_model_is_whole_and_deaf(tmp_path) -> None:
    lines: list[str] = []
    start_from_wan(model_folder("tiny"), "tiny", tmp_path / "start", log=lines.append)
    assert json.loads((tmp_path / "start" / "anytalker.json").read_text())["magnitude_ratios"] == []
    pipe = AnyTalkerPipeline.from_pretrained(tmp_path / "start")
    pipe.set_progress_bar_config(disable=True)
    assert pipe.settings.name == "start"
    picture, faces, voices = demo_scene(2, 0.5, 0)
    spoken, silent = (
        pipe(picture, heard, faces=faces, generator=torch.Generator().manual_seed(0), max_frames=13).frames
        for heard in (voices, [None, voices[1]])
    )
    np.testing.assert_array_equal(spoken, silent)
    assert "transformer" in lines[0]
    assert any("vae of tiny" in line for line in lines)


def test_parts_that_models_share_are_not_copied(tmp_path) -> None:
    shutil.copytree(model_folder("tiny"), tmp_path / "known")
    shutil.move(tmp_path / "known" / "vae", tmp_path / "shared" / "vae")
    start_from_wan(tmp_path / "known", str(tmp_path / "known"), tmp_path / "start", log=lambda line: None)
    assert not (tmp_path / "start" / "vae").exists()
    assert (tmp_path / "start" / "text_encoder").exists()
    AnyTalkerPipeline.from_pretrained(tmp_path / "start")


def test_what_can_not_be_started_from_is_said_and_models_are_kept(tmp_path) -> None:
    tiny = model_folder("tiny")
    with pytest.raises(InputError, match="There is no checkpoint"):
        start_from_wan(tmp_path / "nowhere", "tiny", tmp_path / "start")
    assert not (tmp_path / "start").exists()
    before = (shutil.copytree(tiny, tmp_path / "mine") / "anytalker.json").read_bytes()
    answer = CliRunner().invoke(app, ["train", "start", str(tiny), str(tmp_path / "mine"), "--like", "tiny"])
    assert answer.exit_code != 0
    assert (tmp_path / "mine" / "anytalker.json").read_bytes() == before
    assert isinstance(answer.exception, InputError)
    assert "holds a model already" in str(answer.exception)


def test_the_command_says_what_to_do_next(tmp_path) -> None:
    answer = CliRunner().invoke(
        app, ["train", "start", str(model_folder("tiny")), str(tmp_path / "a"), "--like", "tiny"]
    )
    assert answer.exit_code == 0
    assert f"model: {tmp_path / 'a'}" in answer.output
