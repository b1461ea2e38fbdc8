"""Windows cover every latent frame once and blend to the whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from anytalker import InputError
from anytalker.denoising.windows import Window, check_positions, plan_windows, window_remark, with_window
from anytalker.loading.presets import PRESETS
from anytalker.models.settings import WAN, PipelineSettings


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


def test_what_is_as_long_as_in_training_takes_one_window_and_no_remark() -> None:
    settings = PRESETS["14b"].settings
    assert settings == replace(PipelineSettings(name="14b", num_inference_steps=20), **WAN)
    for latent_frames in range(2, 22):
        assert plan_windows(latent_frames, settings.window, settings.window_overlap) == [Window(1, latent_frames)]
    assert window_remark(81, settings) is None
    assert window_remark(241, PipelineSettings()) is None
    remark = window_remark(241, settings)
    assert remark == (
        "The video has 241 frames; the model was trained on 81. It is made in 4 windows (--window none makes it at "
        "once, as the release does)."
    )
    assert "at once (--window 20 makes it in windows)" in window_remark(241, with_window(settings, "none"))


def test_another_window_and_what_rotary_positions_reach() -> None:
    settings = PRESETS["14b"].settings
    assert with_window(settings, None) is settings
    assert with_window(settings, 6).window_overlap == 3
    assert with_window(settings, 30).window_overlap == 5
    for window in (0, 1024, True, "all", 2.5):
        with pytest.raises(InputError, match="from 1 to 1023, or 'none'"):
            with_window(settings, window)
    check_positions(10**6 + 1, (832, 480), settings)
    whole = with_window(settings, "none")
    check_positions(4093, (832, 480), whole)
    with pytest.raises(InputError, match=r"has 4097 frames.*1024 positions, at most 4093 frames. Give --window 20"):
        check_positions(4097, (832, 480), whole)
    with pytest.raises(InputError, match=r"16400×32 pixels.*at most 16384 pixels"):
        check_positions(5, (16400, 32), settings)
