"""The tables of the jobs' file, and what is done to their rows within a transaction."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from pydantic import ValidationError

from anytalker.queue.record import Failure, KeyConflict, QueuedJob, QueueFull, State
from anytalker.queue.request import VideoRequest

VERSION = 2
SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    request TEXT NOT NULL,
    model TEXT NOT NULL,
    owner TEXT NOT NULL,
    priority INTEGER NOT NULL,
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    expires REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    reached REAL NOT NULL DEFAULT 0,
    worker TEXT,
    lease REAL,
    queued REAL,
    claimed REAL,
    stage TEXT,
    done INTEGER NOT NULL DEFAULT 0,
    total INTEGER NOT NULL DEFAULT 0,
    progress REAL NOT NULL DEFAULT 0,
    seconds_left REAL,
    previews INTEGER NOT NULL DEFAULT 0,
    failure_code TEXT,
    failure_message TEXT,
    key TEXT,
    digest TEXT,
    bytes INTEGER NOT NULL DEFAULT 0,
    webhook TEXT,
    UNIQUE (owner, key)
);
CREATE INDEX IF NOT EXISTS waiting ON jobs (state, priority DESC, number);
CREATE INDEX IF NOT EXISTS owned ON jobs (owner, state);
CREATE TABLE IF NOT EXISTS webhooks (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL,
    event TEXT NOT NULL,
    target TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL
);
"""
ADDED = {1: ("ALTER TABLE jobs ADD COLUMN queued REAL", "ALTER TABLE jobs ADD COLUMN claimed REAL")}
"""What a file of an earlier version lacks, by that version. `queued`: since when a job waits, if not since it was
created; `claimed`: when its present attempt began."""
_AHEAD = (
    "SELECT COUNT(*) FROM jobs AS other WHERE other.state = 'queued' AND (other.priority > jobs.priority OR "
    "(other.priority = jobs.priority AND other.number < jobs.number))"
)
COLUMNS = f"jobs.*, CASE WHEN state = 'queued' THEN ({_AHEAD}) END AS position"


@dataclass(frozen=True)
class Bounds:
    """How much a queue holds.

    Attributes:
        waiting: jobs that wait or run, of everybody.
        of_owner: the same of one owner; None: no bound of its own.
        bytes: that all jobs take on disk together.
    """

    waiting: int = 200
    of_owner: int | None = None
    bytes: int = 50 * 2**30


_PATIENCE = 300.0
"""Seconds that a job of another model lets those of a loaded one go before it."""
UNREADABLE = "It was asked for in another version of this program, which knew other options. Ask for it again."
DIED = "The process that made it ended several times without a message; most likely it ran out of memory."


def next_row(database: sqlite3.Connection, now: float, loaded: str | None) -> sqlite3.Row | None:
    """The job whose turn it is, for a worker that has loaded a model."""
    return database.execute(
        "SELECT * FROM jobs WHERE state = 'queued' ORDER BY priority DESC, COALESCE(queued, created) < :late DESC, "
        "CASE WHEN COALESCE(queued, created) < :late THEN 0 ELSE model = :loaded END DESC, number LIMIT 1",
        {"late": now - _PATIENCE, "loaded": loaded},
    ).fetchone()


def finish(
    database: sqlite3.Connection,
    row: sqlite3.Row,
    state: State,
    now: float,
    expires: float | None,
    failure: Failure | None = None,
) -> None:
    """End a job, and queue the webhook that tells it, in the same transaction."""
    code, message = (failure.code, failure.message) if failure else (None, None)
    done = "progress = 1, " if state is State.succeeded else ""
    database.execute(
        f"UPDATE jobs SET state = ?, {done}finished = ?, expires = ?, failure_code = ?, failure_message = ?, "
        "worker = NULL, lease = NULL, seconds_left = NULL WHERE id = ?",
        (state.value, now, expires, code, message, row["id"]),
    )
    if row["webhook"]:
        database.execute(
            "INSERT INTO webhooks (job, event, target, due) VALUES (?, ?, ?, ?)",
            (row["id"], state.value, row["webhook"], now),
        )


def check_room(database: sqlite3.Connection, owner: str, bounds: Bounds, size: int) -> None:
    """Make sure that there is room for one more job, whose files take `size` bytes.

    Raises:
        QueueFull: if there is none.
    """
    waiting = "SELECT COUNT(*) FROM jobs WHERE state IN ('queued', 'running')"
    if database.execute(waiting).fetchone()[0] >= bounds.waiting:
        raise QueueFull("queue_full", f"{bounds.waiting} videos wait already, which is all there is room for.")
    if bounds.of_owner is not None:
        count = database.execute(f"{waiting} AND owner = ?", (owner,)).fetchone()[0]
        if count >= bounds.of_owner:
            raise QueueFull("too_many_jobs", f"{count} of your videos wait already, and no more may.")
    used = database.execute("SELECT COALESCE(SUM(bytes), 0) FROM jobs").fetchone()[0]
    if used + size > bounds.bytes:
        raise QueueFull("storage_full", "The disk space for videos is used up. Delete some.")


def of_key(database: sqlite3.Connection, owner: str, key: str, digest: str) -> QueuedJob | None:
    """The job that an owner submitted with an idempotency key; None: there is none.

    Raises:
        KeyConflict: if that was another request.
    """
    query = f"SELECT {COLUMNS} FROM jobs WHERE owner = ? AND key = ?"
    row = database.execute(query, (owner, key)).fetchone()
    if row is None:
        return None
    if row["digest"] != digest:
        raise KeyConflict("This idempotency key was used for another request. Take a new one.")
    return job_of(row)


def request_of(row: sqlite3.Row) -> VideoRequest | None:
    """What a row asks for; None: options that this version doesn't know."""
    try:
        return VideoRequest.model_validate_json(row["request"])
    except ValidationError:
        return None


def job_of(row: sqlite3.Row) -> QueuedJob:
    """A row, selected with `COLUMNS`, as a job."""
    plain = ("id", "owner", "priority", "created", "started", "finished", "attempts", "stage", "done", "total")
    values = {name: row[name] for name in (*plain, "progress", "seconds_left", "previews", "position", "expires")}
    failure = Failure(row["failure_code"], row["failure_message"]) if row["failure_code"] else None
    request = request_of(row) or VideoRequest(model=row["model"])
    return QueuedJob(state=State(row["state"]), request=request, failure=failure, **values)
