"""Batches: joining, silence, crops and masks keep everyone with their own voice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anytalker.training.batches import BatchSettings, Clip, crop_to_face, jitter_box, lip_weights, make_batch


def clip(value: float, frames: int = 5, size: int = 12) -> Clip:
    return Clip(
        latents=torch.full((16, frames, size, size), value),
        condition=torch.full((16, frames, size, size), -value),
        audio=torch.full((4 * (frames - 1) + 1, 5, 1, 8), value),
        face=torch.full((3, 16, 16), value),
        picture=torch.full((3, 16, 16), value),
        box=(24, 24, 48, 48),
    )


EXACT = {"silent_probability": 0.0, "text_dropout": 0.0, "box_jitter": 0.0}


@pytest.mark.parametrize("people", [1, 2, 3])
def test_joined_people_keep_order_voice_and_mask(people: int) -> None:
    clips = [clip(float(index + 1)) for index in range(6)]
    batch = make_batch(clips, BatchSettings(join=(people,), **EXACT), np.random.default_rng(0))
    assert batch.latents.shape == (6 // people, 16, 5, 12, 12 * people)
    assert batch.audio.shape[:3] == (6 // people, people, 17)
    assert len(batch.prompts) == 6 // people
    for person in range(people):
        part = batch.latents[0, ..., 12 * person : 12 * (person + 1)]
        assert part.unique().tolist() == [person + 1]
        assert batch.audio[0, person].unique().tolist() == [person + 1]
        reach = batch.face_masks[0, person, 0].nonzero()[:, 1]
        assert reach.min() >= 6 * person
        assert reach.max() < 6 * (person + 1)
    assert batch.mask[:, :, 0].min() == 1
    assert batch.mask[:, :, 1:].max() == 1
    assert batch.mask[:, :, 1:].min() == 0


def test_silent_people_hold_still_without_a_voice() -> None:
    settings = BatchSettings(join=(2,), silent_probability=1.0, text_dropout=0.0)
    batch = make_batch([clip(1.0), clip(2.0)], settings, np.random.default_rng(0))
    assert batch.audio.abs().max() == 0
    assert torch.equal(batch.latents, batch.condition)


def test_audio_and_text_are_dropped_as_often_as_asked() -> None:
    settings = BatchSettings(join=(1,), audio_dropout=0.3, text_dropout=0.4, silent_probability=0.0)
    batch = make_batch([clip(1.0)] * 400, settings, np.random.default_rng(0))
    assert 0.2 < (batch.audio.flatten(1).abs().amax(1) == 0).float().mean() < 0.4
    assert 0.3 < np.mean([prompt == "" for prompt in batch.prompts]) < 0.5


def test_windows_take_the_picture_and_matching_audio() -> None:
    whole = clip(0.0, frames=9)
    whole.latents[:] = torch.arange(9.0)[:, None, None]
    whole.audio[:] = torch.arange(33.0)[:, None, None, None]
    window = whole.window(3, 2)
    assert window.latents[0, :, 0, 0].tolist() == [0, 3, 4]
    assert window.audio[:, 0, 0, 0].tolist() == [0, 9, 10, 11, 12, 13, 14, 15, 16]
    assert window.condition.shape[1] == 3


def test_crops_contain_the_face() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        cropped = crop_to_face(clip(1.0), 8, rng)
        x, y, width, height = cropped.box
        assert cropped.latents.shape[-2:] == (8, 8)
        assert x >= 0
        assert y >= 0
        assert x + width <= 64
        assert y + height <= 64


def test_jittered_boxes_stay_inside_and_vary() -> None:
    rng = np.random.default_rng(0)
    boxes = [jitter_box((10, 10, 50, 50), 0.2, (96, 96), rng) for _ in range(100)]
    assert len(set(boxes)) > 50
    assert all(x >= 0 and y >= 0 and x + w <= 97 and y + h <= 97 for x, y, w, h in boxes)


def test_lips_weigh_more() -> None:
    weights = lip_weights([(24, 24, 48, 48)], 12, 12, 10.0)
    assert weights[7, 6] == 10
    assert weights[3, 6] == 1
    assert weights[7, 0] == 1
