"""The drawn world: the same seed gives the same people, and what the truth says is what the pixels show."""

from __future__ import annotations

import json

import numpy as np
import pytest

from anytalker.miniature.clips import autoencoder_batches, babble
from anytalker.miniature.demo import demo_scene, write_picture
from anytalker.miniature.people import FaceState, face_states
from anytalker.miniature.scenes import Scene


@pytest.mark.parametrize("persons", [1, 2, 3, 5])
def test_a_seed_is_a_scene(persons: int) -> None:
    first, again, other = (Scene.random(persons, seed).picture(96) for seed in (7, 7, 8))
    assert first.shape == (96, 96 * persons, 3)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 10


def test_boxes_lie_inside_and_from_left_to_right() -> None:
    for seed in range(30):
        scene = Scene.random(3, seed)
        boxes = scene.boxes(200)
        assert [box[0] for box in boxes] == sorted(box[0] for box in boxes)
        for x, y, width, height in boxes:
            assert x >= 0
            assert y >= 0
            assert x + width <= 600
            assert y + height <= 200


@pytest.mark.parametrize("seed", range(5))
def test_an_opening_mouth_changes_only_the_lower_face_of_its_person(seed: int) -> None:
    scene = Scene.random(2, seed)
    still, talking = scene.neutral(0), FaceState(opening=1.0, gaze=scene.gazes[0])
    listener = scene.neutral(1)
    before, after = scene.render([[still, talking], [listener, listener]], 192)
    changed = np.argwhere(np.abs(before.astype(int) - after).max(axis=2) > 12)
    x, y, width, height = scene.boxes(192)[0]
    assert len(changed) > 100
    assert changed[:, 0].min() > y + 0.4 * height
    assert changed[:, 0].max() < y + 1.15 * height
    assert changed[:, 1].min() >= x
    assert changed[:, 1].max() <= x + width


def test_lips_follow_visemes_and_silence_rests() -> None:
    visemes = np.zeros((48, 3), dtype=np.float32)
    visemes[10:20] = (0.8, 0.9, 0.5)
    states = face_states(visemes, 24.0, np.random.default_rng(0), (0.1, 0.0))
    np.testing.assert_allclose([state.opening for state in states], visemes[:, 0])
    assert states[15].width == pytest.approx(0.9)
    assert states[0].width == 0.5
    assert states[40].shift == pytest.approx((0, 0))
    assert all(state.gaze == (0.1, 0.0) for state in states)


def test_people_blink_now_and_then() -> None:
    states = face_states(np.zeros((24 * 60, 3), np.float32), 24.0, np.random.default_rng(0), (0, 0))
    shut = np.array([state.blink > 0.9 for state in states])
    blinks = int((np.diff(shut.astype(int)) == 1).sum())
    assert 8 <= blinks <= 40


def test_babble_stays_in_range_and_pauses() -> None:
    visemes = babble(np.random.default_rng(0), 200, 24.0)
    assert visemes.min() >= 0
    assert visemes.max() <= 1
    assert (visemes[:, 0] == 0).any()


def test_training_clips_have_the_promised_shape() -> None:
    batch = next(autoencoder_batches(0, frames=5, sizes=[(3, 48)]))
    assert batch.shape == (3, 3, 5, 48, 48)
    assert batch.min() >= -1
    assert batch.max() <= 1


def test_the_demo_takes_turns() -> None:
    picture, boxes, voices = demo_scene(2, 3.0, 0)
    assert picture.width == 2 * picture.height
    assert len(boxes) == len(voices) == 2
    assert len({len(voice) for voice in voices}) == 1
    energy = np.array([np.square(voice[: 3 * 16000].reshape(-1, 1600)).mean(axis=1) > 1e-5 for voice in voices])
    assert energy.any(axis=1).all()
    assert energy.all(axis=0).mean() < 0.2


def test_a_picture_comes_with_its_boxes(tmp_path) -> None:
    write_picture(3, 1_000_001, tmp_path / "three.png")
    persons = json.loads((tmp_path / "three.json").read_text())["persons"]
    assert [len(person["box_xywh"]) for person in persons] == [4, 4, 4]
