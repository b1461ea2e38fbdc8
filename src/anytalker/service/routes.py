"""The routes of the API: `/v1/videos` in the shape that OpenAI's video API and its likes share, with people."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, Response
from sse_starlette import EventSourceResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from anytalker import __version__
from anytalker.queue.record import QueuedJob, QueueFull, State, UnknownJob
from anytalker.queue.request import LONGEST_SCRIPT
from anytalker.queue.supervisor import Supervisor
from anytalker.queue.video_queue import PREVIEW, RECORD, VIDEO, VideoQueue
from anytalker.service.access import Access, Client
from anytalker.service.forms import VideoForm, keep_uploads, read_form
from anytalker.service.metrics import Metrics
from anytalker.service.pages import POLICY, api_page
from anytalker.service.schemas import (
    FIELDS,
    STATUSES,
    Deleted,
    Health,
    Refusal,
    Video,
    VideoList,
    request_body,
    video_of,
)
from anytalker.service.settings import ServiceSettings
from anytalker.service.webhooks import check_target
from anytalker.timeline.model import MAX_PEOPLE

_EVERY = 0.4
"""Seconds from one look at a job to the next, for its events."""
_PING = 15
_UPLOADS = 32
"""Requests whose files arrive, or wait to be decoded."""
_FILES = MAX_PEOPLE + 1
_TEXTS = MAX_PEOPLE + len(FIELDS)
"""Parts of a form without a file, which are held in memory: all fields, and "none" for everybody who listens."""
_TEXT_BYTES = 4 * LONGEST_SCRIPT
routes = APIRouter()


class Places:
    """So many at a time, and no more wait.

    Args:
        count: how many.
        share: of them, how many one owner may have.
    """

    def __init__(self, count: int, share: int) -> None:
        self._count, self._share = count, share
        self._taken: Counter[str] = Counter()

    def check(self, owner: str) -> None:
        """Make sure that there is a place.

        Raises:
            QueueFull: if all are taken, or all that are the owner's.
        """
        if self._taken.total() >= self._count or self._taken[owner] >= self._share:
            raise QueueFull("busy", "There are too many requests of this kind right now.")

    @contextmanager
    def one(self, owner: str) -> Iterator[None]:
        """Hold a place.

        Raises:
            QueueFull: see `check`.
        """
        self.check(owner)
        self._taken[owner] += 1
        try:
            yield
        finally:
            self._taken[owner] -= 1
            self._taken += Counter()  # without those that have none


@dataclass
class Service:
    """What the routes work with.

    Attributes:
        queue: the jobs.
        settings: how the service is set up.
        supervisor: the workers; None: another process has them.
        access, metrics: who is let in, what is counted.
    """

    queue: VideoQueue
    settings: ServiceSettings
    supervisor: Supervisor | None
    access: Access
    metrics: Metrics
    uploads: Places = field(init=False)
    streams: Places = field(init=False)
    decoding: anyio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        alone = self.settings.keys is None  # else nobody may take all places, and keep the others out
        self.uploads, self.streams = (
            Places(count, count if alone else max(1, count // 2)) for count in (_UPLOADS, self.settings.limits.streams)
        )
        self.decoding = anyio.Semaphore(self.settings.limits.decoding)

    @property
    def alive(self) -> int:
        """Workers of this process."""
        return self.supervisor.alive if self.supervisor is not None else 0


async def _service(request: Request) -> Service:
    return request.app.state.service


async def _client(request: Request) -> Client:  # in the loop's thread, as buckets need it
    return request.app.state.service.access(request)


Ours = Annotated[Service, Depends(_service)]
Who = Annotated[Client, Depends(_client)]
Id = Annotated[str, Path(pattern=r"^video_[0-9a-f]{24}$", description="Of a video.")]
Key = Annotated[str | None, Header(max_length=200, min_length=1, pattern=r"^[ -~]+$")]
Limit = Annotated[int, Query(ge=1, le=100)]
After = Annotated[str | None, Query(pattern=r"^video_[0-9a-f]{24}$")]
Order = Annotated[str, Query(pattern=r"^(asc|desc)$")]


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Refusal} for status in (400, 401, 403, 408, 413, 421, 422, 429, *statuses)}


def _content(kind: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {kind: {}}, "description": "Successful Response"}}


@routes.post("/v1/videos", responses=_refusals(409, 415), openapi_extra=request_body())
async def create_video(request: Request, ours: Ours, who: Who, idempotency_key: Key = None) -> Video:
    """Queue a video. A second request with the same Idempotency-Key gets the video of the first one."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise HTTPException(415, "The body must be multipart/form-data.")
    with ours.uploads.one(who.owner):
        async with request.form(max_files=_FILES, max_fields=_TEXTS, max_part_size=_TEXT_BYTES) as data:
            form = await run_in_threadpool(read_form, data, ours.settings.models, ours.settings.limits)
            target = None
            if form.webhook is not None:
                target = await run_in_threadpool(check_target, *form.webhook, ours.settings.webhook_networks)
            if idempotency_key is None:  # else it may be there already
                await run_in_threadpool(ours.queue.store.check_room, who.owner, who.bounds(ours.queue.settings.bounds))
            async with ours.decoding:
                return video_of(await run_in_threadpool(_submit, ours.queue, form, who, idempotency_key, target))


def _submit(queue: VideoQueue, form: VideoForm, who: Client, key: str | None, webhook: str | None) -> QueuedJob:
    with queue.incoming() as folder:
        image, voices, digest = keep_uploads(form, folder)
        return queue.submit(
            form.request,
            image,
            voices,
            who.owner,
            at=form.at,
            priority=who.priority,
            key=key,
            digest=digest,
            bounds=who.bounds(queue.settings.bounds),
            webhook=webhook,
        )


