"""What diffusers' own tests ask of every pipeline, asked of this one: the contract of its `PipelineTesterMixin`.

Those tests are not part of its package, so they are written anew. What they ask besides and does not apply is listed in
`LEFT_OUT`, with the reason.
"""

from __future__ import annotations

import inspect

import diffusers
import numpy as np
import pytest
import torch
from diffusers import FasterCacheConfig, FirstBlockCacheConfig, PyramidAttentionBroadcastConfig, TaylorSeerCacheConfig
from packaging.version import Version
from PIL import Image

from anytalker import AnyTalkerPipeline, InputError
from tests.pipelines.test_pipeline import FACES, make_pipeline

GPU = "asks for an accelerator"
STREAMS = Version(diffusers.__version__) >= Version("0.41") or torch.cuda.is_available()
"""Whether weights can be brought layer by layer here."""
NO_STREAMS = "diffusers 0.40 asks for an accelerator"
ONE_SCENE = "a call makes videos of one scene; others go through a batch of jobs"
LEFT_OUT = {
    "inference_batch_consistent": ONE_SCENE,
    "inference_batch_single_identical": ONE_SCENE,
    "float16_inference": GPU,
    "save_load_float16": GPU,
    "to_device": GPU,
    "sequential_cpu_offload_forward_pass": GPU,
    "sequential_offload_forward_pass_twice": GPU,
    "cpu_offload_forward_pass_twice": GPU,
    "pipeline_with_accelerator_device_map": GPU,
    "xformers_attention_forward_pass": "xformers is an attention backend here, see set_attention_backend",
    "attention_slicing_forward_pass": "diffusers' slices are of its own attention classes, and deprecated",
    "save_load_optional_components": "no component is optional",
    "serialization_with_variants": "a folder holds one variant",
    "loading_with_variants": "a folder holds one variant",
    "loading_with_incorrect_variants_raises_error": "a folder holds one variant",
    "save_load_dduf": "a folder is the one form",
    "torch_dtype_dict": "which part has which precision is the model's: encoders of pictures and sound stay exact",
    "StableDiffusionXLMultiAdapter and others": "about inputs that this pipeline hasn't",
}


@pytest.fixture(scope="module")
def pipe() -> AnyTalkerPipeline:
    made = make_pipeline()
    made.set_progress_bar_config(disable=True)
    return made


def inputs(**changes) -> dict:
    """Of a short video."""
    rng = np.random.default_rng(0)
    return {
        "image": Image.fromarray(rng.integers(0, 255, (100, 200, 3), dtype=np.uint8)),
        "audio": [rng.normal(0, 0.1, 16000).astype(np.float32), None],
        "faces": FACES,
        "prompt": "two people",
        "generator": torch.Generator().manual_seed(0),
        "num_inference_steps": 2,
        "guidance_scale": 3.0,
        "max_frames": 5,
        "output_type": "np",
    } | changes


def difference(one, other) -> float:
    return float(np.abs(np.asarray(one) - np.asarray(other)).max())


def test_optional_parameters_are_there() -> None:
    asked = {"num_inference_steps", "num_videos_per_prompt", "generator", "latents", "output_type", "return_dict"}
    asked |= {"callback_on_step_end", "callback_on_step_end_tensor_inputs", "prompt_embeds", "negative_prompt_embeds"}
    parameters = inspect.signature(AnyTalkerPipeline.__call__).parameters
    assert asked <= set(parameters)
    assert all(parameters[name].default is not inspect.Parameter.empty for name in asked)


def test_save_load_local(pipe, tmp_path) -> None:
    expected = pipe(**inputs())[0]
    pipe.save_pretrained(tmp_path)
    loaded = AnyTalkerPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert difference(loaded(**inputs())[0], expected) < 1e-4


def test_dict_tuple_outputs_equivalent(pipe) -> None:
    assert difference(pipe(**inputs())[0], pipe(**inputs(return_dict=False))[0]) < 1e-4


def test_inference_is_repeatable_and_follows_the_generator(pipe) -> None:
    first, second = pipe(**inputs()).frames, pipe(**inputs()).frames
    assert difference(first, second) == 0
    assert difference(first, pipe(**inputs(generator=torch.Generator().manual_seed(1))).frames) > 0


def test_components_function(pipe) -> None:
    parameters = inspect.signature(AnyTalkerPipeline.__init__).parameters
    asked = {name for name, known in parameters.items() if known.default is known.empty and name != "self"}
    assert set(pipe.components) == asked
    assert all(component is not None for component in pipe.components.values())


def test_to_dtype(pipe) -> None:
    other = make_pipeline()
    assert {part.dtype for part in other.components.values() if isinstance(part, torch.nn.Module)} == {torch.float32}
    other.to(dtype=torch.bfloat16)
    assert {part.dtype for part in other.components.values() if isinstance(part, torch.nn.Module)} == {torch.bfloat16}


def test_num_videos_per_prompt(pipe) -> None:
    for count in (1, 2):
        frames = pipe(**inputs(num_videos_per_prompt=count)).frames
        assert (frames[None] if count == 1 else frames).shape[0] == count


