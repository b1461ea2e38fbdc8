"""Numbers for Prometheus: requests by route, jobs by state, what waits and how much disk is used."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from anytalker.queue.supervisor import Supervisor
from anytalker.queue.video_queue import VideoQueue
from anytalker.service.schemas import STATUSES

_METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH")


class Metrics:
    """The numbers of a service.

    Args:
        queue: whose jobs are counted.
        supervisor: of the workers.
    """

    def __init__(self, queue: VideoQueue, supervisor: Supervisor | None) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "anytalker_requests", "Requests.", ("method", "route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "anytalker_request_seconds",
            "Seconds until a request was answered.",
            ("method", "route"),
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
            registry=self._registry,
        )
        self._registry.register(_Jobs(queue, supervisor))

    def seen(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        if not route.endswith("/events"):
            self._seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        """All numbers, as Prometheus reads them."""
        return generate_latest(self._registry)


class _Jobs(Collector):
    """Counts jobs when it is asked, wherever they were changed."""

    def __init__(self, queue: VideoQueue, supervisor: Supervisor | None) -> None:
        self._queue, self._supervisor = queue, supervisor

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The numbers right now."""
        jobs = GaugeMetricFamily("anytalker_videos", "Videos by status.", labels=["status"])
        for state, count in self._queue.store.counts().items():
            jobs.add_metric([STATUSES[state]], count)
        yield jobs
        yield GaugeMetricFamily("anytalker_videos_bytes", "Bytes of all videos.", self._queue.store.bytes())
        alive = self._supervisor.alive if self._supervisor else 0
        yield GaugeMetricFamily("anytalker_workers", "Workers of this process.", alive)
