"""Faster than exact: how far from the exact video, nothing left behind, and clear words for what can't be used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from anytalker import AnyTalkerPipeline, InputError, cli
from anytalker.hardware.acceleration import Acceleration, accelerate, ratios_for
from anytalker.miniature.demo import demo_scene

STEPS = 10
AREA = 64 * 64
"""Pixels of a small video."""
RATIOS = (1.0, *[0.93] * 15)
"""About what the miniature's blocks add at each of 16 steps, relative to the step before."""


def load(acceleration: Acceleration) -> AnyTalkerPipeline:
    pipeline = AnyTalkerPipeline.from_pretrained("tiny")
    pipeline.settings = replace(pipeline.settings, window=4, max_area=AREA)
    accelerate(pipeline.transformer, acceleration, RATIOS)
    return pipeline


def make(pipeline: AnyTalkerPipeline) -> tuple[np.ndarray, int]:
    """Frames of a video of two windows, and how often a block in the middle was computed."""
    computed: list[int] = []
    hook = pipeline.transformer.blocks[3].attn1.to_q.register_forward_hook(lambda *_: computed.append(1))
    image, boxes, voices = demo_scene(1, 1.0, 0)
    generator = torch.Generator().manual_seed(0)
    video = pipeline(image, voices, faces=boxes, max_frames=21, num_inference_steps=STEPS, generator=generator)
    hook.remove()
    return video.frames, len(computed)


@pytest.fixture(scope="module")
def exact() -> tuple[np.ndarray, int]:
    return make(load(Acceleration()))


@pytest.mark.parametrize(
    ("acceleration", "error", "share"),
    [
        (Acceleration("first-block", threshold=0.0), 1e-6, 1.0),
        (Acceleration("first-block", threshold=0.1), 2e-3, 0.95),
        (Acceleration("magcache", threshold=0.0), 1e-6, 1.0),
        (Acceleration("magcache", threshold=0.2), 0.01, 0.7),
        (Acceleration("taylorseer"), 0.03, 0.6),
    ],
)
def test_caches_leave_work_out_and_stay_near(exact, acceleration, error, share) -> None:
    pipeline = load(acceleration)
    frames, computed = make(pipeline)
    assert computed <= share * exact[1]
    assert np.abs(frames - exact[0]).mean() < error
    if share < 1:
        again, _ = make(pipeline)
        np.testing.assert_allclose(again, frames, atol=1e-4)
    hooks = [
        module._diffusers_hook.hooks for module in pipeline.transformer.modules() if hasattr(module, "_diffusers_hook")
    ]
    managers = [hook.state_manager for named in hooks for hook in named.values() if hasattr(hook, "state_manager")]
    assert managers
    assert not any(manager._state_cache for manager in managers)


def test_magcache_knows_how_many_steps_there_are() -> None:
    pipeline = load(Acceleration("magcache", threshold=10.0))
    computed: list[int] = []
    pipeline.transformer.blocks[3].attn1.to_q.register_forward_hook(lambda *_: computed.append(1))
    image, boxes, voices = demo_scene(1, 1.0, 0)
    for steps in (5, 10, 5):
        computed.clear()
        pipeline(image, voices, faces=boxes, max_frames=9, num_inference_steps=steps)
        kept = round(0.2 * steps)
        assert len(computed) == kept + (steps - kept) // 4, "MagCache computes the first fifth, then every fourth step"


@pytest.mark.parametrize("steps", [1, 4, 16, 31])
def test_ratios_fit_any_number_of_steps(steps: int) -> None:
    measured = (1.0, *np.linspace(0.97, 0.8, 15))
    ratios = ratios_for(measured, steps)
    assert len(ratios) == steps
    assert ratios[0] == 1
    if steps == 16:
        assert ratios.tolist() == pytest.approx(measured)
    if steps > 1:
        assert float(ratios.prod()) == pytest.approx(float(np.prod(measured)))


def test_magcache_counts_the_steps_of_the_sampler_for_branches_that_come_late() -> None:
    pipeline = load(Acceleration("magcache", threshold=0.0))
    seen: list[int] = []
    state = pipeline.transformer.blocks[0]._diffusers_hook.get_hook("mag_cache_leader_block_hook").state_manager
    pipeline.transformer.blocks[0].attn1.register_forward_hook(lambda *_: seen.append(state.get_state().step_index))
    image, boxes, voices = demo_scene(1, 1.0, 0)
    options = {"num_inference_steps": 4, "guidance_scale": 2.0, "guidance_interval": (0.5, 1.0)}
    pipeline(image, voices, faces=boxes, max_frames=9, **options)
    assert sorted(seen) == [0, 1, 2, 2, 3, 3]


def test_calibrating_writes_ratios_that_magcache_uses(tmp_path, monkeypatch, capsys) -> None:
    with pytest.raises(InputError, match="--compile"):
        load(Acceleration("magcache", compiled=True))
    load(Acceleration()).save_pretrained(tmp_path / "mine")
    monkeypatch.setattr("sys.argv", ["anytalker", "calibrate", str(tmp_path / "mine"), "--steps", "4"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert "Measured 4 steps: 1.000, " in capsys.readouterr().out
    pipeline = AnyTalkerPipeline.from_pretrained(tmp_path / "mine")
    ratios = pipeline.settings.magnitude_ratios
    assert len(ratios) == 4
    assert ratios[0] == 1
    assert all(0.5 < ratio < 2 for ratio in ratios)
    accelerate(pipeline.transformer, Acceleration("magcache"), ratios)
    assert pipeline.transformer.is_cache_enabled


def test_another_attention_backend_gives_the_same_numbers(exact) -> None:
    frames, _ = make(load(Acceleration(attention="_native_math")))
    assert np.abs(frames - exact[0]).max() < 1e-3


def test_compiled_blocks_are_marked_and_not_called_yet() -> None:
    transformer = load(Acceleration(compiled=True)).transformer
    assert all(block._compiled_call_impl is not None for block in transformer.blocks)


def test_what_cannot_be_used_is_named(monkeypatch) -> None:
    with pytest.raises(InputError, match="cache is 'all'; it must be one of none, first-block, magcache, taylorseer"):
        load(Acceleration(cache="all"))
    with pytest.raises(InputError, match=r"MagCache needs ratios .* anytalker calibrate"):
        accelerate(AnyTalkerPipeline.from_pretrained("tiny").transformer, Acceleration("magcache"))
    with pytest.raises(InputError, match=r"no attention backend 'quick'; there are .*flash.*native"):
        load(Acceleration(attention="quick"))
    with pytest.raises(InputError, match="attention backend sage can't be used here"):
        load(Acceleration(attention="sage"))
    pipeline = AnyTalkerPipeline.from_pretrained("tiny")
    pipeline.transformer.split_rows.devices = 2
    with pytest.raises(InputError, match="several processes"):
        accelerate(pipeline.transformer, Acceleration("first-block"))


@pytest.mark.parametrize("interval", ["0.5", "a,b", "0.5,0.2", "0,2"])
def test_bad_guidance_intervals_are_refused(interval, tmp_path, monkeypatch, capsys) -> None:
    from PIL import Image

    Image.new("RGB", (64, 64)).save(tmp_path / "one.png")
    options = ["--image", str(tmp_path / "one.png"), "--audio", "none", "--output", str(tmp_path / "a.mp4")]
    monkeypatch.setattr("sys.argv", ["anytalker", "generate", *options, "--guidance-interval", interval])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert f"--guidance-interval is '{interval}'" in capsys.readouterr().err
