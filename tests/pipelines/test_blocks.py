"""Modular blocks: the same frames as the pipeline, steps of others between them, and guiders of diffusers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.guiders import (
    AdaptiveProjectedGuidance,
    AutoGuidance,
    ClassifierFreeGuidance,
    MagnitudeAwareGuidance,
    SkipLayerGuidance,
)
from diffusers.modular_pipelines import BlockState, SequentialPipelineBlocks

from anytalker import InputError
from anytalker.denoising.guiders import TextAndVoiceGuidance
from anytalker.pipelines.blocks import AnyTalkerBlocks, Step, TextStep
from tests.pipelines.test_diffusers_contract import inputs
from tests.pipelines.test_pipeline import make_pipeline


@pytest.fixture(scope="module")
def pipeline():
    made = make_pipeline()
    made.set_progress_bar_config(disable=True)
    return made


def given(*without: str, **changes) -> dict:
    """Inputs of a short video, with a new source of noise each time."""
    usual = inputs(max_frames=9)
    return {name: value for name, value in usual.items() if name not in ("output_type", *without)} | changes


def modular(blocks, pipeline, **parts):
    pipe = blocks.init_pipeline()
    pipe.update_components(**pipeline.block_components, **parts)
    return pipe


def test_blocks_make_the_same_video(pipeline) -> None:
    for options in ({}, {"window": 1, "max_frames": 5}):
        expected = pipeline(**given(**options)).frames
        frames = modular(AnyTalkerBlocks(), pipeline)(**given(**options), output="frames")
        np.testing.assert_array_equal(frames, expected)


def test_a_step_of_ones_own_between_them(pipeline) -> None:
    class Louder(Step):
        """Makes the prompt count twice."""

        needs, writes = ("prompt_embeds",), ("prompt_embeds",)

        def run(self, components, state):
            return {"prompt_embeds": 2 * state.prompt_embeds}

    blocks = AnyTalkerBlocks()
    blocks.sub_blocks.insert("louder", Louder(), 2)
    assert list(blocks.sub_blocks) == ["scene", "text", "louder", "image", "voices", "denoise", "decode"]
    changed = modular(blocks, pipeline)(**given(), output="frames")
    assert np.abs(changed - pipeline(**given()).frames).max() > 1e-6


def test_a_block_works_by_itself(pipeline) -> None:
    pipe = modular(SequentialPipelineBlocks.from_blocks_dict({"text": TextStep()}), pipeline)
    embeds = pipe(prompt="two people", output="prompt_embeds")
    assert torch.equal(embeds, pipeline.encode_prompt("two people")[0])
    assert {"text_encoder", "tokenizer"} == set(pipe.blocks.component_names)


def test_guidance_of_text_and_voices_is_a_component(pipeline) -> None:
    def short(**changes) -> dict:
        return given("guidance_scale", **changes | {"max_frames": 5})

    def latents(**changes) -> torch.Tensor:
        return pipeline(**short(**changes), output_type="latent").frames

    scales = {"guidance_scale": 3.0, "audio_guidance_scale": 2.0, "voice_strengths": (1.5, 1.0)}
    expected = latents(window=1, **scales, guidance_interval=(0.0, 0.7))
    pipe = modular(AnyTalkerBlocks(), pipeline, guider=TextAndVoiceGuidance(**scales, batch_guidance=True, stop=0.7))
    torch.testing.assert_close(pipe(**short(window=1), output="latents"), expected, atol=1e-5, rtol=1e-5)
    # A call's own scales go before those of the guider, which stays as it is.
    plain = latents(guidance_scale=1.0)
    own = {"guidance_scale": 1.0, "audio_guidance_scale": 1.0, "voice_strengths": (1.0, 1.0)}
    torch.testing.assert_close(pipe(**short(**own), output="latents"), plain, atol=1e-5, rtol=1e-5)
    assert pipe.guider.guidance_scale == 3.0
    pipe.update_components(guider=TextAndVoiceGuidance(guidance_scale=3.0, enabled=False))
    assert torch.equal(pipe(**short(), output="latents"), plain)


def test_guiders_of_diffusers_take_its_place(pipeline) -> None:
    def short(**changes) -> dict:
        return given("guidance_scale", **changes | {"max_frames": 5, "window": 1})

    expected = pipeline(**short(guidance_scale=3.0), output_type="latent").frames
    pipe = modular(AnyTalkerBlocks(), pipeline, guider=ClassifierFreeGuidance(guidance_scale=5.0))
    torch.testing.assert_close(pipe(**short(guidance_scale=3.0), output="latents"), expected, atol=1e-5, rtol=1e-5)
    # Projected guidance is the usual one without rescaling and momentum, which is that of a window.
    settings = {"guidance_scale": 3.0, "adaptive_projected_guidance_rescale": 0.0}
    for momentum in (None, -0.5):
        guider = AdaptiveProjectedGuidance(**settings, adaptive_projected_guidance_momentum=momentum)
        pipe.update_components(guider=guider)
        made = pipe(**short(), output="latents")
        assert torch.allclose(made, expected, atol=1e-5) == (momentum is None)
        assert guider.momentum_buffer is None
    assert torch.equal(pipe(**short(), output="latents"), made)
    with pytest.raises(InputError, match="AdaptiveProjectedGuidance has no voice_strengths"):
        pipe(**short(voice_strengths=(2.0, 1.0)), output="latents")
    with pytest.raises(InputError, match="AdaptiveProjectedGuidance can't be used so"):
        pipe(**short(guidance_interval=(1.0, 1.0)), output="latents")
    for other, reason in (
        (SkipLayerGuidance(skip_layer_guidance_layers=[0]), "SkipLayerGuidance changes layers of the model"),
        (AutoGuidance(auto_guidance_layers=[0], dropout=1.0), "AutoGuidance changes layers of the model"),
        (MagnitudeAwareGuidance(), "MagnitudeAwareGuidance is for pictures, not for videos"),
    ):
        pipe.update_components(guider=other)
        with pytest.raises(InputError, match=reason):
            pipe(**short(), output="latents")


def test_the_guider_works_in_a_loop_of_others() -> None:
    guider = TextAndVoiceGuidance(guidance_scale=3.0, audio_guidance_scale=2.0)
    guider.set_state(step=0, num_inference_steps=2, timestep=torch.tensor(1.0))
    state = BlockState(prompt="text", negative="null", heard="sound", silence="none", seen=torch.ones(1))
    fields = {"text": ("prompt", "negative"), "audio_embeds": ("heard", "silence"), "image": "seen"}
    batches = guider.prepare_inputs_from_block_state(state, fields)
    given = [(one.text, one.audio_embeds, float(one.image)) for one in batches]
    assert given == [("null", "none", 1), ("text", "none", 1), ("text", "sound", 1)]
    assert len(batches) == guider.num_conditions == 3
    for number, one in enumerate(batches):
        guider.prepare_models(torch.nn.Identity())
        assert guider.is_conditional == (number == 2)
        one.noise_pred = torch.full((1, 1, 1, 1, 1), float(number**2))
    assert float(guider(batches).pred) == 0 + 3.0 * (1 - 0) + 2.0 * (4 - 1)
    guider.see(torch.ones(1, 1, 1, 1, 1))
    assert TextAndVoiceGuidance.from_config(guider.config).audio_guidance_scale == 2.0
