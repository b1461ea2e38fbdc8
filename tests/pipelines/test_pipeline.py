"""The pipeline with Wan's own autoencoder and random small parts, as a full-size model's folder would have them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from PIL import Image

from anytalker import AnyTalkerPipeline, InputError
from anytalker.denoising.denoiser import Denoiser
from anytalker.loading.components import model_settings
from anytalker.loading.scheduler import make_scheduler
from anytalker.miniature.demo import demo_scene
from anytalker.miniature.recipe import make_untrained
from anytalker.models.settings import PipelineSettings
from anytalker.pipelines.inputs import load_voice, prepare_inputs, video_size
from anytalker.pipelines.options import GenerationOptions
from tests.models.test_transformer import small_model

SETTINGS = PipelineSettings(
    name="random",
    max_area=64 * 64,
    size_multiple=16,
    num_inference_steps=2,
    guidance_scale=2.0,
    image_size=64,
    text_len=16,
)
FACES = [(10, 10, 60, 60), (110, 20, 60, 60)]


def make_pipeline(vae: torch.nn.Module | None = None) -> AnyTalkerPipeline:
    torch.manual_seed(0)
    vae = vae or AutoencoderKLWan(
        base_dim=8, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    parts = make_untrained(vae.eval()).components
    parts["transformer"] = small_model(
        text_dim=parts["text_encoder"].config.d_model,
        text_len=16,
        image_dim=parts["image_encoder"].config.hidden_size,
        audio_channels=parts["audio_features"].channels,
    )
    pipeline = AnyTalkerPipeline(**parts | {"scheduler": make_scheduler(3.0), "settings": SETTINGS})
    return pipeline


@pytest.fixture(scope="module")
def pipeline() -> AnyTalkerPipeline:
    return make_pipeline()


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (100, 200, 3), dtype=np.uint8))


def make(pipeline: AnyTalkerPipeline, picture, audio, **changes) -> np.ndarray:
    generator = torch.Generator().manual_seed(3)
    arguments = {"faces": FACES, "generator": generator, "fps": 12} | changes
    return pipeline(picture, audio, **arguments).frames


def test_frames_have_the_promised_form(pipeline, picture, tone) -> None:
    stages = []
    video = pipeline(
        picture, [tone, None], faces=FACES, fps=12, on_progress=lambda *report: stages.append(report),
        generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    assert video.frames.shape == (13, 32, 80, 3)
    assert video.frames.dtype == np.float32
    assert 0 <= video.frames.min() <= video.frames.max() <= 1
    assert ("denoise", 2, 2) in stages
    assert stages[-1] == ("decode", 1, 1)
    np.testing.assert_array_equal(video.frames, make(pipeline, picture, [tone, None]))


def test_order_of_people_does_not_matter(pipeline, picture, tone) -> None:
    one = make(pipeline, picture, [tone, None])
    other = make(pipeline, picture, [None, tone], faces=FACES[::-1])
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_voices_prompt_and_guidance_matter(pipeline, picture, tone) -> None:
    base = make(pipeline, picture, [tone, None])
    for changes in (
        {"audio": [None, tone]},
        {"prompt": "two people"},
        {"guidance_scale": 1.0},
        {"num_inference_steps": 3},
    ):
        audio = changes.pop("audio", [tone, None])
        assert np.abs(make(pipeline, picture, audio, **changes) - base).max() > 1e-6


def test_people_without_audio_listen(pipeline, picture, tone) -> None:
    np.testing.assert_array_equal(make(pipeline, picture, [tone]), make(pipeline, picture, [tone, None]))


def test_saved_and_loaded_is_the_same(pipeline, picture, tone, tmp_path) -> None:
    pipeline.save_pretrained(tmp_path / "model")
    loaded = AnyTalkerPipeline.from_pretrained(tmp_path / "model")
    assert loaded.settings == SETTINGS
    for name in ("transformer", "vae", "text_encoder", "image_encoder"):
        saved = getattr(pipeline, name).state_dict()
        assert all(torch.equal(value, saved[key]) for key, value in getattr(loaded, name).state_dict().items())
    np.testing.assert_allclose(make(loaded, picture, [tone]), make(pipeline, picture, [tone]), atol=1e-5)


def test_damaged_model_folders_are_named(pipeline, tmp_path) -> None:
    folder = tmp_path / "model"
    pipeline.save_pretrained(folder)
    weights = next((folder / "transformer").glob("*.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    with pytest.raises(InputError, match="damaged or cut off"):
        AnyTalkerPipeline.from_pretrained(folder)
    weights.write_bytes(whole)
    settings = json.loads((folder / "anytalker.json").read_text())
    (folder / "anytalker.json").write_text(json.dumps(settings | {"magic": 1}))
    with pytest.raises(InputError, match="magic"):
        AnyTalkerPipeline.from_pretrained(folder)
    (folder / "anytalker.json").write_text("null")
    with pytest.raises(InputError, match=r"anytalker\.json holds null"):
        AnyTalkerPipeline.from_pretrained(folder)
    (folder / "anytalker.json").unlink()
    with pytest.raises(InputError, match=r"lacks anytalker\.json"):
        AnyTalkerPipeline.from_pretrained(folder)
    with pytest.raises(InputError, match="no model 'nowhere'"):
        AnyTalkerPipeline.from_pretrained("nowhere")


def test_one_window_is_the_whole_and_several_stay_close(pipeline, picture, tone) -> None:
    inputs = prepare_inputs(picture, [np.tile(tone, 3), None], FACES, SETTINGS, GenerationOptions(fps=12))
    conditioning = pipeline.encode(inputs, "", "")
    noise = pipeline.noise_for(conditioning, torch.Generator().manual_seed(0))(0, conditioning.latent_frames)

    def denoise(window: int | None) -> torch.Tensor:
        return Denoiser(pipeline.transformer, make_scheduler(3.0), 2, window=window)(noise, conditioning)

    whole = denoise(None)
    assert torch.equal(denoise(noise.shape[2] - 1), whole)
    pieces = denoise(4)
    assert pieces.shape == whole.shape
    assert (pieces - whole).norm() / whole.norm() < 0.2


def test_faces_of_the_trained_size_are_sought(picture) -> None:
    settings = replace(SETTINGS, face_size=30, max_area=10**6)
    assert video_size(picture, [(0, 0, 60, 60)], settings) == (48, 96)
    assert video_size(picture, [(0, 0, 60, 60)], replace(settings, max_area=32 * 64)) == (32, 64)


def test_a_recording_is_decoded_once(pipeline, picture, tone, write_wave) -> None:
    path = write_wave(tone)
    voice = load_voice(path)
    given = prepare_inputs(picture, [path, None], FACES, SETTINGS)
    path.unlink()
    again = prepare_inputs(picture, [voice, None], FACES, SETTINGS)
    assert [one.name for one in again.voices] == ["voice.wav", None]
    for one, other in zip(again.voices, given.voices, strict=True):
        np.testing.assert_array_equal(one.waveform[:], other.waveform[:])
    assert model_settings("tiny").name == "tiny"


@pytest.mark.parametrize("fps", [12, 24, 120])
def test_the_shortest_video_depends_on_frames_a_second_alone(picture, tone, write_wave, fps) -> None:
    for rounding, frames in (("up", 1), ("release", 4)):
        least, options = frames * 16000 // fps, {"fps": fps, "rounding": rounding}
        assert (
            prepare_inputs(picture, [tone[: least + 1], None], FACES, SETTINGS, GenerationOptions(**options)).frames
            == 5
        )
        path = write_wave(tone[:least], "short.wav")
        message = rf"short\.wav lasts {least / 16000:.3f} s.*needs more than {frames / fps:.3f} s"
        with pytest.raises(InputError, match=message):
            prepare_inputs(picture, [path, None], FACES, SETTINGS, GenerationOptions(**options))
        turns = prepare_inputs(
            picture, [path, tone[:least]], FACES, SETTINGS, GenerationOptions(**options, mode="concat")
        )
        assert turns.frames >= 5  # together they are long enough


def test_no_recording_loses_sound(picture) -> None:
    lengths = np.random.default_rng(5).integers(3000, 160000, 20)
    for samples in [*lengths, 61296, 108544, 137552]:
        for fps in (24, 25, 30000 / 1001):
            inputs = prepare_inputs(
                picture, [np.zeros(samples, np.float32)], FACES[:1], SETTINGS, GenerationOptions(fps=fps)
            )
            over = inputs.frames - samples / 16000 * fps
            assert -1e-6 <= over < 4
            assert inputs.frames % 4 == 1
            assert len(inputs.voices[0].waveform) >= samples
    # 3.831 s at 24 frames a second: 91.9 frames. The release stops at 89.
    frames = [
        prepare_inputs(picture, [np.zeros(61296, np.float32)], FACES[:1], SETTINGS, GenerationOptions(**options)).frames
        for options in ({}, {"rounding": "release"}, {"max_frames": 80})
    ]
    assert frames == [93, 89, 77]


def test_a_face_on_which_no_voice_can_act_is_told_of(pipeline, picture, tone) -> None:
    prepared = pipeline.prepare(picture, [tone, tone], faces=[FACES[1], (10, 10, 4, 4)], fps=12, max_frames=5)
    width, height = prepared.inputs.image.size
    assert prepared.remark.startswith("The face of person 1 from the left will not move")
    assert f"{width}×{height}" in prepared.remark
    assert pipeline.prepare(picture, [tone, tone], faces=FACES, fps=12, max_frames=5).remark == ""


def test_a_size_or_scale_is_kept(pipeline, picture, tone) -> None:
    for changes, size in (
        ({}, (80, 32)),
        ({"size": (128, 64)}, (128, 64)),
        ({"scale": 2, "guidance_scale": 3.0}, (160, 64)),
        ({"guidance_scale": 3.0}, (80, 32)),
        ({"scale": 0.1}, (16, 16)),
    ):
        assert pipeline.prepare(picture, [tone], faces=FACES[:1], **changes).inputs.image.size == size


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps is 0"),
        ({"guidance_scale": float("nan")}, "guidance_scale is nan"),
        ({"fps": 0}, "fps is 0"),
        ({"mode": "sideways"}, "sideways"),
        ({"rounding": "down"}, "rounding is 'down'"),
        ({"size": (128, 128)}, r"not of the picture's shape.*128x64 or 256x128"),
        ({"size": (120, 60)}, r"no multiple of 16.*128x64"),
        ({"size": (8192, 4096)}, "8192x4096"),
        ({"scale": float("nan")}, "scale"),
        ({"scale": 2, "size": (128, 64)}, "--size or --scale"),
        ({"max_frames": 0}, "max_frames is 0"),
        ({"audio": "voice.wav"}, "must be a list"),
        ({"audio": [None, None]}, "No audio"),
    ],
)
def test_bad_arguments_are_named(pipeline, picture, tone, changes, reason) -> None:
    changes = dict(changes)
    audio = changes.pop("audio", [tone])
    with pytest.raises(InputError, match=reason):
        make(pipeline, picture, audio, **changes)


def test_encoders_run_in_the_order_in_which_they_send_each_other_away(monkeypatch) -> None:
    """With `--memory balanced` a part leaves the device when the next one of the order runs."""
    pipeline = AnyTalkerPipeline.from_pretrained("tiny")
    order: list[str] = []
    for name in pipeline.model_cpu_offload_seq.split("->"):
        part = getattr(pipeline, name)
        method = "encode" if name == "vae" else "forward"
        run = getattr(part, method)

        def noted(*rest, name=name, run=run, **more):
            order.append(name)
            return run(*rest, **more)

        monkeypatch.setattr(part, method, noted)
    image, boxes, voices = demo_scene(2, 1.0, 3)
    pipeline.prepare(image, voices, faces=boxes, max_frames=5)
    known = pipeline.model_cpu_offload_seq.split("->")
    assert {"text_encoder", "image_encoder", "vae"} <= set(order)
    assert order == sorted(order, key=known.index)
