"""How long a video will take and how much memory, before the click."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from statistics import median

from anytalker.errors import AnyTalkerError
from anytalker.queue.record import State
from anytalker.queue.video_queue import RECORD, VideoQueue
from anytalker.studio import words
from anytalker.studio.rows import Choices, Row, model_settings

_LOOKED_AT = 30


def estimate(queue: VideoQueue, rows: Sequence[Row], choices: Choices) -> str:
    """In words: the time, going by earlier videos of the model or else by the doctor, and the memory.

    Args:
        queue: the jobs.
        rows: of the people.
        choices: of the video.
    """
    heard = [row for row in rows if row.voice and not row.listens]
    seconds = max((length_of(row.voice or "") + (row.starts or 0) for row in heard), default=0.0)
    seconds = min(seconds, choices.seconds or seconds)
    if not seconds:
        return ""
    frames = max(5, round(seconds * model_settings(choices.model).fps))
    rate = seconds_a_frame(queue, choices.model)
    need, hours = doctor(choices.model, round(seconds, 1), len(rows))
    if rate is not None:
        said = words.ESTIMATE_USUAL.format(time=duration(rate * frames * (choices.steps + 1)))
    elif hours is not None:
        said = words.ESTIMATE_HOURS.format(hours=max(1, hours))
    else:
        said = words.ESTIMATE_NONE
    return f"{said} {words.MEMORY.format(memory=need, free=free_memory())}"


def seconds_a_frame(queue: VideoQueue, model: str) -> float | None:
    """Seconds that a frame and a step of a model took here lately, the decoding being one step; None: not known."""
    found = []
    for job in queue.list(limit=_LOOKED_AT):
        if job.state is State.succeeded and job.request.model == model and job.started and job.finished:
            with suppress(AnyTalkerError, OSError, ValueError, KeyError, TypeError):
                path = queue.file(job.id, RECORD)
                record = json.loads(path.read_bytes()) if path else {}
                steps = job.request.num_inference_steps or model_settings(model).num_inference_steps
                found.append((job.finished - job.started) / (record["frames"] * (steps + 1)))
    return median(found) if found else None


@lru_cache(maxsize=256)
def doctor(model: str, seconds: float, people: int) -> tuple[float, float | None]:
    """GiB that a video needs; on a CPU the hours that a full-size model takes, else None."""
    from anytalker.doctor.advice import outlook
    from anytalker.doctor.report import plan_video, this_machine

    machine = this_machine()
    plan, _, _ = plan_video(model, machine, None, max(0.2, seconds), max(1, people))
    hours = outlook(model, machine, None, max(0.2, seconds), max(1, people)).cpu_hours if model != "tiny" else None
    return plan.peak / 2**30, hours


def free_memory() -> float:
    """GiB that are free right now."""
    from anytalker.doctor.report import this_machine

    return this_machine().memory / 2**30


def length_of(path: str) -> float:
    """Seconds that a recording says it takes; 0 if it doesn't say."""
    import av

    from anytalker.media.containers import open_media

    with suppress(av.FFmpegError, OSError, AnyTalkerError), open_media(path) as container:
        return (container.duration or 0) / 1e6
    return 0.0


def duration(seconds: float) -> str:
    """Such as "40 s" or "3 min"."""
    if seconds < 90:
        return words.MINUTES.format(seconds=max(1, seconds))
    return words.LONG_MINUTES.format(minutes=seconds / 60)
