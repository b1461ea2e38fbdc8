"""The measures of mouths on made-up videos whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from anytalker.evaluation.lip_sync.mouths import (
    background_psnr,
    best_correlation,
    follows_voice,
    mouth_motion,
    mouth_signal,
)

BOX = (10, 10, 20, 20)


def talking(opening: np.ndarray) -> np.ndarray:
    frames = np.full((len(opening), 40, 40, 3), 0.5)
    frames[:, 24:28, 16:24] -= 0.4 * opening[:, None, None, None]
    return frames


def test_the_signal_is_the_opening() -> None:
    opening = np.concatenate([[0], np.random.default_rng(0).uniform(0, 1, 30)])
    assert best_correlation(mouth_signal(talking(opening), BOX), opening, 0) == pytest.approx(1)
    assert mouth_motion(talking(opening * 0), BOX) == 0
    assert mouth_motion(talking(opening), BOX) > 2 * mouth_motion(talking(opening * 0.4), BOX)


@pytest.mark.parametrize(("delay", "found"), [(-2, True), (0, True), (2, True), (4, False)])
def test_a_voice_is_followed_within_two_frames(delay: int, found: bool) -> None:
    rng = np.random.default_rng(1)
    loudness = np.repeat(rng.uniform(0, 1, 60), 1)
    voice = np.repeat(loudness, 640) * np.tile([1.0, -1.0], 60 * 320)
    opening = np.roll(loudness, delay)
    opening[0] = 0
    value = follows_voice(talking(opening), BOX, voice.astype(np.float32), 25)
    assert (value > 0.9) == found


def test_constant_mouths_follow_nothing() -> None:
    assert follows_voice(talking(np.zeros(20)), BOX, np.ones(16000, np.float32), 24) == 0


def test_background_ignores_faces() -> None:
    frames = talking(np.ones(5))
    picture = np.full((40, 40, 3), 0.5)
    assert background_psnr(frames, picture, [BOX]) > 100
    assert background_psnr(frames + 0.1, picture, [BOX]) == pytest.approx(20, abs=0.1)
