"""One ray cluster makes the videos of a batch and of a queue, and curates, as processes of this machine do."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psutil
import pytest

from anytalker.curation.dataset import assemble
from anytalker.curation.engine import run_on_ray
from anytalker.jobs.batch import run_batch
from anytalker.jobs.job import read_jobs
from anytalker.processes import ray_cluster, ray_devices
from anytalker.queue import supervisor as module
from anytalker.queue.record import State
from anytalker.queue.request import VideoRequest
from anytalker.queue.supervisor import Supervisor
from anytalker.queue.video_queue import PREVIEW, RECORD, VIDEO, VideoQueue
from tests.curation.test_engine import CONFIG, dangerous, no_preparation, works
from tests.jobs.test_batch import folder, job, write_jobs
from tests.processes import begin_at_once
from tests.queue.conftest import picture, voice
from tests.queue.test_supervisor import moment_of

__all__ = ["folder", "picture", "voice"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def devices() -> Iterator[list[str]]:
    """What a cluster of this machine has."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # else its processes wait until those of other tests rest
        try:
            yield ray_devices("local")
        finally:
            ray.shutdown()


def test_a_ray_cluster_makes_the_same_files(devices, folder, monkeypatch) -> None:
    path = write_jobs(folder, first=job(), bad=job(image="nothing.png"))
    assert set(devices) <= {"ray:cpu", "ray:cuda"}
    far = run_batch(read_jobs(path), "tiny", folder / "far", devices[:1])
    begin_at_once(monkeypatch)
    run_batch(read_jobs(path), "tiny", folder / "near", ["cpu"])
    assert [result.reason is None for result in far] == [True, False]
    assert "nothing.png" in str(far[1].reason)
    assert (folder / "far" / "first.mp4").read_bytes() == (folder / "near" / "first.mp4").read_bytes()


@pytest.mark.usefixtures("devices")
def test_a_curation_on_a_ray_cluster_outlives_a_process_that_dies(tmp_path) -> None:
    files = works(tmp_path, "calm.mp4", "shaky.mp4")
    told: list[tuple[str, float, float]] = []
    run_on_ray(files, "local", lambda *progress: told.append(progress), dangerous, no_preparation)
    assert (files[0].dataset / "died before").exists()
    dataset = assemble(files, {}, CONFIG)
    assert not dataset.failed
    assert [survey.frames for survey in dataset.surveys] == [100, 100]
    assert told[-1] == ("shots", 8.0, 8.0)


def test_a_queue_on_a_ray_cluster_obeys_and_outlives_an_actor_that_dies(
    devices, tmp_path, picture, voice, monkeypatch
) -> None:
    far, near = VideoQueue(tmp_path / "far"), VideoQueue(tmp_path / "near")
    request = VideoRequest(seed=3, max_frames=5, num_inference_steps=20, upscale=False)
    endless = far.submit(request.model_copy(update={"num_inference_steps": 1000}), picture, [voice]).id
    job = far.submit(request, picture, [voice]).id
    monkeypatch.setattr(module, "_TICK", 0.05)
    with Supervisor(far, devices[:1], cluster=ray_cluster("local")[1]):
        moment_of(far, endless, lambda moment: moment.stage == "denoise" and moment.done > 0)
        assert far.cancel(endless).state is State.cancelled
        moment_of(far, job, lambda moment: moment.stage == "denoise" and moment.done > 0)
        (actor,) = [one for one in psutil.Process().children(recursive=True) if "ray::VideoActor" in one.cmdline()[0]]
        actor.kill()
        ended = moment_of(far, job, lambda moment: moment.state.over)
    assert (ended.state, ended.attempts) == (State.succeeded, 2)
    assert far.get(endless).state is State.cancelled
    assert {path.name for path in far.folder_of(endless).iterdir()} == {"image.png", "voice-1.wav", "preview.jpg"}
    again = near.submit(request, picture, [voice]).id
    begin_at_once(monkeypatch)  # not before: a process forked from one that is older than the cluster can't join it
    with Supervisor(near):
        assert moment_of(near, again, lambda moment: moment.state.over).state is State.succeeded
    assert far.file(job, VIDEO).read_bytes() == near.file(again, VIDEO).read_bytes()
    assert far.file(job, PREVIEW).read_bytes() == near.file(again, PREVIEW).read_bytes()
    records = [json.loads(queue.file(one, RECORD).read_text()) for queue, one in ((far, job), (near, again))]
    assert {**records[0], "seconds": None} == {**records[1], "seconds": None}
