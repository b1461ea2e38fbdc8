"""From a request to a finished video: a worker in this process, with the miniature."""

from __future__ import annotations

import json
import sqlite3
import threading
import time

import numpy as np
import pytest
from PIL import Image

from anytalker.errors import InputError
from anytalker.media.destination import making
from anytalker.media.marks import read_settings
from anytalker.media.video import read_video
from anytalker.queue import worker as module
from anytalker.queue.making import MakerHere
from anytalker.queue.record import State, failure_of
from anytalker.queue.request import PersonRequest, VideoRequest
from anytalker.queue.video_queue import PREVIEW, RECORD, VIDEO, QueueSettings, size_of
from anytalker.queue.worker import Worker

SHORT = {"max_frames": 5, "num_inference_steps": 2}


@pytest.fixture(scope="module")
def loaded():
    """The miniature as a worker has it; loaded once."""
    maker = MakerHere()
    maker.load("tiny")
    return maker


@pytest.fixture
def worker(queue, loaded) -> Worker:
    """A worker that has the miniature."""
    return Worker(queue, "w", loaded)


def test_a_request_becomes_a_video_with_its_record_and_a_preview(queue, worker, picture, voice) -> None:
    people = (PersonRequest(voice=1, order=2, name="Anna"), PersonRequest(order=1))
    job = queue.submit(VideoRequest(seed=3, people=people, **SHORT), picture, [voice])
    assert queue.file(job.id, VIDEO) is None
    assert worker.run_one()
    job = queue.get(job.id)
    assert (job.state, job.progress, job.failure) == (State.succeeded, 1.0, None)
    record = json.loads(queue.file(job.id, RECORD).read_text())
    assert (record["frames"], record["seed"], record["settings"]["num_inference_steps"]) == (5, 3, 2)
    first, second = record["persons"]
    assert (first["audio"], second["audio"]) == ("Anna", None)
    assert first["box_xywh"][0] > second["box_xywh"][0]
    inside = json.loads(read_settings(queue.file(job.id, VIDEO)))
    assert inside["settings"].items() <= record["settings"].items()
    assert [inside[name] for name in ("seed", "persons")] == [record[name] for name in ("seed", "persons")]
    assert (inside["seconds"], inside["settings"]["num_inference_steps"]) == ({}, 2)
    with Image.open(queue.file(job.id, PREVIEW)) as preview:
        assert preview.size == (record["width"], record["height"])
        shown = np.asarray(preview.convert("L"), dtype=float).ravel()
    last = read_video(queue.file(job.id, VIDEO))[0][-1].mean(axis=2).ravel()
    assert np.corrcoef(shown, last)[0, 1] > 0.9  # noise would have nothing of it
    names = {path.name for path in queue.folder_of(job.id).iterdir()}
    assert names == {"image.png", "voice-1.wav", "preview.jpg", "video.mp4", "video.json"}
    assert not worker.run_one()


def test_a_script_is_spoken(queue, worker, picture) -> None:
    people = (PersonRequest(name="Ben", order=1),)
    job = queue.submit(VideoRequest(script="Anna: Hi!\n\nBen: Hello!", people=people, **SHORT), picture)
    worker.run_one()
    assert queue.get(job.id).state is State.succeeded
    record = json.loads(queue.file(job.id, RECORD).read_text())
    assert [person["name"] for person in record["timeline"]["people"]] == ["Anna", "Ben"]
    assert record["persons"][0]["box_xywh"][0] > record["persons"][1]["box_xywh"][0]


def test_a_cancelled_job_stops_at_the_next_step_and_leaves_no_video(queue, worker, picture, voice, monkeypatch) -> None:
    job = queue.submit(VideoRequest(**SHORT | {"num_inference_steps": 6}), picture, [voice])
    steps = []
    check = Worker.check

    def cancel_at_the_second(self, claim) -> None:
        steps.append(len(steps))
        if len(steps) == 5:  # prepare twice, denoise 0, 1, 2
            queue.cancel(job.id)
        check(self, claim)

    monkeypatch.setattr(module.Worker, "check", cancel_at_the_second)
    worker.run_one()
    assert len(steps) == 5
    assert queue.get(job.id).state is State.cancelled
    assert not list(queue.folder_of(job.id).glob("video*"))
    assert queue.store.bytes() == size_of(queue.folder_of(job.id)), "what is kept to go on from counts, too"


def test_a_worker_that_is_stopped_gives_its_job_back(queue, worker, picture, voice) -> None:
    job = queue.submit(VideoRequest(**SHORT), picture, [voice])
    worker.stop()
    worker.run_one()
    assert queue.get(job.id).state is State.queued


def test_a_job_that_another_worker_still_lets_go_of_waits_for_it(queue, worker, picture, voice) -> None:
    job = queue.submit(VideoRequest(**SHORT), picture, [voice])
    with making(queue.folder_of(job.id) / VIDEO):
        worker.run_one()
    assert (queue.get(job.id).state, queue.get(job.id).failure) == (State.queued, None)


