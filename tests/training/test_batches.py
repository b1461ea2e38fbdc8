"""Batches: joining, silence, crops and masks keep everyone with their own voice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from anytalker.conditioning.faces import clip_pixels
from anytalker.data.encoding import Clip, Seen
from anytalker.training.batches import (
    crop_of,
    crop_to_faces,
    face_weights,
    generic_prompts,
    make_batch,
    widen_box,
    window_of,
)
from anytalker.training.config import BatchConfig


def seen(value: float, frames: int, size: int) -> Seen:
    return Seen(
        latents=torch.full((16, frames, size, size), value),
        condition=torch.full((16, frames, size, size), -value),
        faces=torch.full((1, 3, 16, 16), value),
        picture=torch.full((3, 16, 16), value),
    )


def clip(value: float, frames: int = 5, size: int = 12) -> Clip:
    return Clip(
        **vars(seen(value, frames, size)),
        silent=seen(value + 10, frames, size),
        audio=torch.full((1, 4 * (frames - 1) + 1, 5, 1, 8), value),
        silence=torch.full((4 * (frames - 1) + 1, 5, 1, 8), value / 4),
        boxes=((24, 24, 48, 48),),
    )


def exact(**changes) -> BatchConfig:
    plain = {"silent_probability": 0, "text_dropout": 0, "audio_dropout": 0, "widen_probability": 0}
    return BatchConfig.model_validate(plain | changes)


@pytest.mark.parametrize("people", [1, 2, 3])
@pytest.mark.parametrize("once", [False, True])
def test_joined_people_keep_order_voice_and_mask(people: int, once: bool) -> None:
    clips = [clip(float(index + 1)) for index in range(6)]
    batch = make_batch(clips, people, exact(join_once=once), np.random.default_rng(0))
    scenes = 6 // people if once else 6
    assert batch.latents.shape == (scenes, 16, 5, 12, 12 * people)
    assert batch.audio.shape[:3] == (scenes, people, 17)
    assert len(batch.prompts) == scenes
    for scene in range(scenes):
        first = scene * people if once else scene
        for person in range(people):
            part = batch.latents[scene, ..., 12 * person : 12 * (person + 1)]
            expected = [(first + person) % 6 + 1]
            assert part.unique().tolist() == expected
            assert batch.audio[scene, person].unique().tolist() == expected
            assert batch.faces[scene, person].unique().tolist() == expected
            reach = batch.face_masks[scene, person, 0].nonzero()[:, 1]
            assert reach.min() >= 6 * person
            assert reach.max() < 6 * (person + 1)
    assert batch.mask[:, :, 0].min() == 1
    assert batch.mask[:, :, 1:].max() == 1
    assert batch.mask[:, :, 1:].min() == 0
    assert set(batch.prompts) <= set(generic_prompts(people))


def test_silent_people_are_shown_and_heard_so() -> None:
    batch = make_batch([clip(1.0), clip(2.0)], 2, exact(silent_probability=1), np.random.default_rng(0))
    assert batch.audio[0].flatten(1).unique(dim=1).tolist() == [[0.25], [0.5]], "they are heard as silence is"
    shown = {"latents": batch.latents, "condition": -batch.condition, "pictures": batch.pictures}
    for name, value in shown.items():
        assert value[0].unique().tolist() == [11, 12], f"{name}: they are shown keeping silent"
    assert batch.faces[0].flatten(1).unique(dim=1).tolist() == [[11], [12]]
    pair = [clip(1.0), replace(clip(2.0), pauses=True)]
    batch = make_batch(pair, 2, exact(silent_probability=1, silent_stills=False), np.random.default_rng(0))
    assert batch.audio[0].flatten(1).unique(dim=1).tolist() == [[1.0], [0.5]], "who never pauses always speaks"
    dropped = make_batch([clip(1.0)], 1, exact(audio_dropout=1), np.random.default_rng(0))
    assert dropped.audio.abs().max() == 0, "guidance compares with nothing at all"


def smooth_picture(width: int, height: int, seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("people", [2, 3])
def test_the_image_encoder_sees_joined_clips_side_by_side(people: int) -> None:
    pictures = [smooth_picture(96, 96, seed) for seed in range(people)]
    joined = Image.new("RGB", (96 * people, 96))
    for index, picture in enumerate(pictures):
        joined.paste(picture, (96 * index, 0))
    clips = [replace(clip(1.0), picture=clip_pixels([picture], 48)[0]) for picture in pictures]
    batch = make_batch(clips, people, exact(), np.random.default_rng(0))
    error = (batch.pictures[0] - clip_pixels([joined], 48)[0]).abs()
    assert error.mean() < 0.02


def test_the_image_encoder_sees_what_a_crop_shows() -> None:
    picture = smooth_picture(96, 96, 0)
    whole = replace(clip(1.0), picture=clip_pixels([picture], 32)[0])
    whole = replace(whole, silent=replace(whole.silent, picture=whole.picture))
    cropped = crop_of(whole, 3, 5, (6, 4))
    part = cropped.picture
    assert torch.equal(cropped.silent.picture, part)
    assert cropped.silent.latents.shape == cropped.silent.condition.shape == cropped.latents.shape == (16, 5, 6, 4)
    expected = clip_pixels([picture.crop((40, 24, 72, 72))], 32)[0]
    assert (part - expected).abs().mean() < 0.02
    assert (part - whole.picture).abs().mean() > 0.2


def test_audio_and_text_are_dropped_as_often_as_asked() -> None:
    config = exact(audio_dropout=0.3, text_dropout=0.4)
    batch = make_batch([clip(1.0)] * 400, 1, config, np.random.default_rng(0))
    assert 0.2 < (batch.audio.flatten(1).abs().amax(1) == 0).float().mean() < 0.4
    assert 0.3 < np.mean([prompt == "" for prompt in batch.prompts]) < 0.5


def test_a_caption_speaks_for_a_lone_clip_only() -> None:
    captioned = [Clip(**(vars(clip(1.0)) | {"text_embeds": torch.ones(3, 8)}))] * 2
    single = make_batch(captioned, 1, exact(), np.random.default_rng(0))
    assert all(torch.equal(prompt, torch.ones(3, 8)) for prompt in single.prompts)
    joined = make_batch(captioned, 2, exact(), np.random.default_rng(0))
    assert set(joined.prompts) <= set(generic_prompts(2))


def test_windows_take_the_picture_and_matching_audio() -> None:
    whole = clip(0.0, frames=9)
    whole.latents[:] = torch.arange(9.0)[:, None, None]
    whole.audio[:] = torch.arange(33.0)[:, None, None, None]
    window = window_of(whole, 3, 2)
    assert window.latents[0, :, 0, 0].tolist() == [0, 3, 4]
    assert window.audio[0, :, 0, 0, 0].tolist() == [0, 9, 10, 11, 12, 13, 14, 15, 16]
    assert window.condition.shape[1] == window.silent.latents.shape[1] == window.silent.condition.shape[1] == 3
    assert window.silence.shape == window.audio.shape[1:]


@pytest.mark.parametrize(
    ("boxes", "columns"),
    [([(24, 24, 48, 48)], 8), ([(8, 24, 40, 48), (120, 16, 48, 48)], 20), ([(0, 30, 30, 30), (70, 30, 90, 30)], 20)],
)
def test_crops_contain_all_faces(boxes: list[tuple[int, int, int, int]], columns: int) -> None:
    rng = np.random.default_rng(0)
    whole = clip(1.0)
    latents, condition = whole.latents.repeat(1, 1, 1, 2), whole.condition.repeat(1, 1, 1, 2)
    wide = replace(whole, latents=latents, condition=condition, boxes=tuple(boxes))
    places = set()
    for _ in range(50):
        cropped = crop_to_faces(wide, 8, rng)
        assert cropped.latents.shape[-2:] == cropped.condition.shape[-2:] == (8, columns)
        for (x, y, width, height), before in zip(cropped.boxes, boxes, strict=True):
            assert (width, height) == before[2:]
            assert min(x, y) >= 0
            assert x + width <= 8 * columns
            assert y + height <= 64
        places.add(cropped.boxes)
    assert len(places) > 1


def test_clips_that_are_left_over_are_in_no_scene() -> None:
    clips = [clip(float(index)) for index in range(8)]
    batch = make_batch(clips, 3, exact(join_once=True), np.random.default_rng(0))
    assert batch.audio[:, :, 0, 0, 0, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_small_clip_is_not_cropped() -> None:
    assert crop_to_faces(clip(1.0), 12, np.random.default_rng(0)).latents.shape[-2:] == (12, 12)


def test_boxes_widen_as_asked_and_stay_inside() -> None:
    rng = np.random.default_rng(0)
    jittered = [widen_box((10, 10, 50, 50), exact(box_jitter=0.2), (96, 96), rng) for _ in range(100)]
    assert len(set(jittered)) > 50
    assert all(x >= 0 and y >= 0 and x + w <= 97 and y + h <= 97 for x, y, w, h in jittered)
    far = [widen_box((0, 0, 20, 20), exact(box_jitter=1.0), (96, 96), rng) for _ in range(300)]
    assert min(min(w, h) for _, _, w, h in far) >= 0
    wide = exact(widen_probability=1, box_wide=(1.2, 1.4), box_tall=(2.0, 2.5))
    for _ in range(50):
        x, _, width, height = widen_box((200, 200, 100, 100), wide, (500, 500), rng)
        assert 119 <= width <= 141
        assert 199 <= height <= 251
        assert x + width / 2 == pytest.approx(250, abs=1)


def test_lips_and_eyes_weigh_more() -> None:
    weights = face_weights([(24, 24, 48, 48)], (12, 12), 10.0, 5.0)
    assert weights[7, 6] == 10
    assert weights[4, 6] == 5
    assert weights[4, 1] == weights[1, 6] == weights[7, 0] == 1
