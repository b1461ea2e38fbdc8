"""What goes to an actor and comes back, with the actor in this process; `tests/jobs/test_ray.py` has a real cluster."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from anytalker.errors import InputError
from anytalker.pipelines.loading_options import LoadingOptions
from anytalker.queue import on_ray
from anytalker.queue.making import MakerHere
from anytalker.queue.on_ray import RayMaker, VideoActor
from anytalker.queue.record import Failure, NotMade
from anytalker.queue.request import VideoRequest
from anytalker.queue.video_queue import QueueSettings

PARTS = "video.parts"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A job's, with a picture and a recording."""
    folder = tmp_path / "job"
    folder.mkdir()
    for name in ("image.png", "voice-1.wav"):
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def maker(monkeypatch) -> RayMaker:
    """One whose actor is in this process."""
    actor, one = VideoActor("none", LoadingOptions()), object.__new__(RayMaker)
    monkeypatch.setattr(one, "_ask", lambda method, *given: getattr(actor, method)(*given), raising=False)
    return one


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def making(steps: int, seen: list[dict[str, str]]):
    """Instead of making a video: a part and a state with every step."""

    def make(self, request, folder, progress, show, settings) -> Path:
        seen.append(contents(folder))
        parts = folder / PARTS
        parts.mkdir(exist_ok=True)
        for step in range(steps):
            (parts / f"latents-{step}.safetensors").write_text(str(step))
            (parts / "state.safetensors").write_text(f"after {step}")
            (parts / ".half.partial.safetensors").write_text("")
            progress("denoise", step, steps)
        for path in parts.iterdir():
            path.unlink()
        parts.rmdir()
        (folder / "video.mp4").write_text("video")
        (folder / "video.json").write_text("record")
        return folder / "video.mp4"

    return make


def test_parts_come_with_every_step_and_go_with_the_video(maker, folder, monkeypatch) -> None:
    monkeypatch.setattr(MakerHere, "make", making(2, seen := []))
    given = contents(folder)
    steps = []

    def progress(*step: object) -> None:
        steps.append((step, contents(folder)))

    assert maker.make(VideoRequest(), folder, progress, None, QueueSettings()) == folder / "video.mp4"
    assert seen == [given]
    first = {f"{PARTS}/latents-0.safetensors": "0", f"{PARTS}/state.safetensors": "after 0"}
    assert steps == [(("denoise", 0, 2), given), (("denoise", 1, 2), given | first)]
    assert contents(folder) == given | {"video.mp4": "video", "video.json": "record"}
    assert not (folder / PARTS).exists()


def test_a_job_that_is_not_wanted_ends_at_its_step_and_another_goes_on_from_its_parts(
    maker, folder, monkeypatch
) -> None:
    monkeypatch.setattr(MakerHere, "make", making(9, seen := []))
    steps = []

    def progress(stage: str, done: int, total: int) -> None:
        steps.append(done)
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        maker.make(VideoRequest(), folder, progress, None, QueueSettings())
    assert steps == [0, 1, 2]
    left = contents(folder)
    assert left[f"{PARTS}/state.safetensors"] == "after 1"
    maker.make(VideoRequest(), folder, lambda *step: None, None, QueueSettings())
    assert seen[1] == left


def test_a_failure_is_told_without_a_path(maker, folder, monkeypatch) -> None:
    def fail(self, request, folder, *given) -> None:
        raise InputError(f"{folder / 'image.png'} shows nobody.")

    monkeypatch.setattr(MakerHere, "make", fail)
    with pytest.raises(NotMade) as raised:
        maker.make(VideoRequest(), folder, lambda *step: None, None, QueueSettings())
    assert raised.value.failure == Failure("invalid_input", "image.png shows nobody.")


def test_folders_of_actors_that_were_killed_are_swept_up(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = [f"anytalker-actor-{process}-{word}" for process in (2**30, os.getpid()) for word in ("old", "new")]
    for name in names:
        (tmp_path / name).mkdir()
        if name.endswith("old"):
            os.utime(tmp_path / name, (0, 0))
    on_ray._sweep()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])
