"""Workers as processes: one that is killed is replaced, and what it was making is finished, once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock

from anytalker.queue import supervisor as module
from anytalker.queue.record import QueuedJob, State
from anytalker.queue.request import VideoRequest
from anytalker.queue.supervisor import Supervisor
from anytalker.queue.video_queue import VIDEO, QueueSettings, VideoQueue
from tests.processes import begin_at_once


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    begin_at_once(monkeypatch)
    monkeypatch.setattr(module, "_TICK", 0.05)
    monkeypatch.setattr(module, "_PAUSE", 0.05)


def moment_of(queue: VideoQueue, job: str, wanted) -> QueuedJob:
    """The first moment of a job that is as wanted."""
    ends, never = time.monotonic() + 120, threading.Event()
    while not wanted(moment := queue.get(job)) and not moment.state.over:
        assert time.monotonic() < ends, moment
        never.wait(0.02)
    return moment


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_job_finished_once(queue, picture, voice) -> None:
    asked = [VideoRequest(max_frames=5, num_inference_steps=steps) for steps in (8, 1)]
    jobs = [queue.submit(one, picture, [voice]).id for one in asked]
    with Supervisor(queue) as supervisor:
        moment_of(queue, jobs[0], lambda moment: moment.stage == "denoise" and moment.done > 0)
        first = supervisor.workers["0-cpu"].process
        os.kill(first.pid, signal.SIGKILL)
        ended = [moment_of(queue, job, lambda moment: moment.state.over) for job in jobs]
        assert [job.state for job in ended] == [State.succeeded] * 2
        assert [job.attempts for job in ended] == [2, 1]
        assert all(queue.file(job, VIDEO).stat().st_size > 1000 for job in jobs)
        left = {path.name for path in queue.folder_of(jobs[0]).iterdir()}
        assert left == {"image.png", "voice-1.wav", "preview.jpg", "video.mp4", "video.json"}
        last = supervisor.workers["0-cpu"].process
    assert not last.is_alive()


@pytest.mark.slow
def test_a_job_that_takes_too_long_is_given_up_and_the_next_one_made(tmp_path, picture, voice) -> None:
    queue = VideoQueue(tmp_path / "data", QueueSettings(job_seconds=3600))
    endless = queue.submit(VideoRequest(num_inference_steps=1000), picture, [voice]).id
    after = queue.submit(VideoRequest(max_frames=9, num_inference_steps=1), picture, [voice]).id
    with Supervisor(queue):
        moment_of(queue, endless, lambda moment: moment.stage == "denoise")
        object.__setattr__(queue.settings, "job_seconds", 0.0)
        given_up = moment_of(queue, endless, lambda moment: moment.state.over)
        object.__setattr__(queue.settings, "job_seconds", 3600.0)
        assert (given_up.state, given_up.failure.code) == (State.failed, "timeout")
        assert moment_of(queue, after, lambda moment: moment.state.over).state is State.succeeded


def test_a_worker_that_can_not_be_started_is_tried_again(queue, monkeypatch) -> None:
    tried = threading.Event()
    failures = iter([OSError(12, "no memory"), OSError(12, "no memory")])

    def start(process) -> None:
        if (failure := next(failures, None)) is not None:
            raise failure
        tried.set()

    monkeypatch.setattr(multiprocessing.get_context("spawn").Process, "start", start)
    with Supervisor(queue) as supervisor:
        assert tried.wait(10)
    assert supervisor._take_lock()


class Ended:
    """A process that has ended."""

    exitcode = 1

    def is_alive(self) -> bool:
        return False

    def join(self) -> None:
        pass

    close = join


def test_a_worker_that_dies_again_and_again_is_started_after_longer_and_longer_pauses(
    queue, picture, voice, monkeypatch, caplog
) -> None:
    now, starts = 1000.0, []

    def start(worker, arguments) -> None:
        starts.append(now)
        worker.process, worker._started = Ended(), now

    monkeypatch.setattr(module, "_PAUSE", 1.0)
    monkeypatch.setattr(module._Process, "start", start)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    supervisor = Supervisor(queue)
    for _ in range(4 * 200):
        supervisor._tick()
        now += 0.25
    gaps = np.diff(starts)
    assert gaps[0] == 0.25
    np.testing.assert_array_equal(gaps[1:8], [1.25, 2.25, 4.25, 8.25, 16.25, 32.25, 60.25])
    assert "8 times in a row before it worked; the next start is in 60 s" in caplog.text
    assert supervisor.failing == 1
    queue.submit(VideoRequest(), picture, [voice])
    now += 60
    for _ in range(3):  # whoever has a job is replaced at once
        supervisor._tick()
        queue.store.claim("0-cpu", 60)
    assert (supervisor.failing, len(starts) - len(gaps)) == (0, 4)


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="the system has no such masks")
def test_a_worker_that_is_just_starting_is_not_interrupted(queue, monkeypatch) -> None:
    masks, started = [], threading.Event()

    def start(process) -> None:
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))  # what a process inherits
        started.set()

    monkeypatch.setattr(multiprocessing.get_context("spawn").Process, "start", start)
    with Supervisor(queue):
        assert started.wait(10)
    assert signal.SIGINT in masks[0]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_worker_that_is_being_replaced_is_not_alive(monkeypatch) -> None:
    worker = module._Process("cpu")
    worker.process = multiprocessing.get_context("spawn").Process()
    worker.process.close()
    assert not worker.alive


def test_a_file_of_jobs_that_is_busy_ends_no_supervisor(queue, monkeypatch) -> None:
    started, recover = threading.Event(), queue.store.recover
    failures = iter([sqlite3.OperationalError("database is locked")])

    def busy(*given):
        if (failure := next(failures, None)) is not None:
            raise failure
        return recover(*given)

    monkeypatch.setattr(queue.store, "recover", busy)
    monkeypatch.setattr(module._Process, "start", lambda self, arguments: started.set())
    with Supervisor(queue):
        assert started.wait(10)


def test_what_a_killed_service_was_making_waits_again(queue, picture, voice, monkeypatch) -> None:
    job = queue.submit(VideoRequest(), picture, [voice]).id
    for _ in range(queue.settings.crashes + 1):
        queue.store.claim("0-cpu", 60)
        with monkeypatch.context() as patched:
            patched.setattr(module._Process, "start", lambda self, arguments: None)
            with Supervisor(queue):
                moment_of(queue, job, lambda moment: moment.state is State.queued)
        assert queue.get(job).failure is None


def test_what_was_made_on_a_device_that_is_gone_waits_again(queue, picture, voice, monkeypatch) -> None:
    job = queue.submit(VideoRequest(), picture, [voice]).id
    queue.store.claim("1-cuda:1", 60)
    monkeypatch.setattr(queue.store, "_clock", lambda: time.time() + 8 * 3600)
    monkeypatch.setattr(module._Process, "start", lambda self, arguments: None)
    Supervisor(queue)._tick()
    assert (queue.get(job).state, queue.get(job).failure) == (State.queued, None)


def test_only_one_process_has_workers(queue, monkeypatch) -> None:
    started = []
    monkeypatch.setattr(module._Process, "start", lambda self, arguments: started.append(arguments))
    with FileLock(queue.folder / "workers.lock"), Supervisor(queue) as supervisor:
        time.sleep(0)
        assert not supervisor._take_lock()
        assert started == []


def test_a_job_that_is_queued_again_is_not_swept_up(tmp_path, picture, voice, monkeypatch) -> None:
    queue = VideoQueue(tmp_path / "data", QueueSettings(keep_seconds=-1.0))
    over = queue.submit(VideoRequest(), picture, [voice]).id
    queue.cancel(over)
    expired = queue.store.expired()
    queue.retry(over)
    monkeypatch.setattr(queue.store, "expired", lambda: expired)
    assert queue.sweep() == []
    assert queue.inputs_of(queue.get(over))[0].is_file()


def test_on_a_full_disk_files_are_deleted_first(queue, picture, voice, monkeypatch) -> None:
    job = queue.submit(VideoRequest(), picture, [voice]).id
    queue.cancel(job)
    delete = queue.store.delete

    def need_room(name: str, if_expired: bool = False) -> bool:
        if queue.folder_of(name).exists():
            raise sqlite3.OperationalError("database or disk is full")
        return delete(name, if_expired)

    monkeypatch.setattr(queue.store, "delete", need_room)
    queue.delete(job)
    assert queue.list() == []


def test_jobs_whose_time_is_over_are_swept_up_with_their_files(tmp_path, picture, voice) -> None:
    queue = VideoQueue(tmp_path / "data", QueueSettings(keep_seconds=-1.0))
    kept = queue.submit(VideoRequest(), picture, [voice]).id
    over = queue.submit(VideoRequest(), picture, [voice]).id
    queue.cancel(over)
    orphan = queue.folder_of("video_" + "0" * 24)
    young = queue.folder_of("video_" + "1" * 24)
    orphan.mkdir()
    young.mkdir()
    os.utime(orphan, (0, 0))
    assert queue.sweep() == [over]
    assert [job.id for job in queue.list()] == [kept]
    assert {path.name for path in queue.folder_of(kept).parent.iterdir()} == {kept, young.name}
