"""A service without workers, and requests to it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from anytalker.queue import video_queue
from anytalker.queue.decoding import DecodingBounds
from anytalker.queue.store import Bounds
from anytalker.queue.video_queue import RECORD, VIDEO, QueueSettings, VideoQueue
from anytalker.service.app import create_app
from anytalker.service.keys import ApiKeys
from anytalker.service.settings import Limits, ServiceSettings
from tests.queue.conftest import picture, voice  # noqa: F401

ADDRESS = "http://127.0.0.1:8000"
SETTINGS = ServiceSettings(limits=Limits(upload=3 * 2**20))


def open_queue(folder: Path) -> VideoQueue:
    """An empty queue with room for little."""
    decoding = DecodingBounds(seconds=20, memory=2 * 2**30, pixels=4_000_000, audio_seconds=20)
    return VideoQueue(folder, QueueSettings(bounds=Bounds(waiting=60), decoding=decoding))


@contextmanager
def client_for(queue: VideoQueue, **changes: Any) -> Iterator[TestClient]:
    """A client of a service with other settings than usual."""
    app = create_app(queue, replace(SETTINGS, **changes))
    with TestClient(app, base_url=ADDRESS, raise_server_exceptions=False) as client:
        yield client


def copied(folder: Path, image: Path, voices: Sequence[Path], *given: Any) -> None:
    """Instead of decoding uploads, which has tests of its own."""
    for path, name in zip([image, *voices], ["image.png", "voice-1.wav", "voice-2.wav"], strict=False):
        shutil.copy(path, folder / name)


@pytest.fixture
def undecoded(monkeypatch) -> None:
    """Uploads are kept as they are, without a process."""
    monkeypatch.setattr(video_queue, "decode", copied)


@pytest.fixture
def queue(tmp_path) -> VideoQueue:
    """An empty queue with room for little."""
    return open_queue(tmp_path / "data")


@pytest.fixture
def client_of(queue) -> Iterator[Callable[..., TestClient]]:
    """Makes a client of a service with other settings."""
    with ExitStack() as stack:
        yield lambda **changes: stack.enter_context(client_for(queue, **changes))


@pytest.fixture
def client(client_of) -> TestClient:
    """A client of a service without keys."""
    return client_of()


@pytest.fixture
def keys(tmp_path) -> dict[str, Any]:
    """A file of keys, and the keys of Anna and Ben."""
    file = ApiKeys(tmp_path / "keys.json")
    return {"file": file, "anna": file.add("anna", max_jobs=2), "ben": file.add("ben", per_minute=3)}


@pytest.fixture
def form(picture, voice) -> Callable[..., dict[str, Any]]:  # noqa: F811
    """Arguments of a request for a video; `files` and `data` instead of the usual ones."""

    def make(files: Any = None, headers: Any = None, **data: Any) -> dict[str, Any]:
        usual = [("image", ("two.png", picture.read_bytes())), ("audio", ("anna.wav", voice.read_bytes()))]
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in data.items()}
        return {"files": usual if files is None else files, "data": texts, "headers": headers}

    return make


def finish(queue: VideoQueue, video: bytes = b"video") -> str:
    """Let the next job succeed, with this as its video; its id."""
    claim = queue.store.claim("w", 60)
    folder = queue.folder_of(claim.job.id)
    (folder / VIDEO).write_bytes(video)
    (folder / RECORD).write_text("{}")
    assert queue.store.succeed(claim, 10, None)
    return claim.job.id


def bearer(key: str) -> dict[str, str]:
    """Headers with a key."""
    return {"Authorization": f"Bearer {key}"}


def files_in(folder: Path) -> set[str]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
