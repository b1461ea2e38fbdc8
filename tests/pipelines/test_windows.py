"""Windows cover every latent frame once and blend to the whole."""

from __future__ import annotations

import pytest
import torch

from anytalker.pipelines.windows import Window, plan_windows


@pytest.mark.parametrize("total", [2, 5, 9, 10, 12, 25, 60])
def test_windows_cover_everything_and_weights_add_up(total: int) -> None:
    windows = plan_windows(total, 8, 2)
    covered = torch.zeros(total)
    for window in windows:
        weights = window.weights(2, total)
        assert len(weights) == len(window.latent_frames())
        assert weights.min() > 0
        covered[window.latent_frames()] += weights
    assert covered.min() > 0
    assert all(window.stop - window.start == min(8, total - 1) for window in windows)


def test_without_a_length_there_is_one_window() -> None:
    assert plan_windows(40, None, 2) == [Window(1, 40)]


def test_video_frames_follow_their_latents() -> None:
    window = Window(3, 5)
    assert window.latent_frames() == [0, 3, 4]
    assert window.video_frames() == [0, 9, 10, 11, 12, 13, 14, 15, 16]
