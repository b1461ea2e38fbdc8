"""Do the right mouths move, and with their voices? Measured on pixels, for any model and any number of people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anytalker.media.recordings import frame_loudness


def mouth_signal(frames: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """How far a mouth is from its state in the first frame.

    Args:
        frames: float (T, H, W, 3) in [0, 1]; frame 0 shows the mouth at rest.
        box: face box (x, y, width, height) in pixels.

    Returns:
        (T,) mean absolute difference of the lower middle of the face.
    """
    x, y, width, height = box
    rows = slice(max(0, int(y + 0.6 * height)), int(np.ceil(y + 1.02 * height)))
    columns = slice(max(0, int(x + 0.25 * width)), int(np.ceil(x + 0.75 * width)))
    mouth = frames[:, rows, columns].astype(np.float64)
    return np.abs(mouth - mouth[:1]).mean(axis=(1, 2, 3))


def mouth_motion(frames: np.ndarray, box: Sequence[float]) -> float:
    """How much a mouth moves: the standard deviation of its signal over time."""
    return float(mouth_signal(frames, box).std())


def best_correlation(signal: np.ndarray, other: np.ndarray, max_lag: int = 2) -> float:
    """Pearson correlation of two signals (T,) at the best lag within ±`max_lag` frames; 0 if one is constant."""
    best = -1.0
    for lag in range(-max_lag, max_lag + 1):
        early, late = signal[max(0, lag) : len(signal) + min(0, lag)], other[max(0, -lag) : len(other) - max(0, lag)]
        if early.std() < 1e-12 or late.std() < 1e-12:
            return 0.0
        best = max(best, float(np.corrcoef(early, late)[0, 1]))
    return best


def follows_voice(frames: np.ndarray, box: Sequence[float], voice: np.ndarray, fps: float) -> float:
    """How well a mouth follows the loudness of a 16 kHz voice (samples,): the best correlation within ±2 frames."""
    return best_correlation(mouth_signal(frames, box), frame_loudness(voice, len(frames), fps))


def background_psnr(frames: np.ndarray, picture: np.ndarray, boxes: Sequence[Sequence[float]]) -> float:
    """Peak signal-to-noise ratio in dB of all frames against the still picture, outside all face boxes.

    Args:
        frames: float (T, H, W, 3) in [0, 1].
        picture: float (H, W, 3) in [0, 1].
        boxes: face boxes (x, y, width, height) in pixels.
    """
    outside = np.ones(picture.shape[:2], dtype=bool)
    for x, y, width, height in boxes:
        outside[max(0, int(y)) : int(y + height), max(0, int(x)) : int(x + width)] = False
    error = np.square(frames[:, outside] - picture[outside]).mean()
    return float(-10 * np.log10(max(error, 1e-12)))
