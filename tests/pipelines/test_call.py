"""The call as diffusers' users expect it: callbacks, output types, several videos, embeddings, noise of one's own."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
import torch
from PIL import Image

from anytalker import AnyTalkerPipeline, InputError
from anytalker.media.marks import read_settings
from anytalker.media.video import read_video
from anytalker.pipelines.options import GenerationOptions
from anytalker.pipelines.python_options import PythonOptions
from tests.pipelines.test_pipeline import FACES, make_pipeline

LONG = {"window": 2, "max_frames": 25}
"""Seven latent frames in several windows."""


@pytest.fixture(scope="module")
def pipeline() -> AnyTalkerPipeline:
    made = make_pipeline()
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (100, 200, 3), dtype=np.uint8))


@pytest.fixture
def call(pipeline, picture, tone):
    def make(**options):
        options = {"faces": FACES, "fps": 12, "generator": torch.Generator().manual_seed(3)} | options
        return pipeline(picture, [np.tile(tone, 3), None], **{"max_frames": 9} | options)

    return make


def test_the_signature_names_every_option() -> None:
    named = inspect.signature(AnyTalkerPipeline.__call__).parameters
    assert {*GenerationOptions.model_fields, *PythonOptions.names()} <= set(named)
    for name, field in GenerationOptions.model_fields.items():
        assert named[name].default == field.default, name
    assert all(parameter.kind is not parameter.VAR_KEYWORD for parameter in named.values())


def test_frames_come_in_the_form_that_is_asked_for(call, tmp_path) -> None:
    arrays, pictures, tensors = (call(output_type=kind) for kind in ("np", "pil", "pt"))
    assert [picture.size for picture in pictures.frames] == [(80, 32)] * 9
    assert tensors.frames.shape == (9, 3, 32, 80)
    np.testing.assert_array_equal(tensors.frames.permute(0, 2, 3, 1).numpy(), arrays.frames)
    assert np.abs(np.stack(pictures.frames) / 255 - arrays.frames).max() <= 0.5 / 255 + 1e-6
    assert call(return_dict=False)[0].shape == arrays[0].shape == (9, 32, 80, 3)
    files = [
        video.save(tmp_path / f"{place}.mp4").read_bytes() for place, video in enumerate([arrays, pictures, tensors])
    ]
    assert files[0] == files[1] == files[2]
    latent = call(output_type="latent")
    assert latent.frames.shape == (1, 16, 3, 4, 10)
    with pytest.raises(InputError, match="output_type='latent'"):
        latent.save(tmp_path / "latent.mp4")


def test_several_videos_of_one_call(call, tmp_path) -> None:
    sources = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    two = call(num_videos_per_prompt=2, generator=sources)
    assert two.frames.shape == (2, 9, 32, 80, 3)
    for video, seed in zip(two.videos, (3, 4), strict=True):
        inside = json.loads(read_settings(video.save(tmp_path / f"{seed}.mp4")))
        assert (inside["seed"], inside["frames"], len(inside["persons"])) == (seed, 9, 2)
        assert inside["settings"]["num_inference_steps"] == video.choices["num_inference_steps"]
        np.testing.assert_array_equal(video.frames, call(generator=torch.Generator().manual_seed(seed)).frames)
        assert read_video(video.save(tmp_path / "one.mp4"))[0].shape == (9, 32, 80, 3)
    assert np.abs(two.frames[0] - two.frames[1]).max() > 0
    shared = call(num_videos_per_prompt=2, output_type="latent")
    assert [video.seed for video in shared.videos] == [3, None]  # the second has no seed that gives it again
    one_source = shared.frames
    assert one_source.shape == (2, 16, 3, 4, 10)
    assert torch.equal(one_source[:1], call(output_type="latent").frames)
    assert not torch.equal(one_source[0], one_source[1])
    assert len(call(num_videos_per_prompt=2, output_type="pil").frames) == 2
    with pytest.raises(InputError, match=r"save each of \.videos"):
        two.save(tmp_path / "two.mp4")


def test_several_prompts_of_one_call(call, pipeline) -> None:
    prompts, nulls = ["two people", "a storm"], ["blur", "rain"]
    shared = {"guidance_scale": 3.0, "max_frames": 5, "num_inference_steps": 2, "output_type": "latent"}
    sources = [torch.Generator().manual_seed(seed) for seed in (3, 4, 5, 6)]
    four = call(prompt=prompts, negative_prompt=nulls, num_videos_per_prompt=2, generator=sources, **shared)
    assert four.frames.shape == (4, 16, 2, 4, 10)
    for place, video in enumerate(four.videos):
        text = {"prompt": prompts[place // 2], "negative_prompt": nulls[place // 2]}
        alone = call(**text, generator=torch.Generator().manual_seed(3 + place), **shared)
        assert torch.equal(video.frames, alone.frames)
        assert video.choices == alone.choices
    texts = [pipeline.encode_prompt(text, "blur") for text in prompts]
    embeds = torch.cat([torch.nn.functional.pad(one, (0, 0, 0, 16 - one.shape[1])) for one, _ in texts])
    two = call(prompt_embeds=embeds, negative_prompt_embeds=texts[0][1], **shared)
    same = call(prompt=prompts, negative_prompt="blur", **shared)
    torch.testing.assert_close(two.frames, same.frames, atol=1e-5, rtol=1e-5)
    digests = [video.choices["prompt_embeds"] for video in two.videos]
    assert digests[0] != digests[1]
    assert call(prompt=["two people"], **shared).frames.shape[0] == 1


def test_noise_of_ones_own(call) -> None:
    noise = torch.randn(1, 16, 3, 4, 10, generator=torch.Generator().manual_seed(3))
    drawn = torch.cat(
        [torch.randn(1, 16, 1, 4, 10, generator=g) for g in [torch.Generator().manual_seed(3)] * 3], dim=2
    )
    given = call(latents=drawn, generator=None)
    np.testing.assert_array_equal(given.frames, call().frames)
    assert np.abs(call(latents=noise).frames - given.frames).max() > 0
    assert given.choices["latents"] != call(latents=noise).choices["latents"]
    assert given.record().seed is None


def test_embeddings_in_place_of_texts(call, pipeline) -> None:
    texts = {"prompt": "two people talk", "negative_prompt": "blur", "guidance_scale": 3.0}
    embeds, nulls = pipeline.encode_prompt(texts["prompt"], texts["negative_prompt"])
    given = call(prompt_embeds=embeds, negative_prompt_embeds=nulls, guidance_scale=3.0)
    np.testing.assert_array_equal(given.frames, call(**texts).frames)
    assert given.choices["prompt_embeds"] != given.choices["negative_prompt_embeds"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"output_type": "gif"}, "output_type is 'gif'; it must be one of np, pil, pt, latent"),
        ({"num_videos_per_prompt": 0}, "num_videos_per_prompt is 0"),
        ({"num_videos_per_prompt": 2, "generator": [torch.Generator()]}, "1 generators were given for 2 videos"),
        ({"latents": torch.zeros(1, 16, 2, 4, 10)}, r"must be \(1, 16, 3, 4, 10\)"),
        ({"latents": torch.zeros(2, 16, 3, 4, 10)}, "noise for 2 videos"),
        ({"prompt": []}, r"prompt is \[\]; it must be a text, or a list of texts"),
        ({"prompt": ["a", 1]}, "it must be a text, or a list of texts"),
        ({"prompt": ["a", "b"], "negative_prompt": ["x"] * 3}, "2 of prompt, 3 of negative_prompt; give one, or as"),
        ({"prompt": ["", "b"], "prompt_embeds": torch.zeros(1, 2, 16)}, "either prompt or prompt_embeds"),
        ({"prompt": "a", "prompt_embeds": torch.zeros(1, 2, 8)}, "either prompt or prompt_embeds"),
        ({"prompt_embeds": torch.zeros(1, 2, 8)}, r"prompt_embeds is \(1, 2, 8\)"),
        ({"attention_kwargs": {"scales": 1}}, "attention_kwargs has 'scales'"),
        ({"callback_on_step_end_tensor_inputs": ["image"]}, "has 'image'; it has to be among latents"),
    ],
)
def test_wrong_options_are_named(call, options, reason) -> None:
    with pytest.raises(InputError, match=reason):
        call(**options)


def test_a_callback_sees_each_latent_frame_once_a_step(call, pipeline) -> None:
    for options, calls in (({}, 3), (LONG, None)):
        seen: dict[tuple[int, int], torch.Tensor] = {}
        steps: list[int] = []

        def note(pipe, step, timestep, tensors, seen=seen, steps=steps):
            assert pipe is pipeline
            assert pipe.num_timesteps == 3
            assert float(pipe.current_timestep) == float(timestep)
            assert set(tensors) == set(pipe._callback_tensor_inputs)
            assert tensors["pred_original_sample"].shape == tensors["latents"].shape
            for place, frame in enumerate(tensors["latent_frames"].tolist()):
                assert (step, frame) not in seen
                seen[step, frame] = tensors["latents"][:, :, place].clone()
            steps.append(step)
            return {}

        names = list(pipeline._callback_tensor_inputs)
        inputs = {"num_inference_steps": 3, "output_type": "latent", **options}
        final = call(callback_on_step_end=note, callback_on_step_end_tensor_inputs=names, **inputs).frames
        assert len(seen) == 3 * final.shape[2]
        assert calls is None or steps == [0, 1, 2]
        assert all(torch.equal(final[:, :, frame], seen[2, frame]) for frame in range(final.shape[2]))
        assert torch.equal(final, call(**inputs).frames)


def test_the_estimate_is_what_is_left_in_the_end(call) -> None:
    estimates = []
    final = call(
        output_type="latent",
        num_inference_steps=4,
        callback_on_step_end=lambda pipe, step, time, given: estimates.append(given["pred_original_sample"]),
        callback_on_step_end_tensor_inputs=["pred_original_sample"],
    ).frames
    distances = [float((estimate - final).norm()) for estimate in estimates]
    assert distances[-1] < 1e-4 * float(final.norm())
    assert distances == sorted(distances, reverse=True)


@pytest.mark.parametrize("options", [{}, LONG])
def test_a_callback_changes_latents(call, options) -> None:
    def clear(pipe, step, timestep, tensors):
        return {"latents": torch.zeros_like(tensors["latents"])} if step == pipe.num_timesteps - 1 else tensors

    assert call(callback_on_step_end=clear, output_type="latent", **options).frames.abs().sum() == 0
    with pytest.raises(InputError, match="returned latents"):
        call(callback_on_step_end=lambda *given: {"latents": torch.zeros(1)})


def test_a_callback_changes_text_and_guidance(call, pipeline) -> None:
    embeds = pipeline.encode_prompt("something else")[0]
    options = {"guidance_scale": 3.0, "num_inference_steps": 2, "output_type": "latent"}
    plain = call(**options).frames

    def other_text(pipe, step, timestep, tensors):
        return {"prompt_embeds": embeds}

    def raised(pipe, step, timestep, tensors):
        pipe._guidance_scale += 1.0
        return {}

    changed = [call(callback_on_step_end=callback, **options).frames for callback in (other_text, raised)]
    assert pipeline.guidance_scale == 5.0
    assert all((one - plain).abs().max() > 1e-6 for one in changed)
    two = call(callback_on_step_end=raised, num_videos_per_prompt=2, **options)
    assert torch.equal(two.videos[0].frames, changed[1])


def test_an_interrupted_video_is_what_there_was(call, pipeline, picture, tone, tmp_path) -> None:
    def stop(pipe, step, timestep, tensors):
        pipe._interrupt = step == 1
        return tensors

    whole = call(num_inference_steps=2, output_type="latent").frames
    part = call(num_inference_steps=2, callback_on_step_end=lambda pipe, *_: setattr(pipe, "_interrupt", True))
    assert part.frames.shape == (9, 32, 80, 3)
    assert np.abs(part.frames - call(num_inference_steps=2).frames).max() > 0
    long = call(num_inference_steps=3, callback_on_step_end=stop, **LONG)
    assert 0 < len(long.frames) < 25
    assert torch.equal(call(num_inference_steps=2, output_type="latent").frames, whole)
    options = {"faces": FACES, "max_frames": 9, "callback_on_step_end": stop, "num_inference_steps": 3}
    with pytest.raises(KeyboardInterrupt, match="Interrupted"):
        pipeline.generate_to(tmp_path / "talk.mp4", picture, [tone, None], **options)
    assert list(tmp_path.iterdir()) == []


def test_a_pipeline_is_made_of_anothers_parts(pipeline) -> None:
    again = AnyTalkerPipeline(**pipeline.components, **pipeline.parameters)
    assert again.settings == pipeline.settings
    assert again.transformer is pipeline.transformer
    assert AnyTalkerPipeline.from_pipe(pipeline).settings == pipeline.settings
    assert pipeline.to("cpu") is pipeline
    assert "AnyTalkerTransformer3DModel" in str(pipeline)


def test_one_call_is_of_one_picture(call, pipeline, picture, tone) -> None:
    with pytest.raises(InputError, match="There are 2 pictures; a call makes videos of one"):
        pipeline([picture, picture], [tone, None], faces=FACES)
    with pytest.raises(InputError, match="A list can't be heard; give one entry a person"):
        pipeline(picture, [["anna.wav"], ["ben.wav"]], faces=FACES)
    with pytest.raises(InputError, match=r"prompt is \['a', 'b'\]"):
        pipeline.prepare(picture, [tone, None], faces=FACES, prompt=["a", "b"])
