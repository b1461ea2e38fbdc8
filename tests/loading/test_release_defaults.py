"""Our defaults of the full-size models beside the release's, which stand here as its files have them."""

from __future__ import annotations

import hashlib
import inspect
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from anytalker.cli.generate import generate
from anytalker.conditioning.face_detection import detectors
from anytalker.loading.components import model_settings
from anytalker.loading.presets import PRESETS
from anytalker.loading.scheduler import make_scheduler
from anytalker.models.settings import PipelineSettings
from anytalker.pipelines import ready as loading
from anytalker.pipelines.options import GenerationOptions

NEGATIVE_PROMPT_SHA256 = "3c1b589315ce40a31ee4d46bd1877730b9255a0bd02dc81512474d6289ad6cb2"
RELEASE: dict[str, dict[str, Any]] = {
    # wan/configs/shared_config.py
    "negative_prompt": {"1.3b": NEGATIVE_PROMPT_SHA256, "14b": NEGATIVE_PROMPT_SHA256},
    "text_len": {"1.3b": 512, "14b": 512},
    # README.md, the commands of both models
    "num_inference_steps": {"1.3b": 40, "14b": 20},
    "guidance_scale": {"1.3b": 4.5, "14b": 4.5},
    "fps": {"1.3b": 24, "14b": 24},
    "max_area": {"1.3b": 832 * 480, "14b": 832 * 480},
    # generate_a2v_batch_multiID.py, _validate_args, at 832*480
    "shift": {"1.3b": 3.0, "14b": 3.0},
    # wan/audio2video_multiID.py
    "size_multiple": {"1.3b": 32, "14b": 32},
    "image_size": {"1.3b": 224, "14b": 224},
    "condition": {"1.3b": "zeros", "14b": "zeros"},
    "null_text": {"1.3b": "prompt", "14b": "prompt"},
    "face_size": {"1.3b": None, "14b": None},
    "prepared": {"1.3b": "picture", "14b": "picture"},
    # wan/configs/wan_a2v_*.py
    "trained_frames": {"1.3b": 81, "14b": 81},
    "separator": {"1.3b": "Kim_Vocal_2", "14b": "Kim_Vocal_2"},
}
OURS_ALONE = {"name", "window", "window_overlap", "magnitude_ratios", "trained_on", "upscale"}
"""Settings that the release has no such thing of: it makes a video at once, at the size it is decoded."""


def row_of(name: str) -> tuple[str, str, str]:
    """What the release does, where, and what we do, as the page says it."""
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    line = next(line for line in page.splitlines() if line.startswith(f"| {name} |"))
    release, where, mine = (cell.strip() for cell in line.split("|")[2:5])
    return release, where, mine


def ours(model: str, setting: str) -> Any:
    value = getattr(PRESETS[model].settings, setting)
    return hashlib.sha256(value.encode()).hexdigest() if setting == "negative_prompt" else value


@pytest.mark.parametrize("model", ["1.3b", "14b"])
@pytest.mark.parametrize("setting", RELEASE)
def test_a_default_is_the_releases(model, setting) -> None:
    assert ours(model, setting) == RELEASE[setting][model]


def test_every_setting_is_compared() -> None:
    assert set(RELEASE) | OURS_ALONE == set(PipelineSettings.__dataclass_fields__)


def test_the_sampler_is_the_releases() -> None:
    config = make_scheduler(PRESETS["14b"].settings.shift).config
    assert (config.num_train_timesteps, config.solver_order, config.solver_type) == (1000, 2, "bh2")
    assert (config.prediction_type, config.flow_shift) == ("flow_prediction", 3.0)


def test_where_our_defaults_differ_is_known() -> None:
    options = GenerationOptions()
    assert options.mode == "pad"  # as the release's
    assert options.separate  # as the release's, once the separator is there
    assert options.rounding == "up"  # release: ((frames - 1) // 4) * 4 + 1, cut
    assert (options.guidance_interval, options.audio_guidance_scale) == ((0.0, 1.0), None)
    assert inspect.signature(generate).parameters["seed"].default == 0  # release: -1, a random one; 44 in its commands
    assert all(preset.settings.window == 20 for preset in PRESETS.values())  # release: all at once
    assert detectors.SURE == 0.65  # another detector; release: 0.3 of SCRFD's, 0.15 in its commands


def test_full_size_models_compute_in_bfloat16_on_a_gpu(monkeypatch) -> None:
    monkeypatch.setattr(loading, "model_settings", lambda model: PRESETS[model].settings)
    assert {loading.working_dtype(model, "cuda") for model in PRESETS} == {torch.bfloat16}


def test_the_negative_prompt_is_not_cut() -> None:
    prompt = PRESETS["14b"].settings.negative_prompt
    pieces = re.findall(r"\w+|[^\w\s]", prompt)  # the tokenizer itself needs a download
    assert 2 * len(pieces) + 1 < PRESETS["14b"].settings.text_len


def test_the_miniature_and_saved_folders_keep_their_own(tmp_path) -> None:
    tiny = model_settings("tiny")
    assert (tiny.negative_prompt, tiny.separator, tiny.prepared) == ("", None, "video")
    saved = replace(PRESETS["14b"].settings, negative_prompt="", num_inference_steps=40)
    saved.save(tmp_path)
    assert PipelineSettings.load(tmp_path) == saved
    assert PipelineSettings.from_dict({"name": "older"}).negative_prompt == ""


@pytest.mark.parametrize(
    ("row", "release", "mine"),
    [
        ("padding of audio", ("silence after each voice", "features of zero"), "the same"),
        ("vocal separation", ("Kim_Vocal_2",), "Kim_Vocal_2"),
        ("picture", ("without antialiasing",), "the same"),
        ("face masks", ("in the original picture",), "the same"),
    ],
)
def test_the_page_says_how_inputs_are_prepared(row, release, mine) -> None:
    given, _, own = row_of(row)
    assert all(text in given for text in release)
    assert mine in own


@pytest.mark.parametrize(
    ("setting", "row"),
    [
        ("num_inference_steps", "steps"),
        ("guidance_scale", "guidance"),
        ("fps", "frames a second"),
        ("shift", "shift"),
        ("text_len", "text"),
        ("image_size", "CLIP's input"),
    ],
)
def test_the_page_says_the_same(setting, row) -> None:
    release, _, mine = row_of(row)
    for model, value in RELEASE[setting].items():
        assert f"{value:g}" in release
        assert f"{ours(model, setting):g}" in mine
