"""The drawn world: the same seed gives the same people, and what the truth says is what the pixels show."""

from __future__ import annotations

import json

import numpy as np
import pytest

from anytalker.miniature.demo import demo_scene, write_picture
from anytalker.miniature.world.behaviour import LOOK, attention, converse, is_speaking, talk
from anytalker.miniature.world.clips import autoencoder_batches, babble
from anytalker.miniature.world.people import FaceState
from anytalker.miniature.world.scenes import Scene


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


def visemes_of(frames: int, *spans: tuple[int, int]) -> np.ndarray:
    visemes = np.zeros((frames, 4), dtype=np.float32)
    for first, last in spans:
        visemes[first:last] = (0.8, 0.9, 0.5, 0.3)
    return visemes


def test_lips_follow_visemes_and_silence_rests() -> None:
    visemes = visemes_of(48, (10, 20))
    states = talk(visemes, 24.0, np.random.default_rng(0), (0.1, 0.0))
    np.testing.assert_allclose([state.opening for state in states], visemes[:, 0])
    assert states[15].width == pytest.approx(0.9)
    assert states[15].tongue == pytest.approx(0.3)
    assert states[0].width == 0.5
    assert states[40].shift == pytest.approx((0, 0))
    assert all(state.turn == (0, 0) for state in states)


def test_people_blink_and_glance_now_and_then() -> None:
    states = talk(np.zeros((24 * 60, 4), np.float32), 24.0, np.random.default_rng(0), (0.2, 0.0))
    shut = np.array([state.blink > 0.9 for state in states])
    blinks = int((np.diff(shut.astype(int)) == 1).sum())
    assert 8 <= blinks <= 40
    away = np.array([state.gaze[0] != 0.2 for state in states])
    assert 0.05 < away.mean() < 0.5


def test_listeners_look_at_whoever_speaks_and_react() -> None:
    frames = 24 * 8
    tracks = [visemes_of(frames, (5, 80)), visemes_of(frames, (95, 180)), visemes_of(frames)]
    states = converse(tracks, 24.0, np.random.default_rng(0), [(0.0, 0.0)] * 3)
    gaze = np.array([[state.gaze[0] for state in person] for person in states])
    turn = np.array([[state.turn for state in person] for person in states])
    np.testing.assert_allclose(gaze[1:, 40:70], [[-LOOK] * 30] * 2, atol=1e-6)
    np.testing.assert_allclose(gaze[0, 40:70], 0, atol=1e-6)
    np.testing.assert_allclose(gaze[0, 130:170], LOOK, atol=1e-6)
    assert turn[1, 60, 0] < 0 < turn[0, 150, 0]
    assert turn[2, :, 1].max() > 0.05 or max(state.brow for state in states[2]) > 0.4
    assert max(state.opening for state in states[2]) == 0


def test_attention_goes_to_the_nearest_speaker() -> None:
    speaking = np.array([[True, False, True], [False, False, False], [False, False, True], [False, True, True]])
    assert attention(speaking, 1).tolist() == [-1, 1, -1]
    assert attention(speaking, 0).tolist() == [0, 1, 0]
    assert attention(speaking, 3).tolist() == [-1, 0, 0]


def test_short_pauses_belong_to_an_utterance() -> None:
    visemes = visemes_of(100, (10, 30), (36, 50), (80, 90))
    speaking = is_speaking(visemes, 24.0)
    assert speaking[12:48].all()
    assert not speaking[55:75].any()
    assert speaking[82:88].all()


def test_a_turned_head_moves_its_eyes_but_hardly_its_lips() -> None:
    scene = Scene.random(1, 5)
    still, turned = scene.neutral(0), FaceState(gaze=scene.gazes[0], turn=(0.1, 0.0))
    before, after = scene.render([[still, turned]], 192)
    change = np.abs(before.astype(int) - after).max(axis=2)
    x, y, width, height = scene.boxes(192)[0]
    eyes = change[y : y + height // 2, x : x + width].mean()
    lips = change[y + int(0.68 * height) : y + int(0.9 * height), x + width // 4 : x + 3 * width // 4].mean()
    assert eyes > 3 * lips


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


def test_a_part_of_a_picture_is_what_the_whole_shows_there() -> None:
    scene = Scene.random(2, 5)
    states = [[scene.neutral(person)] * 2 for person in range(2)]
    part = slice(20, 77), slice(33, 128)
    whole, cut = np.stack(list(scene.render(states, 96))), np.stack(list(scene.render(states, 96, part)))
    assert cut.shape == (2, 57, 95, 3)
    assert np.abs(cut.astype(int) - whole[:, part[0], part[1]]).max() <= 1