def test_a_video_is_kept_from_when_it_is_finished(queue, worker, picture, voice, monkeypatch) -> None:
    now = [1e9]
    monkeypatch.setattr(time, "time", lambda: now[0])
    object.__setattr__(queue.settings, "keep_seconds", 60.0)

    def slow(*given) -> None:
        now[0] += 3600

    monkeypatch.setattr("anytalker.queue.making.make", slow)
    job = queue.submit(VideoRequest(**SHORT), picture, [voice])
    worker.run_one()
    assert queue.get(job.id).expires == now[0] + 60


def test_a_claim_is_renewed_after_a_disk_was_full(queue, picture, voice, monkeypatch) -> None:
    object.__setattr__(queue.settings, "lease", 0.05)
    queue.submit(VideoRequest(**SHORT), picture, [voice])
    claim = queue.store.claim("w", 30)
    failures, renewed = iter([sqlite3.OperationalError("database or disk is full")]), threading.Event()

    def renew(claim, lease) -> bool:
        if (failure := next(failures, None)) is not None:
            raise failure
        renewed.set()
        return True

    monkeypatch.setattr(queue.store, "renew", renew)
    with module._Heartbeat(queue, claim):
        assert renewed.wait(10)


def test_a_busy_file_of_jobs_ends_neither_job_nor_worker(queue, worker, picture, voice, monkeypatch) -> None:
    def busy(*given, **more) -> None:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(module, "_TROUBLED", 0.0)
    monkeypatch.setattr(queue.store, "report", busy)
    monkeypatch.setattr(queue.store, "count_preview", busy)
    job = queue.submit(VideoRequest(**SHORT), picture, [voice])
    claims = iter([busy, queue.store.claim])
    monkeypatch.setattr(queue.store, "claim", lambda *given: next(claims)(*given))
    monkeypatch.setattr(
        queue.store, "succeed", lambda *given: worker.stop() or type(queue.store).succeed(queue.store, *given)
    )
    worker.run()
    assert queue.get(job.id).state is State.succeeded


def test_a_job_that_is_deleted_while_it_is_made_is_no_error(queue, worker, picture, voice, monkeypatch, caplog) -> None:
    def deleted(*given) -> None:
        queue.delete(job.id)
        raise FileNotFoundError(queue.folder_of(job.id))

    monkeypatch.setattr("anytalker.queue.making.make", deleted)
    job = queue.submit(VideoRequest(**SHORT), picture, [voice])
    with caplog.at_level("INFO", "anytalker"):
        assert worker.run_one()
    assert [record.getMessage() for record in caplog.records] == ["begun", "dropped"]


def test_a_job_that_can_not_be_made_says_why_without_a_path(queue, worker, picture, voice) -> None:
    people = (PersonRequest(voice=1, order=9),)
    job = queue.submit(VideoRequest(people=people, **SHORT), picture, [voice])
    worker.run_one()
    job = queue.get(job.id)
    assert (job.state, job.failure.code) == (State.failed, "invalid_input")
    assert "9" in job.failure.message
    assert str(queue.folder) not in job.failure.message


def test_what_nobody_expected_is_not_told_to_the_owner(tmp_path) -> None:
    failure = failure_of(ValueError(f"secret in {tmp_path}"), tmp_path)
    assert (failure.code, "secret" in failure.message) == ("internal_error", False)
    assert failure_of(InputError(f"{tmp_path}/image.png is bad"), tmp_path).message == "image.png is bad"
    assert failure_of(MemoryError(), tmp_path).code == "out_of_memory"


def test_a_process_of_a_worker_is_set_up_first(tmp_path, monkeypatch) -> None:
    called: list[str] = []
    monkeypatch.setattr(module.signal, "signal", lambda *given: called.append("signal"))
    monkeypatch.setattr(module.Worker, "run", lambda self: called.append("run"))
    module.run_worker(tmp_path, QueueSettings(), "w", "none", begin=lambda: called.append("begin"))
    assert (called[0], called[-1]) == ("begin", "run")


def test_a_worker_loads_a_model_before_there_is_a_job(tmp_path, monkeypatch) -> None:
    from anytalker.queue.video_queue import VideoQueue

    maker, asked = MakerHere(), []
    monkeypatch.setattr(maker, "load", asked.append)
    one = Worker(VideoQueue(tmp_path / "other", QueueSettings(preload="tiny")), "w", maker)
    one.stop()
    one.run()
    assert asked == ["tiny"]


def test_a_video_is_labelled_and_signed(tmp_path, loaded, picture, voice) -> None:
    c2pa = pytest.importorskip("c2pa")
    pytest.importorskip("cryptography")
    from anytalker.media.credentials import Credentials
    from anytalker.queue.video_queue import VideoQueue
    from tests.media.certificates import write_certificate

    credentials = Credentials(*write_certificate(tmp_path))
    queue = VideoQueue(tmp_path / "data", QueueSettings(label="AI-generated", credentials=credentials))
    worker = Worker(queue, "w", loaded)
    job = queue.submit(VideoRequest(**SHORT | {"num_inference_steps": 1}), picture, [voice])
    worker.run_one()
    path = queue.file(job.id, VIDEO)
    assert json.loads(c2pa.Reader(str(path)).json())["active_manifest"]
    frames = read_video(path)[0]
    height, width = frames.shape[1:3]
    corner, beside = frames[:, : height // 12, : width // 8], frames[:, : height // 12, -width // 8 :]
    assert (corner.max() > 200, beside.max() < 200) == (True, True)
