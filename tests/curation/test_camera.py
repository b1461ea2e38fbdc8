from __future__ import annotations

import cv2
import numpy as np
import pytest

from anytalker.curation.camera import CameraMotion, camera_motion
from anytalker.miniature.world.backgrounds import draw_background, draw_shapes
from tests.curation.films import FPS, drawn

FRAMES = 75
SEEDS = (11, 12, 13)


@pytest.fixture(scope="module")
def films() -> dict[int, list[np.ndarray]]:
    return {seed: [cv2.resize(frame, (384, 216)) for frame in drawn(seed, FRAMES)] for seed in SEEDS}


def _seen(film: list[np.ndarray], zoom: np.ndarray, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """A film through a camera that moves: its zoom, and its place in shares of the picture's width, one a frame."""
    height, width = film[0].shape[:2]
    views = []
    for frame, size, right, down in zip(film, zoom, x, y, strict=True):
        place = cv2.getRotationMatrix2D((width / 2, height / 2), 0, float(size))
        place[:, 2] += (right * width, down * width)
        views.append(cv2.warpAffine(frame, place, (width, height), borderMode=cv2.BORDER_REPLICATE))
    return views


TIMES = np.arange(FRAMES) / FPS
NONE = np.zeros(FRAMES)


@pytest.mark.parametrize("seed", SEEDS)
def test_people_move_before_a_camera_that_stands_still(films, seed):
    assert not camera_motion(films[seed], FPS).moving


@pytest.mark.parametrize("seed", SEEDS)
def test_a_slow_pan_moves(films, seed):
    motion = camera_motion(_seen(films[seed], NONE + 1.1, 0.015 * (TIMES - 1.5), NONE), FPS)
    assert motion.moving
    assert motion.shift == pytest.approx(0.015, rel=0.3)


@pytest.mark.parametrize("rate", [1.02, 1 / 1.02, 1.06])
def test_a_slow_zoom_moves(films, rate):
    motion = camera_motion(_seen(films[11], 1.1 * rate**TIMES, NONE, NONE), FPS)
    assert motion.moving
    assert motion.zoom == pytest.approx(rate, abs=0.006)


def test_a_trembling_camera_moves(films):
    x, y = 0.01 * np.sin(2 * np.pi * 0.8 * TIMES), 0.006 * np.sin(2 * np.pi * 1.3 * TIMES + 1)
    assert camera_motion(_seen(films[12], NONE + 1.05, x, y), FPS).moving


def test_a_pan_over_a_plain_wall_moves():
    slope = np.linspace(60, 200, 600, dtype=np.float32)
    wall = cv2.GaussianBlur(np.repeat(slope[None, :, None], 216, axis=0).repeat(3, axis=2), (0, 0), 9)
    film = [wall[:, left : left + 384].round().astype(np.uint8) for left in range(0, 150, 2)]
    motion = camera_motion(film, FPS)
    assert motion.moving
    assert motion.shift == pytest.approx(2 * FPS / 384, rel=0.2)


def test_a_person_who_walks_past_moves_no_camera():
    room = draw_background(np.random.default_rng(3), 384, 216)
    film = []
    for frame in range(FRAMES):
        picture = room.copy()
        cv2.ellipse(picture, (4 * frame, 130), (45, 80), 0, 0, 360, (90, 60, 40), -1)
        cv2.circle(picture, (4 * frame, 60), 24, (220, 180, 150), -1)
        film.append(picture)
    assert not camera_motion(film, FPS).moving


def test_nothing_is_followed_in_faces():
    """A face fills the picture before a plain wall, and nothing but the faces' boxes tells it from the camera."""
    face = draw_shapes(np.random.default_rng(1), np.full((180, 300, 3), 128, np.uint8), 200, (0.05, 0.4))
    film = []
    for frame in range(FRAMES):
        picture = np.full((216, 384, 3), 150, np.uint8)
        picture[18:198, 20 + frame // 2 : 320 + frame // 2] = face
        film.append(picture)
    assert camera_motion(film, FPS).moving
    assert not camera_motion(film, FPS, faces=[(20, 18, 340, 180)]).moving


@pytest.mark.parametrize("count", [0, 1, 5])
def test_too_few_frames_stand_still(films, count):
    assert camera_motion(films[11][:count], FPS) == CameraMotion(0.0, 1.0, 0.0, False)
