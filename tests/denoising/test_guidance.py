"""Guidance: the release's where scales are equal, and what each of the other settings promises."""

from __future__ import annotations

import pytest
import torch

from anytalker import InputError
from anytalker.denoising import denoiser as denoising
from anytalker.denoising.denoiser import Conditioning, ContextCache, Denoiser, budget_of
from anytalker.denoising.guidance import Guidance
from anytalker.denoising.schedule import set_timesteps
from anytalker.loading.scheduler import make_scheduler
from anytalker.pipelines.limits import check_strengths
from tests.models.test_transformer import small_inputs, small_model

INPUTS = small_inputs(2)
NOISE, CONDITION = INPUTS["hidden_states"][:, :16], INPUTS["hidden_states"][:, 16:]
PART = Conditioning(
    condition=CONDITION,
    prompt_embeds=INPUTS["encoder_hidden_states"],
    negative_prompt_embeds=INPUTS["encoder_hidden_states"][:, :2] * 0.3,
    image_embeds=INPUTS["encoder_hidden_states_image"],
    face_embeds=INPUTS["face_embeds"],
    audio_embeds=INPUTS["audio_embeds"],
    face_masks=INPUTS["face_masks"],
)
MODEL = small_model()


def velocity(latents: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return MODEL(
            torch.cat([latents, CONDITION], dim=1),
            timestep[None],
            text,
            PART.image_embeds,
            PART.face_embeds,
            audio,
            PART.face_masks,
            return_dict=False,
        )[0]


def denoise(steps: int = 1, **changes) -> torch.Tensor:
    budget = changes.pop("context_budget", 2**30)
    return Denoiser(MODEL, make_scheduler(3.0), steps, Guidance(**changes), context_budget=budget)(NOISE, PART)


def test_equal_scales_are_the_releases_guidance(error) -> None:
    scheduler = make_scheduler(3.0)
    set_timesteps(scheduler, 1, NOISE.device)
    timestep = scheduler.timesteps[0]
    spoken = velocity(NOISE, timestep, PART.prompt_embeds, PART.audio_embeds)
    null = velocity(NOISE, timestep, PART.negative_prompt_embeds, torch.zeros_like(PART.audio_embeds))
    expected = scheduler.step(null + 4.5 * (spoken - null), timestep, NOISE, return_dict=False)[0]
    assert error(denoise(text_scale=4.5, audio_scale=4.5), expected) < 1e-6


def test_scales_apart_use_three_branches(error) -> None:
    masks = PART.face_masks
    assert list(Guidance().coefficients(masks)) == ["all"]
    assert list(Guidance(3, 3).coefficients(masks)) == ["null", "all"]
    assert list(Guidance(3, 5).coefficients(masks)) == ["null", "text", "all"]
    assert list(Guidance(3, 0).coefficients(masks)) == ["null", "text"]
    summed = sum(Guidance(3, 5, (0.5, 2.0)).coefficients(masks).values())
    assert torch.allclose(summed, torch.ones_like(summed), atol=1e-6)


def test_one_batch_or_no_kept_contexts_change_nothing(error) -> None:
    plain = denoise(3, text_scale=2.0, audio_scale=3.0)
    assert error(denoise(3, text_scale=2.0, audio_scale=3.0, batched=True), plain) < 1e-5
    assert torch.equal(denoise(3, text_scale=2.0, audio_scale=3.0, context_budget=0), plain)


def test_guidance_outside_its_interval_is_none() -> None:
    assert torch.equal(denoise(4, text_scale=3.0, audio_scale=3.0, interval=(0.99, 1.0)), denoise(4))
    half = denoise(4, text_scale=3.0, audio_scale=3.0, interval=(0.0, 0.5))
    assert not torch.equal(half, denoise(4))
    assert not torch.equal(half, denoise(4, text_scale=3.0, audio_scale=3.0))


def test_a_strength_of_zero_silences_a_person() -> None:
    masks = torch.zeros_like(PART.face_masks)
    masks[:, 0, :, :, :3] = 1
    masks[:, 1, :, :, 3:] = 1
    parts = Guidance(strengths=(0.0, 1.0)).coefficients(masks)
    assert parts["all"][..., :6].abs().max() == 0
    assert parts["all"][..., 6:].min() == 1
    assert parts["text"][..., :6].min() == 1


@pytest.mark.parametrize("strengths", [(1, 1, 1), (-1,), (float("nan"),)])
def test_bad_strengths_are_named(strengths) -> None:
    with pytest.raises(InputError, match="strength"):
        check_strengths(strengths, 2)


def test_contexts_follow_the_free_memory_of_the_card(monkeypatch) -> None:
    gib = 2**30
    assert budget_of(None) == 4 * gib
    assert [budget_of(free * gib) // gib for free in (2, 6, 8, 24, 47, 48, 100)] == [1, 3, 4, 4, 4, 24, 50]
    contexts = ContextCache(MODEL)
    size = contexts(0, PART, ("all",)).nbytes
    for free, kept in ((2 * size - 2, 0), (2 * size, 1), (6 * size, 3)):
        monkeypatch.setattr(denoising, "free_memory", lambda device, free=free: free)
        contexts = ContextCache(MODEL)
        for number in range(4):
            contexts(number, PART, ("all",))
        assert len(contexts) == kept
        contexts.drop(0)
        contexts(9, PART, ("all",))
        assert len(contexts) == kept
