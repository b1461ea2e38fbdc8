"""The jobs in an SQLite file, which processes share: each change is a transaction, and survives kill -9.

A claim is a lease: whoever makes a job renews it, and one that has run out goes back to the queue. Its number of
attempts is part of the claim, so that a worker that was taken for dead can't finish what another one is making.
(huey, whose SQLite storage looks alike, deletes a task when a worker takes it: with the process the task is lost.)
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anytalker.queue.record import Claim, Failure, QueuedJob, State, UnknownJob
from anytalker.queue.request import VideoRequest
from anytalker.queue.rows import (
    ADDED,
    COLUMNS,
    DIED,
    SCHEMA,
    UNREADABLE,
    VERSION,
    Bounds,
    check_room,
    finish,
    job_of,
    next_row,
    of_key,
    request_of,
)


class JobStore:
    """The jobs of a file.

    Args:
        path: the file; it is made if it isn't there.
        clock: tells the time in seconds since 1970.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path, self._clock = path, clock
        self._local = threading.local()
        path.touch(mode=0o600)
        with self._transaction() as database:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version < VERSION:
                for statement in filter(str.strip, SCHEMA.split(";")) if version == 0 else ADDED[version]:
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {VERSION}")

    def close(self) -> None:
        """Close this thread's connection."""
        if hasattr(self._local, "database"):
            self._local.database.close()
            del self._local.database

    # Asking

    def get(self, job: str, owner: str | None = None) -> QueuedJob:
        """A job.

        Args:
            job: its id.
            owner: who asks; None: may see all.

        Raises:
            UnknownJob: if there is none of that id, or it is somebody else's.
        """
        row = self._row(f"SELECT {COLUMNS} FROM jobs WHERE id = ? AND owner = COALESCE(?, owner)", job, owner)
        if row is None:
            raise UnknownJob(f"There is no video {job}.")
        return job_of(row)

    def jobs(
        self,
        owner: str | None = None,
        limit: int = 100,
        after: str | None = None,
        states: Sequence[State] | None = None,
        oldest_first: bool = False,
    ) -> list[QueuedJob]:
        """Jobs, the newest first.

        Args:
            owner: whose; None: everybody's.
            limit: how many at most.
            after: id of the last one of the page before.
            states: None: all.
            oldest_first: the other way round.
        """
        conditions, values = ["owner = COALESCE(?, owner)"], [owner]
        if states is not None:
            conditions.append(f"state IN ({', '.join('?' * len(states))})")
            values += [state.value for state in states]
        if after is not None:
            conditions.append(f"number {'>' if oldest_first else '<'} (SELECT number FROM jobs WHERE id = ?)")
            values.append(after)
        order = "ASC" if oldest_first else "DESC"
        query = (
            f"SELECT {COLUMNS} FROM jobs WHERE {' AND '.join(conditions)} ORDER BY number {order} LIMIT {int(limit)}"
        )
        return [job_of(row) for row in self._database.execute(query, values)]

    def counts(self, owner: str | None = None) -> dict[State, int]:
        """How many jobs are in each state."""
        rows = self._database.execute(
            "SELECT state, COUNT(*) FROM jobs WHERE owner = COALESCE(?, owner) GROUP BY state", (owner,)
        )
        found = {State(state): count for state, count in rows}
        return {state: found.get(state, 0) for state in State}

    def bytes(self) -> int:
        """What all jobs take on disk."""
        return int(self._database.execute("SELECT COALESCE(SUM(bytes), 0) FROM jobs").fetchone()[0])

    def known(self, owner: str, key: str, digest: str) -> QueuedJob | None:
        """The job that an owner submitted with an idempotency key.

        Raises:
            KeyConflict: if that was another request.
        """
        return of_key(self._database, owner, key, digest)

    # Changing

    def add(
        self,
        job: str,
        request: VideoRequest,
        owner: str,
        bounds: Bounds,
        priority: int = 0,
        size: int = 0,
        key: str | None = None,
        digest: str | None = None,
        webhook: str | None = None,
    ) -> QueuedJob:
        """Add a job whose files are there.

        Args:
            job: its id.
            request: what is asked for.
            owner: whose it is.
            bounds: how much the queue holds.
            priority: see `QueuedJob`.
            size: bytes of its files.
            key: of idempotency; the job that has it already is returned instead.
            digest: of the request, with which the key must come again.
            webhook: where its end is told, as text that only the sender of webhooks understands.

        Raises:
            QueueFull: if there is no room.
            KeyConflict: if the key was used for another request.
        """
        with self._transaction() as database:
            if key is not None and (known := of_key(database, owner, key, digest or "")) is not None:
                return known
            check_room(database, owner, bounds, size)
            database.execute(
                "INSERT INTO jobs (id, state, request, model, owner, priority, created, bytes, key, digest, webhook) "
                "VALUES (?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(job, request.model_dump_json(exclude_defaults=True), request.model, owner, priority),
                    *(self._clock(), size, key, digest, webhook),
                ),
            )
            return self.get(job)

    def check_room(self, owner: str, bounds: Bounds, size: int = 0) -> None:
        """Make sure that there is room, before any work.

        Raises:
            QueueFull: if there is none.
        """
        check_room(self._database, owner, bounds, size)

    def claim(self, worker: str, lease: float, loaded: str | None = None) -> Claim | None:
        """Take the next job; None if none waits.

        Jobs go by priority and age, but those of the model that is loaded first while nobody waits too long for it.

        Args:
            worker: who makes it.
            lease: seconds until it goes back to the queue, unless renewed.
            loaded: name of the model that the worker has loaded.
        """
        now = self._clock()
        with self._transaction() as database:
            while (row := next_row(database, now, loaded)) is not None and request_of(row) is None:
                finish(database, row, State.failed, now, None, Failure("failed", UNREADABLE))
            if row is None:
                return None
            database.execute(
                "UPDATE jobs SET state = 'running', worker = ?, lease = ?, attempts = attempts + 1, claimed = ?, "
                "started = COALESCE(started, ?), stage = NULL, done = 0, total = 0, progress = 0, seconds_left = NULL "
                "WHERE id = ?",
                (worker, now + lease, now, now, row["id"]),
            )
            return Claim(self.get(row["id"]), worker)  # before anybody can delete it

    def renew(self, claim: Claim, lease: float) -> bool:
        """Keep a claim for so many seconds more; whether it still holds."""
        now = self._clock()  # while the machine slept, nobody worked: that time doesn't count for the job
        return self._if_held(claim, "claimed = claimed + MAX(0, ? - lease), lease = ?", now, now + lease)

    def report(
        self, claim: Claim, stage: str, done: int, total: int, progress: float, seconds_left: float | None
    ) -> bool:
        """Write down how far a job is; whether the claim still holds."""
        change = "stage = ?, done = ?, total = ?, progress = ?, seconds_left = ?"
        return self._if_held(claim, change, stage, done, total, progress, seconds_left)

    def count_preview(self, claim: Claim) -> bool:
        """Write down that there is another picture; whether the claim still holds."""
        return self._if_held(claim, "previews = previews + 1")

    def holds(self, claim: Claim) -> bool:
        """Whether a claim still holds: the job was not cancelled, deleted or given to another worker."""
        where, values = claim.where
        return self._row(f"SELECT 1 FROM jobs WHERE {where}", *values) is not None

    def succeed(self, claim: Claim, size: int, expires: float | None) -> bool:
        """End a job whose video is there; whether the claim still held."""
        return self._end(claim, State.succeeded, None, size, expires)

    def fail(self, claim: Claim, failure: Failure, size: int, expires: float | None) -> bool:
        """End a job that can't be made; whether the claim still held."""
        return self._end(claim, State.failed, failure, size, expires)

    def release(self, claim: Claim) -> bool:
        """Give a job back to the queue, at its old place."""
        return self._if_held(claim, "state = 'queued', worker = NULL, lease = NULL, seconds_left = NULL")

    def recover(self, worker: str | None, most_crashes: int | None, expires: float | None) -> list[str]:
        """Give back to the queue what a dead worker was making, or everything whose lease has run out.

        Args:
            worker: that is dead; None: any whose lease has run out.
            most_crashes: a job fails that has taken so many workers with it, one after another, without getting
                further than before; None: its worker was killed with the whole service, which doesn't count.
            expires: when a failed one is deleted.

        Returns:
            Ids of the jobs.
        """
        condition = "state = 'running' AND " + ("lease < ?" if worker is None else "worker = ?")
        with self._transaction() as database:
            query = f"SELECT * FROM jobs WHERE {condition}"
            rows = database.execute(query, (self._clock() if worker is None else worker,)).fetchall()
            for row in rows:
                further = row["progress"] > row["reached"]
                crashes = (0 if further else row["crashes"]) + 1 if most_crashes is not None else row["crashes"]
                if most_crashes is not None and crashes >= most_crashes:
                    finish(database, row, State.failed, self._clock(), expires, Failure("worker_died", DIED))
                database.execute(
                    "UPDATE jobs SET crashes = ?, reached = MAX(reached, progress), worker = NULL, lease = NULL, "
                    "seconds_left = NULL, state = CASE state WHEN 'running' THEN 'queued' ELSE state END WHERE id = ?",
                    (crashes, row["id"]),
                )
        return [row["id"] for row in rows]

    def overdue(self, seconds: float) -> list[tuple[str, str]]:
        """Jobs whose present attempt has been running for longer, as (id, worker)."""
        rows = self._database.execute(
            "SELECT id, worker FROM jobs WHERE state = 'running' AND claimed < ?", (self._clock() - seconds,)
        )
        return [(row["id"], row["worker"]) for row in rows]

    def give_up(self, job: str, failure: Failure, expires: float | None) -> None:
        """Let a running job fail, whoever makes it."""
        with self._transaction() as database:
            row = database.execute("SELECT * FROM jobs WHERE id = ? AND state = 'running'", (job,)).fetchone()
            if row is not None:
                finish(database, row, State.failed, self._clock(), expires, failure)

    def cancel(self, job: str, owner: str | None, expires: float | None) -> QueuedJob:
        """End a job that waits or runs, at once: its worker notices at the next step. Others stay as they are.

        Raises:
            UnknownJob: see `get`.
        """
        with self._transaction() as database:
            self.get(job, owner)
            query = "SELECT * FROM jobs WHERE id = ? AND state IN ('queued', 'running')"
            if (row := database.execute(query, (job,)).fetchone()) is not None:
                finish(database, row, State.cancelled, self._clock(), expires)
        return self.get(job)

    def retry(self, job: str, owner: str | None, bounds: Bounds) -> QueuedJob:
        """Queue a job again that failed or was cancelled, behind the others. One that waits or runs stays as it is.

        Raises:
            UnknownJob: see `get`.
            QueueFull: if there is no room.
        """
        with self._transaction() as database:
            known = self.get(job, owner)
            if known.state in (State.failed, State.cancelled):
                check_room(database, known.owner, bounds, 0)
                database.execute(
                    "UPDATE jobs SET state = 'queued', number = (SELECT MAX(number) + 1 FROM jobs), queued = ?, "
                    "crashes = 0, reached = 0, started = NULL, finished = NULL, expires = NULL, failure_code = NULL, "
                    "failure_message = NULL, stage = NULL, done = 0, total = 0, progress = 0 WHERE id = ?",
                    (self._clock(), job),
                )
        return self.get(job)

    def delete(self, job: str, if_expired: bool = False) -> bool:
        """Forget a job, or only if its time is over and it wasn't queued again; whether it was forgotten."""
        over = " AND expires < ? AND state NOT IN ('queued', 'running')" if if_expired else ""
        values = (job, self._clock()) if if_expired else (job,)
        with self._transaction() as database:
            return database.execute(f"DELETE FROM jobs WHERE id = ?{over}", values).rowcount == 1

    def resize(self, job: str, size: int) -> None:
        """Write down how many bytes the files of a job that is over take."""
        change = "UPDATE jobs SET bytes = ? WHERE id = ? AND state NOT IN ('queued', 'running')"
        with self._transaction() as database:
            database.execute(change, (size, job))

    def expired(self) -> list[str]:
        """Ids of the jobs whose time is over."""
        rows = self._database.execute(
            "SELECT id FROM jobs WHERE expires < ? AND state NOT IN ('queued', 'running')", (self._clock(),)
        )
        return [row["id"] for row in rows]

    # Webhooks

    def due_webhooks(self) -> list[sqlite3.Row]:
        """What is to be told now: rows with number, job, event, target, attempts."""
        # First attempts first: whoever never answers must not hold up those who do.
        query = "SELECT * FROM webhooks WHERE due <= ? ORDER BY attempts, number"
        return self._database.execute(query, (self._clock(),)).fetchall()

    def take_webhook(self, number: int, attempts: int, pause: float | None) -> bool:
        """Begin to tell it, which is due again after so many seconds; None: never.

        Returns:
            Whether this is the attempt that comes after so many; if not, another process has begun with it.
        """
        due = None if pause is None else self._clock() + pause
        with self._transaction() as database:
            if due is None:
                change = "DELETE FROM webhooks WHERE number = ? AND attempts = ?"
                return database.execute(change, (number, attempts)).rowcount == 1
            change = "UPDATE webhooks SET attempts = attempts + 1, due = ? WHERE number = ? AND attempts = ?"
            return database.execute(change, (due, number, attempts)).rowcount == 1

    def forget_webhook(self, number: int) -> None:
        """Never tell it again."""
        with self._transaction() as database:
            database.execute("DELETE FROM webhooks WHERE number = ?", (number,))

    def _end(self, claim: Claim, state: State, failure: Failure | None, size: int, expires: float | None) -> bool:
        where, values = claim.where
        with self._transaction() as database:
            row = database.execute(f"SELECT * FROM jobs WHERE {where}", values).fetchone()
            if row is not None:
                finish(database, row, state, self._clock(), expires, failure)
                database.execute("UPDATE jobs SET bytes = ? WHERE id = ?", (size, claim.job.id))
        return row is not None

    def _if_held(self, claim: Claim, change: str, *values: Any) -> bool:
        where, more = claim.where
        with self._transaction() as database:
            return database.execute(f"UPDATE jobs SET {change} WHERE {where}", (*values, *more)).rowcount == 1

    def _row(self, query: str, *values: Any) -> sqlite3.Row | None:
        return self._database.execute(query, values).fetchone()

    @property
    def _database(self) -> sqlite3.Connection:
        """This thread's connection."""
        if not hasattr(self._local, "database"):
            database = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            database.row_factory = sqlite3.Row
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            self._local.database = database
        return self._local.database

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:  # on a full disk, for example, SQLite has ended it already
                database.execute("ROLLBACK")
            raise
