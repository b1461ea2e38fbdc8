"""The videos on the page: the one that is being made or watched, another beside it, and all that there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import gradio as gr

from anytalker.queue.record import LOCAL, QueuedJob, State, UnknownJob
from anytalker.studio import shown, words
from anytalker.studio.again import again
from anytalker.studio.cast import Cast, Desk
from anytalker.studio.rows import Choices

_EVERY, _SELDOM = 1.0, 4.0
"""Seconds from one look at the queue to the next, while a video waits or is made, and otherwise."""
_CARDS = 6


class Around(Protocol):
    """What the rest of the page has: its components, and how it is filled."""

    desk: Desk
    job: gr.State
    people: list[Any]
    choices: list[Any]
    consent: gr.Checkbox
    problem: gr.HTML

    def told(self, handler: Callable[..., dict[Any, Any]]) -> Callable[..., dict[Any, Any]]:
        """A handler that says on the page why it failed."""

    def show(self, cast: Cast) -> dict[Any, Any]:
        """The page with a picture and its people."""

    def show_choices(self, choices: Choices) -> dict[Any, Any]:
        """The page with what was chosen for a video."""


class Videos:
    """Components for videos and their handlers, inside of `gr.Blocks`.

    Args:
        page: that they are on.
        made: the blocks.
    """

    def __init__(self, page: Around, made: gr.Blocks) -> None:
        self.page, self.queue = page, page.desk.queue
        self.other, self.last = gr.State(None), gr.State(None)
        self.jobs, self.count = gr.State(()), gr.State(_CARDS)
        self.timer = gr.Timer(_EVERY)
        gr.Markdown(f"## {words.RESULT}")
        self.view = gr.HTML(f"<p>{words.NOTHING_YET}</p>", elem_id="video")
        with gr.Row():
            self.cancel = gr.Button(words.CANCEL, variant="stop", visible=False, min_width=100)
            self.retry = gr.Button(words.RETRY, visible=False, min_width=100)
            self.delete = gr.Button(words.DELETE, visible=False, min_width=100)
            self.alone = gr.Button(words.STOP_COMPARING, visible=False, min_width=100)
        gr.Markdown(f"## {words.GALLERY}")
        self.gallery = gr.Column()
        self.more = gr.Button(words.MORE_VIDEOS, visible=False)
        self._connect(made)

    def _connect(self, made: gr.Blocks) -> None:
        page = self.page
        looked = [page.job, self.other, self.last, self.jobs, self.count]
        seen = [page.job, self.view, self.last, self.jobs, self.timer]
        seen += [self.cancel, self.retry, self.delete, self.alone, self.more]
        quiet: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}
        made.load(self._look, looked, seen, **quiet)
        self.timer.tick(self._look, looked, seen, **quiet)
        gr.on([page.job.change, self.other.change, self.count.change], self._look, looked, seen, **quiet)
        self.cancel.click(page.told(self._cancel), page.job, [page.problem])
        self.retry.click(page.told(self._retry), page.job, [page.problem])
        self.delete.click(page.told(self._delete), page.job, [page.problem, page.job])
        self.alone.click(lambda: None, None, self.other)
        self.more.click(lambda count: count + _CARDS, self.count, self.count)
        with self.gallery:
            gr.render(inputs=[self.jobs], show_progress="hidden")(self._cards)

    def _look(self, job: str | None, other: str | None, last: Any, jobs: Any, count: int) -> dict[Any, Any]:
        """Look at the queue; only what has changed is sent to the page."""
        listed = self.queue.list(LOCAL, limit=count + 1)
        known = self._known(job) or (listed[0] if listed else None)
        beside = self._known(other) if other else None
        now = (known and (known.id, known.changed, known.failure), beside and (beside.id, beside.changed))
        found: dict[Any, Any] = {}
        if known is not None and known.id != job:
            found[self.page.job] = known.id
        if now != last:
            found |= {self.last: now, self.view: self._shown(known, beside)}
            found |= self._buttons(known, beside)
        cards = tuple((one.id, one.state.value) for one in listed[:count])
        if cards != jobs:
            busy = any(not one.state.over for one in listed)
            timer = gr.Timer(_EVERY if busy else _SELDOM)
            found |= {self.jobs: cards, self.more: gr.update(visible=len(listed) > count), self.timer: timer}
        return found or {self.last: gr.skip()}

    def _known(self, job: str | None) -> QueuedJob | None:
        try:
            return self.queue.get(job, LOCAL) if job else None
        except UnknownJob:
            return None

    def _shown(self, job: QueuedJob | None, other: QueuedJob | None) -> str:
        if job is None:
            return f"<p>{words.NOTHING_YET}</p>"
        if other is not None and other.id != job.id:
            return shown.compared(job, other, self.queue)
        return shown.shown(job, self.queue)

    def _buttons(self, job: QueuedJob | None, other: QueuedJob | None) -> dict[Any, Any]:
        over = job is not None and job.state.over
        return {
            self.cancel: gr.update(visible=job is not None and not over),
            self.retry: gr.update(visible=job is not None and job.state in (State.failed, State.cancelled)),
            self.delete: gr.update(visible=over),
            self.alone: gr.update(visible=other is not None),
        }

    def _cancel(self, job: str) -> dict[Any, Any]:
        self.queue.cancel(job, LOCAL)
        return {}

    def _retry(self, job: str) -> dict[Any, Any]:
        self.queue.retry(job, LOCAL)
        return {}

    def _delete(self, job: str) -> dict[Any, Any]:
        self.queue.delete(job, LOCAL)
        return {self.page.job: None}

    def _cards(self, jobs: tuple[tuple[str, str], ...]) -> None:
        """A card a video, with what can be done with it."""
        page = self.page
        if not jobs:
            gr.Markdown(words.NO_VIDEOS)
        for job, _ in jobs:
            known = self._known(job)
            if known is None:
                continue
            with gr.Group():
                gr.HTML(shown.card(known), padding=True)
                with gr.Row():
                    watch = gr.Button(words.WATCH, size="sm", min_width=80)
                    repeat = gr.Button(words.AGAIN, size="sm", min_width=80)
                    compare = gr.Button(words.COMPARE, size="sm", min_width=80)
            watch.click(lambda job=job: (job, None), None, [page.job, self.other])
            repeat.click(page.told(lambda job=job: self._again(job)), None, [*page.people, *page.choices])
            compare.click(lambda job=job: job, None, self.other)

    def _again(self, job: str) -> dict[Any, Any]:
        """The page as it was when a video was asked for."""
        cast, choices = again(self.page.desk, self.queue.get(job, LOCAL))
        return self.page.show(cast) | self.page.show_choices(choices) | {self.page.consent: True}
