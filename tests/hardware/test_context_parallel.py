"""One video in two processes that talk through gloo: the numbers of one process."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ContextParallelConfig
from diffusers.models._modeling_parallel import ParallelConfig, TensorParallelConfig
from PIL import Image
from safetensors.torch import load_file

from anytalker import AnyTalkerPipeline, InputError
from anytalker.hardware.context_parallel import enable_context_parallel
from anytalker.miniature.demo import demo_scene
from anytalker.models.context_parallel import RowsOfThisDevice
from tests.loading.full_size import save_small_model
from tests.processes import ended, start_together
from tests.test_cli import run

MAKE = """
import sys
from pathlib import Path
from diffusers import ContextParallelConfig
from diffusers.models._modeling_parallel import ParallelConfig
from safetensors.torch import save_file
from torch import distributed
from anytalker import InputError
from anytalker.hardware.context_parallel import enable_context_parallel
from tests.hardware.test_context_parallel import load, make_frames

distributed.init_process_group("gloo")
for name in sys.argv[2:]:
    pipeline, config = load(name), ContextParallelConfig(ulysses_degree=2)
    if name.endswith("A"):
        pipeline.transformer.enable_parallelism(config=config)
    elif name.endswith("B"):
        pipeline.transformer.enable_parallelism(config=ParallelConfig(context_parallel_config=config))
    else:
        enable_context_parallel(pipeline.transformer)
    try:
        pipeline.transformer.enable_parallelism(config=config)
        sys.exit("shared twice")
    except InputError as error:
        assert "2 devices share this transformer already" in str(error)
    path = Path(sys.argv[1]) / f"{Path(name).name}.{distributed.get_rank()}.safetensors"
    save_file({"frames": make_frames(pipeline)}, path)
distributed.destroy_process_group()
"""
COMMAND = """
from anytalker.cli import main
main()
"""


def load(name: str) -> AnyTalkerPipeline:
    pipeline = AnyTalkerPipeline.from_pretrained(name)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.settings = replace(pipeline.settings, size_multiple=32)  # what two processes take
    if pipeline.settings.window:
        pipeline.settings = replace(pipeline.settings, window=4, window_overlap=2, max_area=64 * 96)
    return pipeline


def make_frames(pipeline: AnyTalkerPipeline) -> torch.Tensor:
    """Two people whose faces lie on the rows of both processes; three windows of the miniature."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (64, 96, 3), dtype=np.uint8))
    boxes, voices = [(8, 4, 20, 20), (50, 14, 36, 36)], [rng.normal(0, 0.1, 16000).astype(np.float32), None]
    if pipeline.settings.window:
        image, boxes, voices = demo_scene(2, 1.4, 0)
    prepared = pipeline.prepare(
        image,
        voices,
        faces=boxes,
        prompt="two people",
        upscale=False,
        num_inference_steps=2,
        guidance_scale=2.0,
        max_frames=29 if pipeline.settings.window else 9,
        generator=torch.Generator().manual_seed(0),
    )
    return torch.from_numpy(np.concatenate(list(prepared.decode(prepared.denoise())))).contiguous()


@pytest.mark.slow
def test_two_processes_make_the_video_of_one(tmp_path) -> None:
    models = ["tiny"]
    for layout in ("A", "B"):
        models.append(str(save_small_model(tmp_path / layout, layout)))
    codes, errors = ended(start_together(MAKE, 2, str(tmp_path), *models))
    assert codes == [0, 0], errors
    for model in models:
        alone = make_frames(load(model))
        assert alone.std() > 0.01
        for rank in (0, 1):
            together = load_file(tmp_path / f"{Path(model).name}.{rank}.safetensors")["frames"]
            assert (together - alone).abs().max() < 1e-5


@pytest.mark.slow
def test_the_command_line_in_two_processes(tmp_path, write_wave, tone, monkeypatch) -> None:
    assert run("miniature", "picture", "--persons", "1", "--output", tmp_path / "one.png") == 0
    box = ",".join(map(str, json.loads((tmp_path / "one.json").read_text())["persons"][0]["box_xywh"]))
    options = ["--image", "one.png", "--audio", "voice.wav", "--face", box, "--steps", "1", "--max-frames", "9"]
    write_wave(tone[:8000], "voice.wav")
    monkeypatch.chdir(tmp_path)
    ended_as = [process.end() for process in start_together(COMMAND, 2, "generate", *options)]
    assert [code for code, _, _ in ended_as] == [0, 0], ended_as
    assert "".join(said for _, said, _ in ended_as).count("Wrote talk.mp4") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"one.png", "one.json", "voice.wav", "talk.mp4", "talk.json"}


def test_what_cannot_be_shared_is_named() -> None:
    with pytest.raises(InputError, match="torchrun"):
        enable_context_parallel(load("tiny").transformer)
    share = load("tiny").transformer.enable_parallelism
    for config, reason in (
        (ContextParallelConfig(ulysses_degree=2), "torchrun"),
        (ContextParallelConfig(ulysses_degree=5), "attention heads, which 5 devices can't share"),
        (ContextParallelConfig(ring_degree=2), "ring_degree is 2; .* use ulysses_degree alone"),
        (ContextParallelConfig(ulysses_degree=2, ulysses_anything=True), "ulysses_anything is True"),
        (TensorParallelConfig(tp_degree=2), "TensorParallelConfig can't be used"),
        (ParallelConfig(tensor_parallel_config=TensorParallelConfig(tp_degree=2)), "ParallelConfig can't be used"),
    ):
        with pytest.raises(InputError, match=reason):
            share(config=config)
    with pytest.raises(InputError, match="cp_plan can't be chosen"):
        share(config=ContextParallelConfig(ulysses_degree=2), cp_plan={})
    rows = RowsOfThisDevice()
    rows.check(7)
    rows.devices = 4
    with pytest.raises(InputError, match=r"480 pixels high; 4 devices .* multiples of 64"):
        rows.check(30)
