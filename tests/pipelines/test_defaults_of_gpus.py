"""What is chosen on a GPU without being asked for, and only there."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import nn

from anytalker import AnyTalkerPipeline, InputError
from anytalker.denoising.guidance import Guidance
from anytalker.hardware import acceleration
from anytalker.hardware.acceleration import Acceleration, best_attention, compiling_pays, set_decoder_precision
from anytalker.hardware.placement import Placement
from anytalker.miniature.demo import demo_scene
from anytalker.models.latents import decode_chunks, encode_video
from anytalker.pipelines import pipeline
from anytalker.pipelines.ready import load_pipeline
from tests.denoising.test_wavefront import MODEL, Denoiser, conditioning, make_scheduler

GPU, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.mark.parametrize(
    ("heads", "passes", "device", "tools", "pays"),
    [
        (12, 160, GPU, True, True),
        (12, 159, GPU, True, False),
        (40, 50, GPU, True, True),
        (40, 49, GPU, True, False),
        (2, 10_000, GPU, True, False),
        (12, 10_000, CPU, True, False),
        (12, 10_000, GPU, False, False),
    ],
)
def test_compiling_pays_from_the_measured_number_of_passes(heads, passes, device, tools, pays, monkeypatch) -> None:
    monkeypatch.setattr(acceleration, "can_compile", lambda: tools)
    model = SimpleNamespace(config=SimpleNamespace(num_attention_heads=heads, attention_head_dim=128))
    assert compiling_pays(model, passes, device) is pays


def test_passes_are_those_that_are_taken(monkeypatch) -> None:
    whole, taken = conditioning(9), []
    denoiser = Denoiser(MODEL, make_scheduler(3.0), 4, Guidance(2.0, 3.0, interval=(0.0, 0.5)), 4, 2)
    forward = MODEL.forward
    monkeypatch.setattr(MODEL, "forward", lambda *given, **named: taken.append(1) or forward(*given, **named))
    denoiser(torch.randn(1, 16, 9, 8, 8), whole)
    assert denoiser.passes(whole) == len(taken) == 3 * (2 * 3 + 2)


def test_a_pipeline_compiles_where_it_pays_and_says_so(monkeypatch) -> None:
    image, boxes, voices = demo_scene(1, 0.4, 0)
    asked: list[int] = []
    monkeypatch.setattr(pipeline, "compiling_pays", lambda model, passes, device: asked.append(passes) or passes > 2)

    def prepared(loaded: AnyTalkerPipeline, steps: int):
        return loaded.prepare(image, voices, faces=boxes, max_frames=9, num_inference_steps=steps)

    automatic = load_pipeline("tiny", "cpu")
    long, short = prepared(automatic, 3), prepared(automatic, 2)
    assert asked == [3, 2]
    assert (long.denoiser.compiled, long.choices.get("compiled")) == (True, True)
    assert (short.denoiser.compiled, short.choices.get("compiled")) == (False, None)
    long.denoiser.begin(long.noise, long.conditioning)
    assert all(block._compiled_call_impl is not None for block in automatic.transformer.blocks)
    short.denoiser.begin(short.noise, short.conditioning)
    assert all(block._compiled_call_impl is None for block in automatic.transformer.blocks)
    for other in (
        load_pipeline("tiny", "cpu", acceleration=Acceleration(compiled=False)),
        load_pipeline("tiny", "cpu", acceleration=Acceleration("first-block")),
        load_pipeline("tiny", "cpu", Placement(weights="float8")),
        AnyTalkerPipeline.from_pretrained("tiny"),
    ):
        assert prepared(other, 3).denoiser.compiled is None
    assert len(asked) == 2


def test_nothing_is_compiled_on_a_cpu() -> None:
    image, boxes, voices = demo_scene(1, 0.4, 0)
    prepared = load_pipeline("tiny", "cpu").prepare(image, voices, faces=boxes, num_inference_steps=500)
    assert prepared.denoiser.compiled is False


def test_attention_follows_the_card(monkeypatch) -> None:
    installed = {"_flash_3", "sage", "flash"}

    def check(name: str) -> None:
        if name not in installed:
            raise InputError(name)

    monkeypatch.setattr(acceleration, "check_attention_backend", check)
    for generation, expected in ((9, "_flash_3"), (8, None), (10, None)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, known=generation: (known, 0))
        assert best_attention(GPU, torch.bfloat16) == expected
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert best_attention(GPU, torch.float32) is None
    assert best_attention(CPU, torch.bfloat16) is None
    installed.clear()
    assert best_attention(GPU, torch.bfloat16) is None


def test_a_decoder_in_bfloat16_changes_little_and_leaves_the_encoder() -> None:
    torch.manual_seed(0)
    vae = AutoencoderKLWan(base_dim=8, z_dim=16, num_res_blocks=1).eval()
    latents = torch.randn(1, 16, 3, 4, 4)
    with torch.no_grad():
        exact = torch.cat(list(decode_chunks(vae, [latents])), dim=2)
        set_decoder_precision(vae, "auto", "cpu")
        assert next(vae.decoder.parameters()).dtype == torch.float32
        set_decoder_precision(vae, "bfloat16", "cpu")
        rough = torch.cat(list(decode_chunks(vae, [latents])), dim=2)
    assert rough.dtype == torch.float32
    assert next(vae.encoder.parameters()).dtype == torch.float32
    psnr = -10 * np.log10(float(((rough - exact) / 2).square().mean()))
    assert 40 < psnr < 80
    with pytest.raises(InputError, match="must be one of"):
        load_pipeline("tiny", "cpu", acceleration=Acceleration(decoder="half"))  # type: ignore[arg-type]


def test_the_miniature_decodes_in_bfloat16_where_the_processor_does_so_in_hardware(monkeypatch) -> None:
    vae = AnyTalkerPipeline.from_pretrained("tiny").vae
    picture = torch.from_numpy(np.array(demo_scene(2, 0.4, 0)[0].resize((128, 64))))
    picture = picture.permute(2, 0, 1)[None].float().div(127.5).sub(1)
    still = encode_video(vae, nn.functional.avg_pool2d(picture, 2)[:, :, None].expand(-1, -1, 5, -1, -1))
    latents = still + 0.1 * torch.randn(still.shape, generator=torch.Generator().manual_seed(0))
    exact = torch.cat(list(decode_chunks(vae, [latents], picture)), dim=2)
    for there, device, expected in ((False, "cpu", "float32"), (True, "cuda", "float32"), (True, "cpu", "bfloat16")):
        monkeypatch.setattr(acceleration, "processor_has_bfloat16", lambda known=there: known)
        chosen = set_decoder_precision(vae, "auto", device)
        assert chosen == ("bfloat16" if expected == "bfloat16" else "auto")
        kinds = {parameter.dtype for part in (vae.decoder, vae.upscaler) for parameter in part.parameters()}
        assert kinds == {getattr(torch, expected)}
    assert vae.dtype == torch.float32
    rough = torch.cat(list(decode_chunks(vae, [latents], picture)), dim=2)
    assert rough.dtype == torch.float32
    psnr = -10 * np.log10(float(((rough - exact) / 2).square().mean()))
    assert 55 < psnr < 90
    assert load_pipeline("tiny", "cpu").variant == {"decoder": "bfloat16"}
