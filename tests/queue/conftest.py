"""A picture of two drawn people, their voices, and a queue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anytalker.media.recordings import write_wave
from anytalker.miniature.demo import write_picture
from anytalker.queue.video_queue import QueueSettings, VideoQueue


@pytest.fixture(scope="session")
def picture(tmp_path_factory) -> Path:
    """Two drawn people."""
    path = tmp_path_factory.mktemp("picture") / "two.png"
    write_picture(2, 1_000_003, path)
    path.with_suffix(".json").unlink()
    return path


@pytest.fixture(scope="session")
def voice(tmp_path_factory) -> Path:
    """Half a second of sound."""
    path = tmp_path_factory.mktemp("voice") / "anna.wav"
    time = np.arange(8000) / 16000
    write_wave(path, (0.4 * np.sin(2 * np.pi * 180 * time)).astype(np.float32))
    return path


@pytest.fixture
def queue(tmp_path) -> VideoQueue:
    """An empty queue."""
    return VideoQueue(tmp_path / "data", QueueSettings(lease=30.0))
