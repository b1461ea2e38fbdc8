"""Ways to save memory: those that move weights change nothing, those that shrink them change little."""

from __future__ import annotations

import builtins
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from anytalker import AnyTalkerPipeline, InputError
from anytalker.doctor.advice import advice
from anytalker.doctor.memory import transformer_bytes
from anytalker.doctor.report import GPU_REST, Machine, plan_video
from anytalker.hardware.placement import Placement, place, stream_layers
from tests.loading.full_size import save_small_model
from tests.pipelines.test_diffusers_contract import NO_STREAMS, STREAMS

GIB = 2**30


@pytest.fixture(scope="module", params=["A", "B"])
def model(request, tmp_path_factory) -> Path:
    """A small model of each layout, of the full-size models' classes."""
    return save_small_model(tmp_path_factory.mktemp("small"), request.param)


def load(model: Path) -> AnyTalkerPipeline:
    pipeline = AnyTalkerPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate(pipeline: AnyTalkerPipeline) -> np.ndarray:
    rng = np.random.default_rng(0)
    video = pipeline(
        Image.fromarray(rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)),
        [rng.normal(0, 0.1, 16000).astype(np.float32), None],
        faces=[(8, 16, 30, 30), (56, 16, 30, 30)],
        prompt="two people",
        max_frames=5,
        guidance_scale=2.0,
        generator=torch.Generator().manual_seed(0),
    )
    return video.frames


@pytest.fixture(scope="module")
def expected(model) -> np.ndarray:
    """The video of a model of which everything stays where it is."""
    return generate(load(model))


@pytest.mark.skipif(not STREAMS, reason=NO_STREAMS)
def test_layers_that_come_one_by_one_give_the_same_video(model, expected) -> None:
    streamed = load(model)
    moved: list[str] = []
    for index, block in enumerate(streamed.transformer.blocks):
        block.register_forward_pre_hook(lambda *_, index=index: moved.append(f"block {index}"))
    stream_layers(streamed, torch.device("cpu")).memory = "low"
    assert np.abs(generate(streamed) - expected).max() < 1e-5
    assert moved.count("block 0") == moved.count("block 1") == 4
    hooked = [name for name, part in streamed.transformer.named_modules() if hasattr(part, "_diffusers_hook")]
    assert {"blocks.0", "blocks.1"} <= set(hooked)


def test_parts_that_come_one_by_one_give_the_same_video_again_and_again(model, expected) -> None:
    pipeline = load(model)
    pipeline.enable_model_cpu_offload(device="cpu")
    pipeline.memory = "balanced"
    assert np.abs(generate(pipeline) - expected).max() < 1e-5
    assert np.abs(generate(pipeline) - expected).max() < 1e-5


@pytest.mark.parametrize("weights", ["float8", "int8"])
def test_small_weights_change_the_video_a_little(model, expected, weights) -> None:
    if weights == "int8":
        pytest.importorskip("torchao")
    small = place(load(model), "cpu", Placement(weights=weights))
    stored = [
        f"{type(parameter.data).__name__} {parameter.dtype}" for parameter in small.transformer.blocks.parameters()
    ]
    assert any({"float8": "float8", "int8": "Int8"}[weights] in kind for kind in stored)
    assert 0 < np.abs(generate(small) - expected).mean() < 0.05 * expected.std()


def test_words_that_are_no_placement_are_refused() -> None:
    with pytest.raises(InputError, match="memory is 'tiny'; it must be one of high, balanced, low"):
        Placement(memory="tiny")
    with pytest.raises(InputError, match="weights is 'int4'"):
        Placement(weights="int4")


def test_missing_torchao_is_named(monkeypatch, model) -> None:
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith("torchao"):
            raise ImportError(name)
        return real(name, *rest, **more)

    pipeline = load(model)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="anytalker\\[quantize\\]"):
        place(pipeline, "cpu", Placement(weights="int8"))


def test_plans_know_what_is_on_the_card() -> None:
    card = Machine("cuda", 24 * GIB, GIB)
    ways = [Placement(memory) for memory in ("high", "balanced", "low")]
    peaks = [plan_video("14b", card, (832, 480), 3.4, 2, way)[0].peak for way in ways]
    assert peaks[0] > peaks[1] > card.memory > peaks[2]
    assert "--memory low" in advice("14b", card, (832, 480), 3.4, 2)
    small = plan_video("1.3b", card, (832, 480), 3.4, 2, Placement("balanced"))[0]
    assert small.weights["text encoder"] < small.peak < 0.8 * plan_video("1.3b", card, (832, 480), 3.4, 2)[0].peak


@pytest.mark.parametrize(
    ("model", "memory", "measured"), [("1.3b", "high", 29.22), ("14b", "high", 65.49), ("14b", "low", 13.16)]
)
def test_peaks_are_expected_where_a_gpu_had_them(model: str, memory: str, measured: float) -> None:
    """GiB of an H200, docs/measurements/gpu.md; with `--memory low` that of ten blocks, which is that of all."""
    card = Machine("cuda", 140 * GIB, GPU_REST)
    plan, _, frames = plan_video(model, card, (832, 480), 3.375, 2, Placement(memory))
    assert frames == 81
    assert plan.peak / GIB == pytest.approx(measured, rel=0.05)


def test_eight_bits_halve_what_sixteen_take() -> None:
    full = transformer_bytes({}, torch.bfloat16)
    assert 0.5 < transformer_bytes({}, torch.bfloat16, Placement(weights="float8")) / full < 0.62


def test_contexts_wait_for_an_offloaded_transformer(model) -> None:
    """What offloading hooks to the call of a model must happen before its keys and values are made."""
    pipeline = load(model)
    transformer, order = pipeline.transformer, []
    transformer._hf_hook = SimpleNamespace(pre_forward=lambda module: order.append("placed"))
    made = transformer.make_context
    transformer.make_context = lambda *streams, **more: (order.append("made"), made(*streams, **more))[1]
    generate(pipeline)
    assert order[:2] == ["placed", "made"]
