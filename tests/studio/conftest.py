"""A desk on a queue without workers, and a cast of two drawn people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anytalker.media.recordings import write_wave
from anytalker.queue.video_queue import QueueSettings, VideoQueue
from anytalker.studio.cast import Cast, Desk
from tests.queue.conftest import picture, voice  # noqa: F401


@pytest.fixture
def desk(tmp_path) -> Desk:
    """The files of pages, and an empty queue."""
    return Desk(VideoQueue(tmp_path / "data", QueueSettings(lease=30.0)))


@pytest.fixture
def example(desk) -> Cast:
    """The example of the page."""
    return desk.example()


@pytest.fixture
def recording(desk) -> Path:
    """A second of a tone among the uploads."""
    desk.uploads.mkdir()
    path = desk.uploads / "tone.wav"
    write_wave(path, (0.4 * np.sin(2 * np.pi * 180 * np.arange(16000) / 16000)).astype(np.float32))
    return path
