"""The nodes in ComfyUI's contract: both example workflows, against the command line; progress and stopping."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anytalker.media.recordings import SAMPLE_RATE
from anytalker.media.video import read_video, write_video
from anytalker.miniature.demo import write_picture
from anytalker.miniature.voices.speech import random_utterance
from comfyui import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from comfyui.nodes import to_picture, to_samples
from tests.comfyui.executor import Comfy, InterruptProcessingException, built_in, run_workflow
from tests.test_cli import run

PACK = Path(__file__).parents[2] / "comfyui"
FRAMES, SEED, STEPS = 9, 1, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Pictures of one and two people, without records of their faces, and a recording."""
    from anytalker.media.recordings import write_wave

    folder = tmp_path_factory.mktemp("input")
    for name, persons in (("one.png", 1), ("two.png", 2)):
        write_picture(persons, 1_000_003, folder / name)
        (folder / name).with_suffix(".json").unlink()
    said = random_utterance(np.random.default_rng(3), 0.7, 1.0)
    write_wave(folder / "anna.wav", said.waveform, 22050)
    return folder


@pytest.fixture
def comfy(monkeypatch):
    """Comfy's modules, with a stop button."""

    def start(stop_at: int | None = None) -> Comfy:
        comfy = Comfy(stop_at)
        for name, module in comfy.modules().items():
            monkeypatch.setitem(sys.modules, name, module)
        return comfy

    return start


def workflow(name: str, **changes) -> dict:
    """A workflow of the pack, made short."""
    read = json.loads((PACK / "example_workflows" / name).read_text())
    (sampler,) = [node for node in read["nodes"] if node["type"] == "AnyTalkerSampler"]
    assert sampler["widgets_values"][1] == SEED
    sampler["widgets_values"][3], sampler["widgets_values"][5] = STEPS, FRAMES
    return read


def test_sides_that_cancel_each_other_out_are_heard() -> None:
    side = torch.from_numpy(0.4 * np.sin(np.arange(16000, dtype=np.float32) / 20))
    heard = to_samples({"waveform": torch.stack([side, -side])[None], "sample_rate": SAMPLE_RATE})
    assert abs(heard).max() > 0.3


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("single.json", ["--image", "one.png", "--audio", "anna.wav"]),
        ("duo_with_a_listener.json", ["--image", "two.png", "--audio", "anna.wav", "--audio", "none"]),
    ],
)
def test_a_workflow_gives_the_frames_of_the_command_line(folder, tmp_path, monkeypatch, comfy, name, arguments) -> None:
    saved: list[dict] = []
    host = comfy()
    run_workflow(workflow(name), NODE_CLASS_MAPPINGS | built_in(folder, saved))
    (video,) = saved
    assert video["images"].shape[0] == FRAMES
    assert video["fps"] == 24
    assert video["audio"]["waveform"].shape == (1, 1, round(FRAMES / 24 * SAMPLE_RATE))
    assert (0, 1) in host.shown
    assert any(value == total > 1 for value, total in host.shown)
    monkeypatch.chdir(folder)
    end = [
        "--seed",
        SEED,
        "--steps",
        STEPS,
        "--max-frames",
        FRAMES,
        "--device",
        "cpu",
        "--output",
        tmp_path / "talk.mp4",
    ]
    assert run("generate", *arguments, *end) == 0
    write_video(tmp_path / "comfy.mp4", video["images"].numpy(), 24.0, video["audio"]["waveform"][0, 0].numpy())
    expected, shown = read_video(tmp_path / "talk.mp4")[0], read_video(tmp_path / "comfy.mp4")[0]
    np.testing.assert_array_equal(shown, expected)


def test_stopping_ends_the_sampler(folder, comfy) -> None:
    comfy(stop_at=3)
    saved: list[dict] = []
    with pytest.raises(InterruptProcessingException):
        run_workflow(workflow("single.json"), NODE_CLASS_MAPPINGS | built_in(folder, saved))
    assert saved == []


@pytest.mark.parametrize("path", sorted(PACK.glob("example_workflows/*.json")), ids=lambda path: path.stem)
def test_the_editor_takes_a_workflow_and_shows_its_picture(path) -> None:
    assert uuid.UUID(json.loads(path.read_text())["id"])  # it complains of any other name
    with Image.open(path.with_suffix(".jpg")) as shown:
        assert shown.width == 480


def test_every_node_keeps_the_contract() -> None:
    assert set(NODE_CLASS_MAPPINGS) == set(NODE_DISPLAY_NAME_MAPPINGS)
    for name, kind in NODE_CLASS_MAPPINGS.items():
        inputs = kind.INPUT_TYPES()
        assert set(inputs) <= {"required", "optional", "hidden"}, name
        assert len(kind.RETURN_TYPES) == len(kind.RETURN_NAMES)
        assert callable(getattr(kind, kind.FUNCTION))
        assert kind.CATEGORY == "AnyTalker"


def test_the_pack_imports_without_comfy_and_without_the_model() -> None:
    code = "import comfyui, sys; print(sorted({'torch', 'diffusers', 'comfy', 'anytalker'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PACK.parent, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_faces_are_chosen_and_drawn(folder) -> None:
    classes = NODE_CLASS_MAPPINGS | built_in(folder, [])
    image = classes["LoadImage"]().load("two.png")[0]
    boxes, preview, text = classes["AnyTalkerFindFaces"]().find(image)
    assert len(boxes) == 2
    assert boxes[0][0] < boxes[1][0]
    assert preview.shape == image.shape
    assert not torch.equal(preview, image)
    turned = classes["AnyTalkerFindFaces"]().find(image, "2\n1")[0]
    assert turned == boxes[::-1]
    given = classes["AnyTalkerFindFaces"]().find(image, text)[0]
    assert given == boxes


def test_a_script_becomes_voices() -> None:
    voices, timeline = NODE_CLASS_MAPPINGS["AnyTalkerTimeline"]().speak("Anna: Hello!\nBen: Oh, hi.")
    assert [person["name"] for person in json.loads(timeline)["people"]] == ["Anna", "Ben"]
    assert len(voices) == 2
    assert all(voice.dtype == np.float32 and np.abs(voice).max() > 0.01 for voice in voices)


def test_sound_and_pictures_are_what_they_were() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(to_picture(torch.from_numpy(pixels.astype(np.float32) / 255)[None])), pixels)
    tone = np.sin(2 * np.pi * 200 * np.arange(44100) / 44100).astype(np.float32)
    both = to_samples({"waveform": torch.from_numpy(np.stack([tone, tone]))[None], "sample_rate": 44100})
    assert abs(len(both) - SAMPLE_RATE) <= 32
    middle = slice(2000, 14000)
    expected = np.sin(2 * np.pi * 200 * np.arange(len(both)) / SAMPLE_RATE)
    assert np.abs(both[middle] - expected[middle]).max() < 0.02
