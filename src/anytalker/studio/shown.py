"""Jobs as HTML of the page. Whatever comes from a user is escaped here, and nowhere else does HTML arise."""

from __future__ import annotations

import time
from html import escape

from anytalker.queue.record import QueuedJob, State
from anytalker.queue.video_queue import PREVIEW, VideoQueue
from anytalker.studio import words
from anytalker.studio.estimate import duration
from anytalker.studio.rows import choices_of

FILES = "/videos"
"""Where the page has the files of jobs, as FILES/ID/NAME."""


def shown(job: QueuedJob, queue: VideoQueue) -> str:
    """A job: how far it is with a preview, or the finished video with its downloads."""
    if job.state is State.succeeded:
        return _finished(job)
    parts = [f"<p class='state'>{escape(status(job))}</p>"]
    if not job.state.over:
        parts.append(f"<progress max='1' value='{job.progress:.3f}' aria-label='{escape(words.PROGRESS)}'></progress>")
    if queue.file(job.id, PREVIEW) is not None and not job.state.over:
        source = f"{FILES}/{job.id}/{PREVIEW}?{job.previews}"
        parts.append(f"<img class='preview' src='{source}' alt='{escape(words.PREVIEW)}'>")
    return f"<div class='job' data-state='{job.state.value}' role='status'>{''.join(parts)}</div>"


def _finished(job: QueuedJob) -> str:
    who, place = escape(title(job), quote=True), f"{FILES}/{job.id}"
    label = escape(words.VIDEO.format(who=title(job)), quote=True)
    return (
        f"<div class='job' data-state='succeeded'><p class='state'>{who}: {escape(settings(job))}</p>"
        f"<video controls loop playsinline preload='auto' poster='{place}/poster.jpg' "
        f"src='{place}/video.mp4' aria-label='{label}'></video>"
        f"<p class='downloads'><a href='{place}/video.mp4' download='{job.id}.mp4'>{escape(words.DOWNLOAD_VIDEO)}</a> "
        f"<a href='{place}/video.json' download='{job.id}.json'>{escape(words.DOWNLOAD_RECORD)}</a></p></div>"
    )


def status(job: QueuedJob) -> str:
    """Where a job is, in words."""
    said = [words.STATES[job.state.value]]
    if job.state is State.queued and job.position is not None:
        said.append(words.BEFORE.get(job.position) or words.BEFORE_MANY.format(count=job.position))
    if job.state is State.running:
        said = [words.STAGES.get(job.stage or "", words.LOADING)]
        if job.total > 1:
            said.append(words.STEP.format(done=job.done, total=job.total))
        if job.seconds_left is not None:
            said.append(words.LEFT.format(time=duration(job.seconds_left)))
    if job.failure is not None:
        said.append(job.failure.message)
    return ", ".join(said) if job.failure is None else ": ".join(said)


def title(job: QueuedJob) -> str:
    """Who is in a video: names of its people, or its time."""
    people = job.request.timeline.people if job.request.timeline else job.request.people
    names = [person.name for person in people if person.name]
    return " & ".join(names[:4]) or time.strftime(words.DATE, time.localtime(job.created))


def settings(job: QueuedJob) -> str:
    """A job's settings, in words."""
    choices = choices_of(job.request)
    said = [] if choices.exact else [choices.preset]
    said += [words.STEP_OF if choices.steps == 1 else words.STEPS_OF.format(steps=choices.steps)]
    said += [words.SEED_OF.format(seed=job.request.seed), job.request.model.rpartition("/")[2]]
    return ", ".join(said)


def card(job: QueuedJob) -> str:
    """A job in the gallery."""
    picture = f"<img src='{FILES}/{job.id}/thumbnail.jpg' alt='' loading='lazy'>"
    when = time.strftime(words.DATE, time.localtime(job.created))
    return (
        f"<div class='card'>{picture}<div><strong>{escape(title(job))}</strong><br>"
        f"{escape(when)}: {escape(words.STATES[job.state.value])}<br>{escape(settings(job))}</div></div>"
    )


def compared(first: QueuedJob, second: QueuedJob, queue: VideoQueue) -> str:
    """Two jobs side by side."""
    button = f"<button type='button' class='both' data-play-both>{escape(words.PLAY_BOTH)}</button>"
    return f"<div class='compared'>{shown(first, queue)}{shown(second, queue)}</div>{button}"


def message(text: str, problem: bool = True) -> str:
    """Something the user should read; empty for nothing."""
    if not text:
        return ""
    return f"<p class='{'problem' if problem else 'note'}' role='{'alert' if problem else 'status'}'>{escape(text)}</p>"
