from __future__ import annotations

import random

import cv2
import numpy as np
import pytest
import torch

from anytalker.curation.shots import Shot, find_shots
from anytalker.curation.transnet import WINDOW, load_network
from tests.curation.films import FPS, dissolved, drawn


def _unsure(window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(WINDOW, np.float32), np.zeros(WINDOW, np.float32)


def _unasked(window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    raise AssertionError("The network was asked.")


@pytest.fixture(scope="module")
def rooms() -> list[list[np.ndarray]]:
    return [drawn(1, 70), drawn(2, 80), drawn(3, 66)]


def test_clear_cuts_are_exact_and_need_no_network(rooms):
    film = rooms[0] + rooms[1] + rooms[2]
    assert list(find_shots(iter(film), FPS, _unasked)) == [
        Shot(0, 70, "start", 0),
        Shot(70, 150, "cut", 70),
        Shot(150, 216, "cut", 150),
    ]


def test_a_dissolve_belongs_to_neither_shot(rooms):
    film = dissolved(rooms[0], rooms[1], 14)
    first, second = find_shots(film, FPS)
    assert (first.start, second.end, second.transition) == (0, 136, "dissolve")
    assert 50 <= first.end <= 57
    assert 69 <= second.start <= 75
    assert abs(second.cut - 63) <= 3


@pytest.mark.parametrize("whites", [(1.0,), (0.9, 0.55, 0.2), (0.7, 0.7, 0.7)])
def test_a_flash_ends_no_shot(rooms, whites):
    film = list(rooms[1])
    for frame, white in enumerate(whites, start=33):
        film[frame] = cv2.convertScaleAbs(film[frame], alpha=1 - white, beta=255 * white)
    assert list(find_shots(film, FPS)) == [Shot(0, 80, "start", 0)]


def test_another_moment_of_the_same_scene_is_another_shot(rooms):
    film = rooms[0] + drawn(1, 60, take=1, aside=0.25)
    assert [shot.start for shot in find_shots(film, FPS, _unsure)] == [0, 70]


def test_a_subtitle_that_appears_ends_no_shot(rooms):
    film = [frame.copy() for frame in rooms[1]]
    for frame in film[40:]:
        cv2.putText(frame, "Good evening, dear", (8, 100), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (255, 255, 255), 2)
    assert [shot.start for shot in find_shots(film, FPS)] == [0]


def test_light_that_goes_on_is_left_to_the_network(rooms):
    film = [cv2.convertScaleAbs(frame, alpha=0.4) for frame in rooms[0][:35]] + rooms[0][35:]
    assert [shot.start for shot in find_shots(film, FPS, _unsure)] == [0]

    def certain(window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        change = np.abs(np.diff(window.astype(float), axis=0, append=window[-1:])).mean(axis=(1, 2, 3))
        return (change > 20).astype(np.float32), np.zeros(WINDOW, np.float32)

    assert [shot.start for shot in find_shots(film, FPS, certain)] == [0, 35]


def test_frames_are_read_as_a_stream(rooms):
    read = 0

    def endless():
        nonlocal read
        while True:
            for room in rooms:
                for frame in room:
                    read += 1
                    yield frame

    shots = find_shots(endless(), FPS, _unasked)
    for _ in range(4):
        shot = next(shots)
        assert read <= shot.end + 2 * WINDOW


@pytest.mark.parametrize("count", [1, 2, 49, 50, 76, 101])
def test_a_film_of_any_length_is_covered(rooms, count):
    film = (rooms[1] + rooms[1][::-1])[:count]
    assert list(find_shots(film, FPS, _unsure)) == [Shot(0, count, "start", 0)]


def test_no_frames_are_no_shots():
    assert list(find_shots([], FPS, _unasked)) == []


def test_loading_leaves_random_numbers_and_settings_alone():
    load_network.cache_clear()
    torch.manual_seed(5)
    random.seed(5)
    expected, plain = torch.random.get_rng_state(), random.getstate()
    load_network()
    assert torch.equal(torch.random.get_rng_state(), expected)
    assert random.getstate() == plain
    assert not torch.are_deterministic_algorithms_enabled()
