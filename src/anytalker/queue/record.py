"""What is known of a job: its state, its progress and how it ended."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from anytalker.errors import OUT_OF_MEMORY, AnyTalkerError, InputError
from anytalker.failures import explain, is_out_of_memory
from anytalker.queue.request import VideoRequest

LOCAL = "local"
"""Owner of jobs where there are no others."""
log = logging.getLogger("anytalker.worker")


class State(str, Enum):
    """Where a job is."""

    queued = "queued"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"

    @property
    def over(self) -> bool:
        """Whether nothing more happens unless somebody asks for it."""
        return self not in (State.queued, State.running)


@dataclass(frozen=True)
class Failure:
    """Why a job failed.

    Attributes:
        code: for programs: "invalid_input", "out_of_memory", "worker_died", "timeout", "failed" (for another reason
            that was foreseen, such as a full disk) or "internal_error".
        message: for people.
    """

    code: str
    message: str


@dataclass(frozen=True)
class QueuedJob:
    """A job as it is at a moment; times in seconds since 1970.

    Attributes:
        id: such as "video_1f0c…", the name of its folder, too.
        state: where it is.
        request: what is asked for.
        owner: whose it is; others don't see it.
        priority: of the jobs that wait, those of a higher one go first.
        created, started, finished: times; None: not yet.
        attempts: how often a worker has begun with it.
        stage: "prepare", "denoise" or "decode" while it is running.
        done, total: steps of the stage.
        progress: share of the work, from 0 to 1.
        seconds_left: until it is finished, as far as can be told.
        previews: pictures of it that have been shown.
        position: jobs that wait before it; None: it doesn't wait.
        expires: when it is deleted.
        failure: why it failed.
    """

    id: str
    state: State
    request: VideoRequest
    owner: str
    priority: int
    created: float
    started: float | None
    finished: float | None
    attempts: int
    stage: str | None
    done: int
    total: int
    progress: float
    seconds_left: float | None
    previews: int
    position: int | None
    expires: float | None
    failure: Failure | None

    @property
    def changed(self) -> tuple[Any, ...]:
        """What tells this moment of the job from another one."""
        return self.state, self.stage, self.done, self.total, self.previews, self.position


@dataclass(frozen=True)
class Claim:
    """A job that a worker makes: the attempt counts, so that nobody else can finish it."""

    job: QueuedJob
    worker: str

    @property
    def where(self) -> tuple[str, tuple[Any, ...]]:
        """The condition under which it still holds, and its values."""
        return "id = ? AND state = 'running' AND worker = ? AND attempts = ?", (
            self.job.id,
            self.worker,
            self.job.attempts,
        )


class UnknownJob(AnyTalkerError):
    """There is no job of that id, or it belongs to somebody else."""


class QueueFull(AnyTalkerError):
    """No job can be taken at the moment.

    Attributes:
        reason: "queue_full", "too_many_jobs" of an owner, or "storage_full".
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class KeyConflict(AnyTalkerError):
    """The idempotency key was used for another request."""


class NotMade(AnyTalkerError):
    """A video could not be made elsewhere, where it was settled what its owner is told.

    Attributes:
        failure: that.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def failure_of(error: Exception, folder: Path) -> Failure:
    """What the owner of a job is told of an error; what nobody expected goes to the log alone."""
    if isinstance(error, NotMade):
        return error.failure
    if is_out_of_memory(error):
        return Failure("out_of_memory", OUT_OF_MEMORY)
    if isinstance(error, InputError):
        return Failure("invalid_input", _without_paths(str(error), folder))
    if isinstance(error, AnyTalkerError):
        code = "out_of_memory" if str(error).startswith("Out of memory") else "failed"
        return Failure(code, _without_paths(str(error), folder))
    log.error(explain(error))
    return Failure("internal_error", f"Something failed that should not ({type(error).__name__}); the log says more.")


def _without_paths(message: str, folder: Path) -> str:
    return message.replace(f"{folder}{os.sep}", "").replace(str(folder), "its folder")
