"""One list of options for Python, files of jobs and the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anytalker import InputError
from anytalker.cli.app import app
from anytalker.cli.options import option_name, options_from
from anytalker.jobs.job import Job, read_jobs
from anytalker.loading.presets import PRESETS
from anytalker.pipelines.loading_options import LoadingOptions
from anytalker.pipelines.options import GenerationOptions, checked

GIVEN = {
    "prompt": "two people talk",
    "negative_prompt": "blur",
    "num_inference_steps": 8,
    "guidance_scale": 2.5,
    "audio_guidance_scale": 3.0,
    "voice_strengths": [1, 0.5],
    "guidance_interval": "0,0.5",
    "batch_guidance": True,
    "mode": "concat",
    "fps": 25,
    "max_frames": 81,
    "window": "20",
    "size": "832x480",
    "rounding": "release",
}


def test_the_command_line_a_job_and_python_read_the_same(tmp_path) -> None:
    python = checked(GenerationOptions, GIVEN)
    assert options_from(GenerationOptions, GIVEN | {"rounding": True, "scale": None}) == python
    path = tmp_path / "jobs.json"
    path.write_text(json.dumps({"talk": GIVEN | {"image": "two.png", "audio": ["a.wav"]}}))
    assert read_jobs(path)["talk"].options == python
    assert (python.size, python.window, python.guidance_interval) == ((832, 480), 20, (0.0, 0.5))


@pytest.mark.parametrize("kind", [GenerationOptions, LoadingOptions])
def test_every_option_is_on_the_command_line(kind) -> None:
    commands = ["generate", "batch"] if kind is LoadingOptions else ["generate"]
    for command in commands:
        said = CliRunner().invoke(app, [command, "--help"]).output
        for name in kind.model_fields:
            assert f"{option_name(name)} " in said, name


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"guidance_interval": "0.5,0.2"}, "guidance_interval is '0.5,0.2'; it must be two shares"),
        ({"window": "many"}, "window is 'many'; it must be a number of latent frames"),
        ({"window": 1024}, "from 1 to 1023"),
        ({"size": "9x9"}, "from 16 to 4096"),
        ({"size": 832}, "size is 832; it must be two whole numbers"),
        ({"size": [832, None]}, "must be two whole numbers"),
        ({"size": [832, float("inf")]}, "must be two whole numbers"),
        ({"voice_strengths": [1, 11]}, "voice_strengths is 11"),
        ({"voice_strengths": 0.5}, "voice_strengths is 0.5; it must be a list"),
        ({"voice_strengths": "1,2"}, "voice_strengths is '1,2'; it must be a list"),
        ({"num_inference_steps": 2.5}, "num_inference_steps is 2.5; it must be a whole number"),
        ({"steps": 3}, "no option 'steps'; there are prompt"),
        ({"prompt": 3}, "prompt is 3"),
    ],
)
def test_bad_values_are_named_as_they_were_given(values, reason) -> None:
    with pytest.raises(InputError, match=reason):
        checked(GenerationOptions, values)


def test_messages_have_the_names_of_the_command_line() -> None:
    with pytest.raises(InputError, match="--voice-strength is 11"):
        options_from(GenerationOptions, {"voice_strengths": [11.0]})
    with pytest.raises(InputError, match="--cache is 'all'; it must be one of none, first-block"):
        options_from(LoadingOptions, {"cache": "all"})


def test_what_is_left_open_is_the_models() -> None:
    settings = PRESETS["14b"].settings
    settled = GenerationOptions(guidance_scale=2.0).settled(settings)
    assert (settled.num_inference_steps, settled.guidance_scale, settled.audio_guidance_scale) == (20, 2.0, 2.0)
    assert settled.negative_prompt == settings.negative_prompt
    assert GenerationOptions(negative_prompt="").settled(settings).negative_prompt == ""


def test_adapters_have_a_strength() -> None:
    options = LoadingOptions(lora=["a.safetensors:0.5", "b.safetensors"])
    assert options.lora == ((Path("a.safetensors"), 0.5), (Path("b.safetensors"), 1.0))
    assert options.changes == {"lora": [["a.safetensors", 0.5], ["b.safetensors", 1.0]]}
    assert LoadingOptions(memory="low", compile=True).changes == {}
    for wrong, reason in (
        ("a.safetensors", "lora is 'a.safetensors'; it must be a list"),
        (["a:nan"], "adapter a:nan"),
    ):
        with pytest.raises(InputError, match=reason):
            checked(LoadingOptions, {"lora": wrong})


def test_a_job_has_numbers_and_masks_for_faces(tmp_path, monkeypatch) -> None:
    from PIL import Image

    Image.new("L", (64, 64), 255).save(tmp_path / "mask.png")
    job = Job(image="a.png", audio=["a.wav", None], faces=[2, "mask.png"], at=1.5).within(tmp_path)
    assert job.files() == [tmp_path / "a.png", tmp_path / "a.wav", tmp_path / "mask.png"]
    assert job.faces == [2, str(tmp_path / "mask.png")]
    other = LoadingOptions(cache="taylorseer")
    assert len({job.fingerprint("tiny"), job.fingerprint("tiny", other)}) == 2
    assert job.fingerprint("tiny") == job.fingerprint("tiny", LoadingOptions(memory="low"))
