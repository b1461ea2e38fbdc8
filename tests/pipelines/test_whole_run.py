"""Whole runs beside one in the release's order of steps: every intermediate, both modes, one to three people.

What is compared with is written by `tests/goldens/run/reference.py`, which says how the release goes about it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from anytalker import AnyTalkerPipeline
from anytalker.conditioning.audio_features import Wav2Vec2Features
from anytalker.denoising.windows import plan_windows
from anytalker.loading.scheduler import make_scheduler
from anytalker.models.settings import NEGATIVE_PROMPT, PipelineSettings
from anytalker.pipelines.prepared_video import PreparedVideo
from tests.goldens.run import reference

FOLDER = Path(__file__).parents[1] / "goldens" / "run"
GOLDENS = load_file(FOLDER / "run.safetensors")
FACTS = json.loads((FOLDER / "run.json").read_text(encoding="utf-8"))
TOLERANCE = 1e-5
"""Relative error ‖ours − reference‖ / ‖reference‖ of every intermediate."""
SETTINGS = PipelineSettings(
    name="small",
    max_area=reference.AREA,
    num_inference_steps=reference.STEPS,
    image_size=reference.IMAGE_SIZE,
    text_len=reference.TEXT_LEN,
    negative_prompt=NEGATIVE_PROMPT,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, list[Path]]:
    return reference.write_inputs(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def pipelines() -> dict[str, AnyTalkerPipeline]:
    """One of each layout, of the parts that the reference has."""
    made = {}
    for layout in ("A", "B"):
        parts = reference.small_parts(layout)
        features = Wav2Vec2Features(parts.pop("wav2vec2"))
        scheduler = make_scheduler(SETTINGS.shift)
        made[layout] = AnyTalkerPipeline(**parts, audio_features=features, scheduler=scheduler, settings=SETTINGS)
    return made


@pytest.fixture(scope="module", params=list(reference.CASES))
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def prepared(name, files, pipelines) -> PreparedVideo:
    mode, people = reference.CASES[name]
    picture, recordings = files
    return pipelines[reference.LAYOUTS[mode]].prepare(
        picture,
        recordings[:people],
        reference.FACES[:people],
        reference.PROMPT,
        mode=mode,
        guidance_scale=reference.GUIDANCE,
        rounding="release",
        window="none",
        generator=torch.Generator().manual_seed(0),
    )


@pytest.fixture(scope="module")
def steps(prepared) -> list[torch.Tensor]:
    """Latents after every step of the sampler, from the noise of the reference; the last ones are the video's."""
    shape = (16, prepared.conditioning.latent_frames, *prepared.conditioning.condition.shape[3:])
    noise = reference.tensor("noise", shape, reference.SALT)[None]
    run = prepared.denoiser.begin(lambda start, stop: noise[:, :, start:stop], prepared.conditioning)
    seen = []
    for step in range(1, run.total + 1):
        run.advance()
        seen.append(torch.cat(run.finished(), dim=2) if step == run.total else run.wavefront.latents(0, step))
    return seen


def golden(name: str, what: str) -> torch.Tensor:
    return GOLDENS.get(f"{name}.{what}", GOLDENS.get(f"all.{what}"))


def test_the_video_is_as_long_and_as_large(name, prepared) -> None:
    facts = FACTS[name]
    assert (prepared.inputs.frames, prepared.inputs.fps) == (facts["frames"], reference.FPS)
    assert prepared.inputs.image.size == (facts["width"], facts["height"])


@pytest.mark.parametrize(
    "what",
    [
        "prompt_embeds",
        "negative_prompt_embeds",
        "image_embeds",
        "face_embeds",
        "face_masks",
        "condition",
        "audio_embeds",
    ],
)
def test_the_transformer_is_told_the_same(what, name, prepared, error) -> None:
    conditioning = prepared.conditioning
    whole = conditioning.window(plan_windows(conditioning.latent_frames, None, 0)[0])
    assert getattr(whole, what).shape == golden(name, what).shape
    assert error(getattr(whole, what), golden(name, what)) <= TOLERANCE


def test_every_step_comes_to_the_same_latents(name, steps, error) -> None:
    assert len(steps) == reference.STEPS
    for step, latents in enumerate(steps):
        assert error(latents, golden(name, f"latents.{step}")) <= TOLERANCE


def test_the_frames_are_the_same(name, prepared, steps) -> None:
    frames = np.concatenate(list(prepared.decode([steps[-1]])))
    expected = golden(name, "frames").permute(1, 2, 3, 0).numpy().astype(np.float32) / 255
    assert expected.std() > 0.1
    assert np.abs(frames - expected).max() <= 1 / 255


def test_the_negative_prompt_is_the_one_of_the_reference() -> None:
    assert (FOLDER / "negative_prompt.txt").read_text(encoding="utf-8").rstrip("\n") == NEGATIVE_PROMPT


@pytest.mark.parametrize("name", ["pad-3", "concat-3"], indirect=True)
def test_what_the_goldens_hold_says_something(name) -> None:
    """Zeros where nobody speaks, and people who differ: the comparison could fail."""
    heard = golden(name, "audio_embeds")[0].abs().amax(dim=(2, 3, 4))
    assert (heard == 0).any().item() == (name == "concat-3")
    assert (golden(name, "face_embeds")[0, 0] - golden(name, "face_embeds")[0, 1]).abs().max() > 0.01
    assert 0 < golden(name, "face_masks").mean() < 0.5
