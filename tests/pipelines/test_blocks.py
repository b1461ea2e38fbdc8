"""Modular blocks: the same frames as the pipeline, and steps of others between them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.modular_pipelines import SequentialPipelineBlocks

from anytalker.pipelines.blocks import AnyTalkerBlocks, Step, TextStep
from tests.pipelines.test_diffusers_contract import inputs
from tests.pipelines.test_pipeline import make_pipeline


@pytest.fixture(scope="module")
def pipeline():
    made = make_pipeline()
    made.set_progress_bar_config(disable=True)
    return made


def given() -> dict:
    return {name: value for name, value in inputs(max_frames=9).items() if name != "output_type"}


def modular(blocks, pipeline):
    pipe = blocks.init_pipeline()
    pipe.update_components(**pipeline.block_components)
    return pipe


def test_blocks_make_the_same_video(pipeline) -> None:
    for options in ({}, {"window": 1}):
        expected = pipeline(**given(), **options).frames
        frames = modular(AnyTalkerBlocks(), pipeline)(**given(), **options, output="frames")
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
