"""Vocal separation on the way of a full-size model's voices, with networks of the real format."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from anytalker import AnyTalkerPipeline
from anytalker.cli import app
from anytalker.conditioning import separation
from anytalker.loading.components import find_model
from anytalker.loading.separator import find_separator, separator_path
from anytalker.pipelines import separators
from tests.conditioning import test_separation as networks
from tests.loading.full_size import save_small_model

NAME = "Kim_Vocal_2"
FACES = [(10, 10, 40, 40), (80, 12, 36, 36)]


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    """As Kim_Vocal_2 but for fewer frames: 3072 bins of 7680 samples; it lets what is below 2 kHz through."""
    path = tmp_path_factory.mktemp("network") / f"{NAME}.onnx"
    return networks.write_network(path, slice(2000 * 7680 // 44100), ("batch", 4, 3072, 16))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_small_model(
        tmp_path_factory.mktemp("model") / "small", separator=NAME, num_inference_steps=1, max_area=64 * 96
    )


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ANYTALKER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def installed(home, network) -> Path:
    path = separator_path(NAME)
    path.parent.mkdir(parents=True)
    return Path(shutil.copy(network, path))


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.effect_noise((150, 100), 60).convert("RGB")


NOISY, CLEAN = networks.tones(16000, 0.5, 500, 5000), networks.tones(16000, 0.5, 500)


def heard(pipeline: AnyTalkerPipeline, picture: Image.Image, **options) -> tuple[torch.Tensor, dict, str]:
    """What the transformer hears, what the record says, and what is said."""
    made = pipeline.prepare(picture, [NOISY, None], FACES, guidance_scale=1.0, **options)
    return made.conditioning.audio_embeds.rows, dict(made.choices), made.remark


def test_voices_are_taken_out_of_their_recordings(model, picture, installed, error) -> None:
    pipeline = AnyTalkerPipeline.from_pretrained(model)
    assert pipeline.separator_file == installed
    rows, choices, remark = heard(pipeline, picture)
    assert (choices["separation"], remark) == (NAME, "")
    as_they_are, choices, remark = heard(pipeline, picture, separate=False)
    assert (choices["separation"], remark) == ("off", "")
    clean = pipeline.prepare(picture, [CLEAN, None], FACES, separate=False).conditioning.audio_embeds.rows
    assert error(rows[0], clean[0]) < 0.2 < 0.5 < error(as_they_are[0], clean[0])
    assert not rows[1].any(), "who has no voice has none to be taken out"
    video = pipeline.prepare(picture, [NOISY, None], FACES, guidance_scale=1.0)
    np.testing.assert_array_equal(video.inputs.voices[0].waveform[: len(NOISY)], NOISY)  # the video's sound


@pytest.mark.parametrize(("runtime", "file"), [(True, False), (False, True), (False, False)])
def test_what_is_missing_is_said_and_voices_are_used_as_they_are(
    model, picture, installed, monkeypatch, runtime, file
) -> None:
    monkeypatch.setattr(separators, "can_separate", lambda: runtime)
    if not file:
        installed.unlink()
    pipeline = AnyTalkerPipeline.from_pretrained(model)
    rows, choices, remark = heard(pipeline, picture)
    assert torch.equal(rows, heard(pipeline, picture, separate=False)[0])
    assert choices["separation"] == "missing"
    assert "\n" not in remark
    assert ("anytalker[separate]" in remark, "anytalker download separator" in remark) == (not runtime, not file)


def test_a_separator_lies_beside_the_model_as_in_the_releases_tree(model, network, tmp_path) -> None:
    folder = tmp_path / "checkpoints" / "small"
    shutil.copytree(model, folder)
    found = find_model(folder)
    assert find_separator(found, NAME) is None
    beside = folder.parent / "vocal_separator" / network.name
    beside.parent.mkdir()
    shutil.copy(network, beside)
    assert find_separator(found, NAME) == beside
    assert find_separator(found, None) is None


def test_the_miniature_hears_recordings_as_they_are(picture, installed) -> None:
    pipeline = AnyTalkerPipeline.from_pretrained("tiny")
    assert pipeline.separator_file is None
    made = pipeline.prepare(picture, [NOISY, None], FACES)
    assert "separation" not in made.choices
    assert all(voice.vocals is None for voice in made.inputs.voices)
    assert made.remark == ""


def test_the_command_line_says_it_in_a_line_and_the_record_what_was_done(
    model, picture, installed, tmp_path, write_wave
) -> None:
    picture.save(tmp_path / "two.png")
    faces = [word for face in FACES for word in ("--face", ",".join(map(str, face)))]
    arguments = ["generate", "--image", str(tmp_path / "two.png"), "--audio", str(write_wave(NOISY)), "--audio", "none"]
    arguments += [*faces, "--model", str(model), "--device", "cpu", "--guidance-scale", "1", "--max-frames", "5"]

    def run(name: str, *more: str) -> tuple[str, str]:
        result = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / f"{name}.mp4"), *more])
        assert result.exit_code == 0, result.output
        record = json.loads((tmp_path / f"{name}.json").read_text())
        return result.output, record["settings"]["separation"]

    assert run("separated")[1] == NAME
    installed.unlink()
    output, done = run("missing")
    assert done == "missing"
    assert sum("Voices are used as they are" in line for line in output.splitlines()) == 1
    output, done = run("off", "--no-separate")
    assert (done, "Voices are used" in output) == ("off", False)


def test_whether_onnxruntime_is_there_is_known_without_loading_it(monkeypatch) -> None:
    assert separation.can_separate()
    monkeypatch.setattr(separation.importlib.util, "find_spec", lambda name: None)
    assert not separation.can_separate()
