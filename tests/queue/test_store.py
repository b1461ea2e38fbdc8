"""The jobs' file: claims, leases, order, room; each change a transaction."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from anytalker.queue.record import Failure, KeyConflict, QueueFull, State, UnknownJob
from anytalker.queue.request import VideoRequest
from anytalker.queue.rows import SCHEMA
from anytalker.queue.store import Bounds, JobStore

LEASE = 30.0


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path, clock) -> JobStore:
    return JobStore(tmp_path / "jobs.sqlite3", clock)


def add(store: JobStore, name: str, owner: str = "anna", bounds: Bounds | None = None, **more):
    model = more.pop("model", "tiny")
    return store.add(name, VideoRequest(model=model, seed=7), owner, bounds or Bounds(), **more)


def test_a_job_is_what_was_asked_for(store, clock) -> None:
    job = add(store, "one")
    assert (job.state, job.owner, job.request.seed, job.created, job.position) == (
        State.queued,
        "anna",
        7,
        clock.now,
        0,
    )


def test_others_jobs_are_unknown(store) -> None:
    add(store, "one")
    with pytest.raises(UnknownJob):
        store.get("one", "ben")
    with pytest.raises(UnknownJob):
        store.cancel("one", "ben", None)
    assert store.jobs("ben") == []


def test_jobs_go_by_priority_and_age(store) -> None:
    for name, priority in (("one", 0), ("two", 5), ("three", 0)):
        add(store, name, priority=priority)
    assert [store.get(name).position for name in ("one", "two", "three")] == [1, 0, 2]
    assert [store.claim("w", LEASE).job.id for _ in range(3)] == ["two", "one", "three"]
    assert store.claim("w", LEASE) is None


def test_a_loaded_model_goes_first_until_somebody_waits_too_long(store, clock) -> None:
    add(store, "other", model="14b")
    add(store, "same")
    assert store.claim("w", LEASE, loaded="tiny").job.id == "same"
    add(store, "same again")
    clock.now += 301
    add(store, "same once more")
    assert store.claim("w", LEASE, loaded="tiny").job.id == "other"


def test_a_job_is_claimed_once_however_many_ask(store) -> None:
    for number in range(20):
        add(store, f"job {number}")

    def take(worker: int) -> list[str]:
        taken = []
        while (claim := store.claim(f"w{worker}", LEASE)) is not None:
            taken.append(claim.job.id)
        return taken

    with ThreadPoolExecutor(4) as threads:
        taken = [job for jobs in threads.map(take, range(4)) for job in jobs]
    assert sorted(taken) == sorted(f"job {number}" for number in range(20))


def test_a_lease_that_runs_out_is_given_to_another_and_the_first_can_not_finish(store, clock) -> None:
    add(store, "one")
    first = store.claim("w1", LEASE)
    clock.now += LEASE / 2
    assert store.renew(first, LEASE)
    clock.now += LEASE / 2 + 1
    assert store.recover(None, 3, None) == []
    clock.now += LEASE
    assert store.recover(None, 3, None) == ["one"]
    second = store.claim("w1", LEASE)
    assert second.job.attempts == 2
    assert not store.holds(first)
    assert not store.succeed(first, 1, None)
    assert store.succeed(second, 1, None)
    assert not store.succeed(second, 1, None)
    assert store.get("one").state is State.succeeded


def test_a_job_that_takes_its_workers_with_it_fails_in_the_end(store) -> None:
    add(store, "one")
    for _ in range(2):
        store.claim("w", LEASE)
        assert store.recover("w", 3, None) == ["one"]
    store.claim("w", LEASE)
    store.recover("w", None, None)  # killed with the service: doesn't count
    assert store.get("one").state is State.queued
    store.claim("w", LEASE)
    store.recover("w", 3, None)
    assert (store.get("one").state, store.get("one").failure.code) == (State.failed, "worker_died")


def test_a_job_that_gets_further_each_time_is_not_given_up(store) -> None:
    add(store, "one")
    for number in range(9):
        claim = store.claim("w", LEASE)
        assert claim is not None
        store.report(claim, "denoise", number, 9, number / 10 + 0.05, None)
        store.recover("w", 2, None)
    assert store.get("one").state is State.queued
    store.report(store.claim("w", LEASE), "denoise", 1, 9, 0.1, None)
    store.recover("w", 2, None)
    assert store.get("one").state is State.failed


def test_a_cancelled_job_is_nobodys(store) -> None:
    add(store, "one")
    claim = store.claim("w", LEASE)
    assert store.cancel("one", "anna", None).state is State.cancelled
    assert not store.holds(claim)
    assert not store.report(claim, "denoise", 1, 2, 0.5, 1.0)
    assert not store.fail(claim, Failure("failed", "late"), 1, None)
    assert store.get("one").failure is None
    assert store.cancel("one", "anna", None).state is State.cancelled


def test_a_released_job_keeps_its_place(store) -> None:
    add(store, "one")
    add(store, "two")
    assert store.release(store.claim("w", LEASE))
    assert store.claim("w", LEASE).job.id == "one"


def test_a_job_is_tried_again_behind_the_others(store) -> None:
    add(store, "one")
    store.fail(store.claim("w", LEASE), Failure("failed", "why"), 1, None)
    add(store, "two")
    again = store.retry("one", "anna", Bounds())
    assert (again.state, again.failure, again.position) == (State.queued, None, 1)
    add(store, "three")
    assert [store.get(name).position for name in ("two", "one", "three")] == [0, 1, 2]


def test_an_old_job_that_is_tried_again_does_not_go_before_those_that_wait(store, clock) -> None:
    add(store, "old")
    store.cancel("old", None, None)
    clock.now += 3600
    add(store, "new")
    store.retry("old", None, Bounds())
    assert store.claim("w", LEASE).job.id == "new"
    clock.now += 301
    add(store, "newer")
    assert store.claim("w", LEASE, loaded="14b").job.id == "old"


def test_the_time_that_a_service_was_stopped_is_not_a_jobs_time(store, clock) -> None:
    add(store, "one")
    store.release(store.claim("w", LEASE))
    clock.now += 8 * 3600
    store.claim("w", LEASE)
    assert store.overdue(6 * 3600) == []
    clock.now += 6 * 3600 + 1
    assert store.overdue(6 * 3600) == [("one", "w")]
    assert store.get("one").started == clock.now - 14 * 3600 - 1


def test_the_time_that_the_machine_slept_is_not_a_jobs_time(store, clock) -> None:
    add(store, "one")
    claim = store.claim("w", LEASE)
    clock.now += 8 * 3600
    assert store.renew(claim, LEASE)
    assert store.overdue(6 * 3600) == []
    for _ in range(6 * 3600 // 20 + 2):
        clock.now += 20
        store.renew(claim, LEASE)
    assert store.overdue(6 * 3600) == [("one", "w")]


def test_a_file_of_an_earlier_version_goes_on(tmp_path) -> None:
    path = tmp_path / "earlier.sqlite3"
    database = sqlite3.connect(path, isolation_level=None)
    for statement in SCHEMA.replace("queued REAL,", "").replace("claimed REAL,", "").split(";"):
        database.execute(statement)
    database.execute("PRAGMA user_version = 1")
    database.execute(
        "INSERT INTO jobs (id, state, request, model, owner, priority, created) "
        "VALUES ('one', 'queued', '{}', 'tiny', 'anna', 0, 1)"
    )
    database.close()
    assert JobStore(path).claim("w", LEASE).job.id == "one"
    assert JobStore(path).overdue(-1) == [("one", "w")]


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        (Bounds(waiting=1), "queue_full"),
        (Bounds(of_owner=1), "too_many_jobs"),
        (Bounds(bytes=150), "storage_full"),
    ],
)
def test_a_full_queue_says_what_is_full(store, bounds, reason) -> None:
    add(store, "one", bounds=bounds, size=100)
    with pytest.raises(QueueFull) as caught:
        add(store, "two", bounds=bounds, size=100)
    assert caught.value.reason == reason
    assert [job.id for job in store.jobs()] == ["one"]


def test_others_have_room_where_one_has_none(store) -> None:
    add(store, "one", bounds=Bounds(of_owner=1))
    add(store, "two", "ben", bounds=Bounds(of_owner=1))


def test_a_key_gives_the_first_job_and_no_other_request_may_have_it(store) -> None:
    add(store, "one", key="k", digest="d")
    assert add(store, "two", key="k", digest="d").id == "one"
    with pytest.raises(KeyConflict):
        add(store, "three", key="k", digest="other")
    assert add(store, "four", "ben", key="k", digest="other").id == "four"


def test_what_was_committed_is_there_for_another_process(store, tmp_path) -> None:
    add(store, "one")
    claim = store.claim("w", LEASE)
    store.report(claim, "denoise", 3, 4, 0.7, 2.5)
    reopened = JobStore(tmp_path / "jobs.sqlite3")
    job = reopened.get("one")
    assert (job.state, job.stage, job.done, job.total, job.seconds_left) == (State.running, "denoise", 3, 4, 2.5)


def test_a_change_that_fails_changes_nothing(store) -> None:
    add(store, "one")
    with pytest.raises(sqlite3.IntegrityError):
        add(store, "one")
    assert store.counts()[State.queued] == 1


def test_a_job_of_another_version_holds_up_no_other(store) -> None:
    add(store, "old")
    add(store, "new")
    store._database.execute("UPDATE jobs SET request = '{\"of_long_ago\": 1}' WHERE id = 'old'")
    assert [job.id for job in store.jobs()] == ["new", "old"]
    assert store.claim("w", LEASE).job.id == "new"
    assert (store.get("old").state, store.get("old").failure.code) == (State.failed, "failed")


def test_a_transaction_that_can_not_be_ended_stands_in_nobodys_way(store) -> None:
    def refuse(action, what, *rest) -> int:
        return sqlite3.SQLITE_DENY if what == "COMMIT" else sqlite3.SQLITE_OK

    store._database.set_authorizer(refuse)
    with pytest.raises(sqlite3.DatabaseError):
        add(store, "one")
    store._database.set_authorizer(None)
    assert add(store, "two").position == 0


def test_pages_of_a_list(store) -> None:
    for number in range(5):
        add(store, f"job {number}")
    first = store.jobs("anna", limit=2)
    assert [job.id for job in first] == ["job 4", "job 3"]
    assert [job.id for job in store.jobs("anna", limit=9, after=first[-1].id)] == ["job 2", "job 1", "job 0"]
