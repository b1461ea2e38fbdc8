"""Who asks: an API key, or whoever reaches a service without keys."""

from __future__ import annotations

from dataclasses import dataclass, replace

from starlette.exceptions import HTTPException
from starlette.requests import Request

from anytalker.queue.record import LOCAL
from anytalker.queue.store import Bounds
from anytalker.service.buckets import Buckets
from anytalker.service.settings import ServiceSettings

_LONGEST_KEY = 200


@dataclass(frozen=True)
class Client:
    """Who asks.

    Attributes:
        owner: of their videos.
        max_jobs: that may wait or run; None: no bound of their own.
        priority: of their jobs.
    """

    owner: str
    max_jobs: int | None = None
    priority: int = 0

    def bounds(self, of_all: Bounds) -> Bounds:
        """How much of the queue is theirs."""
        return of_all if self.max_jobs is None else replace(of_all, of_owner=self.max_jobs)


class Access:
    """Lets clients in.

    Args:
        settings: of the service.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings, self._buckets = settings, Buckets()

    def __call__(self, request: Request) -> Client:
        """Who asks.

        Raises:
            HTTPException: 401 without a known key, 429 beyond its rate.
        """
        keys, per_minute = self._settings.keys, self._settings.limits.per_minute
        client = Client(LOCAL)
        if keys is not None:
            given = _key_of(request)
            known = keys.find(given) if given else None
            if known is None:
                raise HTTPException(401, "Give a key of this service.", {"WWW-Authenticate": "Bearer"})
            client = Client(known.name, known.max_jobs, known.priority)
            per_minute = known.per_minute or per_minute
        request.state.owner = client.owner
        wait = self._buckets.take(client.owner, per_minute) if per_minute is not None else 0
        if wait:
            raise HTTPException(429, f"More than {per_minute} requests a minute.", {"Retry-After": str(wait)})
        return client


def _key_of(request: Request) -> str | None:
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    key = key.strip() if kind.lower() == "bearer" else ""
    return key if 0 < len(key) <= _LONGEST_KEY else None