def test_cfg(pipe) -> None:
    assert difference(pipe(**inputs(guidance_scale=1.0)).frames, pipe(**inputs(guidance_scale=7.5)).frames) > 1e-6
    assert pipe.do_classifier_free_guidance


def test_callback_inputs(pipe) -> None:
    def subset(pipe, step, timestep, tensors):
        assert set(tensors) <= set(pipe._callback_tensor_inputs)
        return tensors

    def everything(pipe, step, timestep, tensors):
        assert set(tensors) == set(pipe._callback_tensor_inputs)
        return tensors

    def zero(pipe, step, timestep, tensors):
        if step == pipe.num_timesteps - 1:
            tensors["latents"] = torch.zeros_like(tensors["latents"])
        return tensors

    names = list(pipe._callback_tensor_inputs)
    latent = {"output_type": "latent"}
    pipe(**inputs(callback_on_step_end=subset, callback_on_step_end_tensor_inputs=["latents"], **latent))
    pipe(**inputs(callback_on_step_end=everything, callback_on_step_end_tensor_inputs=names, **latent))
    assert pipe(**inputs(callback_on_step_end=zero, **latent))[0].abs().sum() == 0


def test_callback_cfg(pipe) -> None:
    def increase(pipe, step, timestep, tensors):
        pipe._guidance_scale += 1.0
        return tensors

    given = inputs(callback_on_step_end=increase, callback_on_step_end_tensor_inputs=[], output_type="latent")
    pipe(**given)
    assert pipe.guidance_scale == given["guidance_scale"] + pipe.num_timesteps


def test_encode_prompt_works_in_isolation(pipe) -> None:
    alone = AnyTalkerPipeline(**pipe.components | {"transformer": pipe.transformer}, **pipe.parameters)
    embeds, nulls = alone.encode_prompt("two people")
    given = inputs(prompt="", prompt_embeds=embeds, negative_prompt_embeds=nulls)
    assert difference(pipe(**given)[0], pipe(**inputs())[0]) < 1e-4


def test_from_pipe_consistent_and_config(pipe) -> None:
    other = AnyTalkerPipeline.from_pipe(pipe)
    other.set_progress_bar_config(disable=True)
    assert other.config["settings"] == pipe.config["settings"]
    assert difference(other(**inputs())[0], pipe(**inputs())[0]) < 1e-3


@pytest.mark.parametrize("kind", ["group offload", "model offload"])
def test_offloading_gives_the_same(pipe, kind) -> None:
    other = make_pipeline()
    other.set_progress_bar_config(disable=True)
    cpu = torch.device("cpu")
    if kind == "group offload" and not STREAMS:
        pytest.skip(NO_STREAMS)
    if kind == "model offload":
        other.enable_model_cpu_offload(device=cpu)
    else:
        other.enable_group_offload(cpu, offload_type="leaf_level", exclude_modules=["vae", "audio_features"])
        # What is computed once would be computed outside of the blocks, whose weights come when they are called.
        prepared = other.prepare(**{name: value for name, value in inputs().items() if name != "output_type"})
        assert not prepared.denoiser.keep_contexts
    for _ in range(2):
        assert difference(other(**inputs())[0], pipe(**inputs())[0]) < 1e-4


def test_layerwise_casting_inference(pipe) -> None:
    other = make_pipeline()
    other.set_progress_bar_config(disable=True)
    other.transformer.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
    assert 0 < difference(other(**inputs())[0], pipe(**inputs())[0]) < 0.1


@pytest.mark.parametrize("config", [FirstBlockCacheConfig(threshold=1e-9), TaylorSeerCacheConfig(cache_interval=2)])
def test_caches(pipe, config) -> None:
    expected = pipe(**inputs(num_inference_steps=4))[0]
    pipe.transformer.enable_cache(config)
    try:
        assert pipe.transformer.is_cache_enabled
        assert difference(pipe(**inputs(num_inference_steps=4))[0], expected) < 0.1
    finally:
        pipe.transformer.disable_cache()
    assert difference(pipe(**inputs(num_inference_steps=4))[0], expected) == 0


@pytest.mark.parametrize("kind", [PyramidAttentionBroadcastConfig, FasterCacheConfig])
def test_caches_of_other_attention_are_refused(pipe, kind) -> None:
    with pytest.raises(InputError, match=f"{kind.__name__} can't be used"):
        pipe.transformer.enable_cache(kind())
    assert not pipe.transformer.is_cache_enabled


def test_attention_backends(pipe) -> None:
    expected = pipe(**inputs())[0]
    pipe.transformer.set_attention_backend("_native_math")
    assert difference(pipe(**inputs())[0], expected) < 1e-4
    pipe.transformer.reset_attention_backend()
    with pytest.raises(InputError, match="no attention backend 'fast'"):
        pipe.transformer.set_attention_backend("fast")


def test_every_omission_has_a_reason() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert not tested & set(LEFT_OUT)
    assert all(LEFT_OUT.values())