@routes.get("/v1/videos", responses=_refusals(404))
def list_videos(ours: Ours, who: Who, limit: Limit = 20, after: After = None, order: Order = "desc") -> VideoList:
    """Your videos, the newest first, a page at a time: `after` is the last id of the page before."""
    if after is not None:
        ours.queue.get(after, who.owner)
    found = ours.queue.store.jobs(who.owner, limit + 1, after, oldest_first=order == "asc")
    data = [video_of(job) for job in found[:limit]]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return VideoList(data=data, has_more=len(found) > limit, first_id=first, last_id=last)


@routes.get("/v1/videos/{id}", responses=_refusals(404))
def get_video(id: Id, ours: Ours, who: Who) -> Video:
    """A video: its status, how far it is, and why it failed."""
    return video_of(ours.queue.get(id, who.owner))


@routes.delete("/v1/videos/{id}", responses=_refusals(404))
def delete_video(id: Id, ours: Ours, who: Who) -> Deleted:
    """Cancel a video that waits or is made, at its next step; delete one that is over, with all its files."""
    known = ours.queue.get(id, who.owner)
    if known.state.over:
        ours.queue.delete(id, who.owner)
        return Deleted(id=id, deleted=True, status=STATUSES[known.state])
    state = ours.queue.cancel(id, who.owner).state
    return Deleted(id=id, object="video", deleted=False, status=STATUSES[state])


@routes.post("/v1/videos/{id}/cancel", responses=_refusals(404))
def cancel_video(id: Id, ours: Ours, who: Who) -> Video:
    """Cancel a video that waits or is made; one that is over stays as it is."""
    return video_of(ours.queue.cancel(id, who.owner))


@routes.post("/v1/videos/{id}/retry", responses=_refusals(404))
def retry_video(id: Id, ours: Ours, who: Who) -> Video:
    """Queue a video again that failed or was cancelled."""
    return video_of(ours.queue.retry(id, who.owner, who.bounds(ours.queue.settings.bounds)))


def _file(ours: Service, who: Client, id: str, name: str) -> FilePath:
    path = ours.queue.file(id, name, who.owner)
    if path is None:
        status = STATUSES[ours.queue.get(id, who.owner).state]
        raise HTTPException(409, f"There is nothing to send yet, or any more: the status of the video is {status}.")
    return path


def _whole(path: FilePath, kind: str) -> Response:
    """A small file at once: it may be replaced or deleted meanwhile."""
    try:
        return Response(path.read_bytes(), media_type=kind)
    except FileNotFoundError:
        raise HTTPException(404, "The video was deleted.") from None


@routes.get("/v1/videos/{id}/content", responses=_refusals(404, 409) | _content("video/mp4"), response_class=Response)
def get_content(id: Id, ours: Ours, who: Who) -> FileResponse:
    """The video as MP4."""
    return FileResponse(_file(ours, who, id, VIDEO), media_type="video/mp4", filename=f"{id}.mp4")


@routes.get(
    "/v1/videos/{id}/record", responses=_refusals(404, 409) | _content("application/json"), response_class=Response
)
def get_record(id: Id, ours: Ours, who: Who) -> Response:
    """How the video was made: settings, people, timeline."""
    return _whole(_file(ours, who, id, RECORD), "application/json")


@routes.get("/v1/videos/{id}/preview", responses=_refusals(404, 409) | _content("image/jpeg"), response_class=Response)
def get_preview(id: Id, ours: Ours, who: Who) -> Response:
    """A picture of the video as it will look, while it is made."""
    return _whole(_file(ours, who, id, PREVIEW), "image/jpeg")


@routes.get("/v1/videos/{id}/events", responses=_refusals(404) | _content("text/event-stream"), response_class=Response)
async def get_events(id: Id, ours: Ours, who: Who) -> EventSourceResponse:
    """The video at each of its moments, as server-sent events named by its status, until it is over."""
    await run_in_threadpool(ours.queue.get, id, who.owner)
    ours.streams.check(who.owner)
    events = _events(ours, id, who.owner)
    return EventSourceResponse(events, ping=_PING, headers={"X-Accel-Buffering": "no"})


async def _events(ours: Service, id: str, owner: str) -> AsyncIterator[dict[str, Any]]:
    """A job's moments; looked up again and again, since another process may change them."""
    last = None
    with ours.streams.one(owner):
        while True:
            try:
                moment = await run_in_threadpool(ours.queue.get, id, owner)
            except UnknownJob:
                yield {"event": "deleted", "data": "{}"}
                return
            if moment.changed != last:
                last = moment.changed
                yield {"event": STATUSES[moment.state], "data": video_of(moment).model_dump_json()}
            if moment.state.over:
                return
            await anyio.sleep(_EVERY)


@routes.get("/healthz")
def health(ours: Ours) -> Health:
    """That the service runs, how many workers it has, and what they do."""
    counts = ours.queue.store.counts()
    waiting, running = counts[State.queued], counts[State.running]
    failing = ours.supervisor.failing if ours.supervisor is not None else 0
    return Health(version=__version__, workers=ours.alive, failing=failing, queued=waiting, in_progress=running)


@routes.get("/metrics", responses=_refusals() | _content("text/plain"), response_class=Response)
def get_metrics(ours: Ours, who: Who) -> Response:
    """Numbers for Prometheus."""
    return Response(ours.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@routes.get("/docs", include_in_schema=False)
def docs(request: Request) -> HTMLResponse:
    """The API in plain HTML."""
    return HTMLResponse(api_page(request.app.openapi()), headers={"Content-Security-Policy": POLICY})
