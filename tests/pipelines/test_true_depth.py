"""Everything that is done with full-size models, at their true depth and a small width: 30 and 40 blocks."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from anytalker import AnyTalkerPipeline, InputError, cli
from anytalker.hardware.acceleration import Acceleration
from anytalker.hardware.placement import Placement, stream_layers
from anytalker.jobs.job import Job
from anytalker.jobs.workers import make_video
from anytalker.loading.convert import convert
from anytalker.models.conversion import to_release
from anytalker.models.settings import SETTINGS_FILE
from anytalker.models.transformer import AnyTalkerTransformer3DModel
from anytalker.pipelines.calibration import measure_magnitudes, write_magnitudes
from anytalker.pipelines.loading_options import LoadingOptions
from anytalker.pipelines.ready import load_pipeline
from tests.loading.full_size import save_small_model, small_parts
from tests.loading.published import wan_clip, wan_t5, wan_vae
from tests.pipelines.test_diffusers_contract import NO_STREAMS, STREAMS

pytestmark = pytest.mark.slow

DEPTH = {"A": 30, "B": 40}
WINDOWS = {"window": 2, "window_overlap": 1, "trained_frames": 9}
FACES = [(8, 16, 30, 30), (56, 16, 30, 30)]
HALF_PSNR = 50.0
"""dB at least between a video in bfloat16 and the one in float32."""


@pytest.fixture(scope="module", params=["A", "B"])
def model(request, tmp_path_factory) -> Path:
    """A model of each layout, as deep as the released one."""
    return save_small_model(tmp_path_factory.mktemp(request.param), request.param, DEPTH[request.param], **WINDOWS)


def inputs(frames: int = 5) -> dict:
    rng = np.random.default_rng(0)
    return {
        "image": Image.fromarray(rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)),
        "audio": [rng.normal(0, 0.1, 16000).astype(np.float32), None],
        "faces": FACES,
        "prompt": "two people",
        "max_frames": frames,
        "guidance_scale": 2.0,
    }


def make(pipeline: AnyTalkerPipeline, frames: int = 5, **options) -> np.ndarray:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(**inputs(frames) | options, generator=torch.Generator().manual_seed(0)).frames


def psnr(one: np.ndarray, two: np.ndarray) -> float:
    """Decibels relative to the range that the reference fills, since untrained models make flat videos."""
    return float(20 * np.log10(np.ptp(two) / max(1e-9, np.sqrt(np.square(one - two).mean()))))


@pytest.mark.parametrize("model", ["A"], indirect=True)
def test_windows_and_half_precision(model, tmp_path) -> None:
    pipeline = AnyTalkerPipeline.from_pretrained(model)
    exact = make(pipeline, 13, num_inference_steps=1)
    assert np.abs(exact - make(pipeline, 13, num_inference_steps=1, window="none")).max() > 1e-4
    half = AnyTalkerPipeline.from_pretrained(model, torch_dtype=torch.bfloat16)
    assert psnr(make(half, 13, num_inference_steps=1), exact) > HALF_PSNR
    said: list[str] = []
    made = half.generate_to(tmp_path / "talk.mp4", say=said.append, **inputs(17), num_inference_steps=1)
    assert said == [
        "The video has 17 frames; the model was trained on 9. It is made in 3 windows (--window none makes it at once, "
        "as the release does)."
    ]
    assert made.choices["window"] == 2


@pytest.mark.parametrize(
    ("model", "dtype"), [("A", torch.bfloat16), ("B", torch.float32)], indirect=["model"], ids=["A-half", "B-float"]
)
def test_less_memory_gives_the_same_video(model, dtype) -> None:
    low, balanced = (AnyTalkerPipeline.from_pretrained(model, torch_dtype=dtype) for _ in range(2))
    exact = make(low, num_inference_steps=1)
    balanced.enable_model_cpu_offload(device="cpu")
    balanced.memory = "balanced"
    assert psnr(make(balanced, num_inference_steps=1), exact) > 80
    if not STREAMS:
        pytest.skip(NO_STREAMS)
    stream_layers(low, torch.device("cpu")).memory = "low"
    assert psnr(make(low, num_inference_steps=1), exact) > 80


@pytest.mark.parametrize("model", ["A"], indirect=True)
def test_caches_adapters_and_small_weights(model, tmp_path) -> None:
    own = shutil.copytree(model, tmp_path / "own")
    pipeline = AnyTalkerPipeline.from_pretrained(own)
    options = {"num_inference_steps": 4, "guidance_scale": 1.0}
    exact = make(pipeline, **options)
    calibration = {key: value for key, value in inputs().items() if key not in ("image", "audio")}
    calibration["guidance_scale"] = 1.0
    ratios = measure_magnitudes(pipeline, inputs()["image"], inputs()["audio"], steps=4, **calibration)
    write_magnitudes(pipeline, own / SETTINGS_FILE, ratios)
    for cache in ("first-block", "magcache", "taylorseer"):
        frames = make(load_pipeline(str(own), "cpu", acceleration=Acceleration(cache)), **options)
        assert np.abs(frames - exact).mean() < 0.1 * exact.std(), cache
    generator = torch.Generator().manual_seed(0)
    last = f"blocks.{len(pipeline.transformer.blocks) - 1}.attn1.to_q"
    down, up = (0.3 * torch.randn(shape, generator=generator) for shape in ((2, 48), (48, 2)))
    save_file({f"{last}.lora_A.weight": down, f"{last}.lora_B.weight": up}, tmp_path / "adapter.safetensors")
    adapted = load_pipeline(
        str(own), "cpu", Placement(weights="float8"), adapters=[(tmp_path / "adapter.safetensors", 1)]
    )
    assert 0 < np.abs(make(adapted, **options) - exact).mean() < 0.2 * exact.std()


def test_conversion_there_and_back(model, tmp_path) -> None:
    convert(model / "transformer", tmp_path / "release.pth")
    convert(tmp_path / "release.pth", tmp_path / "back")
    first, second = (
        AnyTalkerTransformer3DModel.from_pretrained(folder).state_dict()
        for folder in (model / "transformer", tmp_path / "back")
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.mark.parametrize("model", ["A"], indirect=True)
def test_the_command_line(model, tmp_path, write_wave, tone, monkeypatch, capsys) -> None:
    inputs()["image"].save(tmp_path / "two.png")
    voice = write_wave(tone)
    faces = [argument for box in FACES for argument in ("--face", ",".join(map(str, box)))]
    video = ["--image", str(tmp_path / "two.png"), "--audio", str(voice), "--audio", "none", *faces]
    video += ["--model", str(model), "--steps", "1", "--output", str(tmp_path / "talk.mp4"), "--device", "cpu"]

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["anytalker", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out + shown.err

    code, said = run("generate", *video, "--max-frames", "13")
    assert code == 0, said
    assert "trained on 9. It is made in 2 windows" in said
    assert json.loads((tmp_path / "talk.json").read_text())["settings"]["window"] == 2
    for window in ("0", "many", "1024"):
        code, said = run("generate", *video, "--force", "--window", window)
        assert code == 2
        assert window in said
    code, said = run("doctor", "--model", str(model), "--seconds", "10")
    assert code == 0
    assert "It fits" in said
    job = Job(image=tmp_path / "two.png", audio=[voice, None], faces=FACES, steps=1, max_frames=13, window="none")
    assert make_video(str(model), "cpu", LoadingOptions(), job, tmp_path / "job.mp4") is None
    assert json.loads((tmp_path / "job.json").read_text())["settings"]["window"] is None


def test_the_releases_own_layout_in_half_precision(tmp_path) -> None:
    parts = small_parts("B", DEPTH["B"])
    wan, own = tmp_path / "Wan2.1-Fun-1.3B-Inp", tmp_path / "AnyTalker"
    wan.mkdir()
    own.mkdir()
    torch.save(wan_t5(parts["text_encoder"]), wan / "models_t5_umt5-xxl-enc-bf16.pth")
    torch.save(wan_clip(parts["image_encoder"]), wan / "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth")
    torch.save(wan_vae(parts["vae"]), wan / "Wan2.1_VAE.pth")
    parts["tokenizer"].save_pretrained(wan / "google" / "umt5-xxl")
    parts["audio_features"].save_pretrained(tmp_path / "wav2vec2-base-960h")
    weights, config = to_release(parts["transformer"])
    torch.save({"model": weights}, own / "14B-multi-v1.pth")
    (own / "config_af2v_14B.json").write_text(json.dumps(config))
    videos = []
    for dtype in (torch.float32, torch.bfloat16):
        pipeline = AnyTalkerPipeline.from_pretrained(tmp_path, torch_dtype=dtype)
        assert (pipeline.settings.window, pipeline.settings.trained_frames) == (20, 81)
        assert pipeline.transformer.rope.freqs_cos.dtype == torch.float32
        pipeline.settings = replace(pipeline.settings, max_area=64 * 96, image_size=28, num_inference_steps=2)
        videos.append(make(pipeline))
    assert psnr(videos[1], videos[0]) > HALF_PSNR
    with pytest.raises(InputError, match=r"1025 latent frames .* at most 4093 frames. Give --window 20"):
        pipeline.prepare(
            inputs()["image"],
            [np.ones(16000 * 172, np.float32)],
            faces=FACES[:1],
            fps=24,
            window="none",
            max_frames=4097,
        )
