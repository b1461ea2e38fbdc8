"""A client of `anytalker serve`: submit a video, wait for it, get it.

with Client("http://127.0.0.1:8000") as client:
    video = client.create("two.png", ["anna.wav", None], seed=3)
    video = client.wait(video.id, lambda moment: print(moment.progress))
    client.download(video.id, "talk.mp4")
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from anytalker.errors import AnyTalkerError
from anytalker.files import atomic_path

_OVER = ("completed", "failed", "cancelled")
_SECONDS = 60.0
_MOST_PAUSE = 60.0
_PASSING = (429, 502, 503, 504)
"""Statuses that say nothing of a video: too many ask at once, or a proxy can't reach the service."""


class ServiceError(AnyTalkerError):
    """The service refused.

    Attributes:
        status: of HTTP.
        code: for programs, such as "invalid_input" or "queue_full".
        retry_after: seconds after which it may be worth while to ask again; None: not said.
    """

    def __init__(self, status: int, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after = status, code, retry_after


@dataclass(frozen=True)
class Video:
    """A video of the service, at a moment.

    Attributes:
        id: by which it is called.
        status: "queued", "in_progress", "completed", "failed" or "cancelled".
        progress: percent.
        queue_position: videos that wait before it.
        seconds_left: until it is finished, as far as can be told.
        has_preview: whether there is a picture of it.
        error: why it failed: {"code": …, "message": …}.
        data: everything that the service said.
    """

    id: str
    status: str
    progress: int = 0
    queue_position: int | None = None
    seconds_left: float | None = None
    has_preview: bool = False
    error: dict[str, str] | None = None
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def over(self) -> bool:
        """Whether nothing more happens."""
        return self.status in _OVER

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Video:
        """What the service said."""
        names = {one.name for one in fields(cls)} - {"data"}
        return cls(**{name: value for name, value in data.items() if name in names}, data=data)


class Client:
    """A client, for use with `with`.

    Args:
        address: of the service.
        key: of the service, if it has keys.
        timeout: seconds that an answer may take.
        transport: of httpx, for tests.
    """

    def __init__(
        self,
        address: str = "http://127.0.0.1:8000",
        key: str | None = None,
        timeout: float = _SECONDS,
        transport: Any = None,
    ) -> None:
        import httpx

        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=address, headers=headers, timeout=timeout, transport=transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def create(
        self,
        image: str | Path,
        audio: Sequence[str | Path | None] = (),
        people: Sequence[Mapping[str, Any]] | None = None,
        timeline: Mapping[str, Any] | None = None,
        script: str | None = None,
        idempotency_key: str | None = None,
        wait_for_room: float = 0.0,
        **options: Any,
    ) -> Video:
        """Queue a video.

        Args:
            image: the picture.
            audio: a recording a person, in their order; None: listens.
            people: see the service's API.
            timeline: who says what when, instead.
            script: what is spoken, instead.
            idempotency_key: with which the same video is not made twice; None: a new one.
            wait_for_room: seconds to wait if the service is full.
            options: such as `seed`, `model`, `max_frames` or `prompt`.

        Raises:
            ServiceError: if it is refused.
        """
        texts = {name: value for name, value in options.items() if value is not None}
        texts |= {"people": people, "timeline": timeline, "script": script}
        data = {name: _text(value) for name, value in texts.items() if value is not None}
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        ends = time.monotonic() + wait_for_room
        while True:
            try:
                with ExitStack() as opened:
                    files: list[tuple[str, Any]] = [("image", opened.enter_context(open(image, "rb")))]
                    files += [
                        ("audio", (None, "none") if one is None else opened.enter_context(open(one, "rb")))
                        for one in audio
                    ]
                    return Video.of(self._json("POST", "/v1/videos", data=data, files=files, headers=headers))
            except ServiceError as error:
                pause = min(error.retry_after or 1.0, _MOST_PAUSE)
                if error.status != 429 or time.monotonic() + pause > ends:
                    raise
            time.sleep(pause)

    def get(self, id: str) -> Video:
        """A video.

        Raises:
            ServiceError: if there is none of that id.
        """
        return Video.of(self._json("GET", f"/v1/videos/{id}"))

    def list(self, limit: int = 20, after: str | None = None) -> list[Video]:
        """Videos, the newest first, from the one after `after` on."""
        found = self._json("GET", "/v1/videos", params={"limit": limit} | ({"after": after} if after else {}))
        return [Video.of(one) for one in found["data"]]

    def events(self, id: str) -> Iterator[Video]:
        """A video at each of its moments, until it is over.

        Raises:
            ServiceError: if there is none of that id.
        """
        with self._http.stream("GET", f"/v1/videos/{id}/events") as answer:
            if answer.is_error:
                answer.read()
            _check(answer)
            for line in answer.iter_lines():
                if line.startswith('data: {"id"'):
                    yield Video.of(json.loads(line.removeprefix("data: ")))

    def wait(self, id: str, on_moment: Callable[[Video], None] = lambda moment: None) -> Video:
        """Wait until a video is over; whoever loses the connection meanwhile, or is told to come later, comes back.

        Raises:
            ServiceError: if it failed, was cancelled or deleted.
        """
        import httpx

        last: Video | None = None
        while last is None or not last.over:
            pause = 1.0
            try:
                for last in self.events(id):
                    on_moment(last)
                last = self.get(id)
            except httpx.TransportError:
                pass
            except ServiceError as refusal:
                if refusal.status not in _PASSING:
                    raise
                pause = min(refusal.retry_after or pause, _MOST_PAUSE)
            if last is None or not last.over:
                time.sleep(pause)
        if last.status != "completed":
            error = last.error or {"code": last.status, "message": f"The video was {last.status}."}
            raise ServiceError(200, error["code"], error["message"])
        return last

    def download(self, id: str, path: str | Path, part: str = "content") -> Path:
        """Write a video, its "record" or its "preview" to a file, whole or not at all; its path.

        Raises:
            ServiceError: if it isn't there.
        """
        with self._http.stream("GET", f"/v1/videos/{id}/{part}") as answer:
            if answer.is_error:
                answer.read()
            _check(answer)
            with atomic_path(path) as partial, partial.open("wb") as file:
                for piece in answer.iter_bytes():
                    file.write(piece)
        return Path(path)

    def cancel(self, id: str) -> Video:
        """Cancel a video that waits or is made."""
        return Video.of(self._json("POST", f"/v1/videos/{id}/cancel"))

    def delete(self, id: str) -> None:
        """Cancel a video if it isn't over, and delete it."""
        if not self._json("DELETE", f"/v1/videos/{id}")["deleted"]:
            self._json("DELETE", f"/v1/videos/{id}")

    def _json(self, method: str, path: str, **more: Any) -> Any:
        answer = self._http.request(method, path, **more)
        _check(answer)
        return answer.json()


def _check(answer: Any) -> None:
    if not answer.is_error:
        return
    try:
        said = answer.json()["error"]
        code, message = str(said["code"]), str(said["message"])
    except (ValueError, KeyError, TypeError):
        code, message = "error", f"The service answered {answer.status_code}."
    wait = answer.headers.get("retry-after", "")
    raise ServiceError(answer.status_code, code, message, float(wait) if wait.isdigit() else None)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
