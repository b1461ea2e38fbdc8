"""The service on a port, with uvicorn."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from anytalker.errors import AnyTalkerError
from anytalker.service.settings import ServiceSettings

_HEADERS = 15.0
"""Seconds in which the head of a request must have come."""
_LARGEST_HEAD = 2**16
_GRACE = 5
_CONNECTIONS = 1000


class PunctualProtocol(H11Protocol):
    """HTTP/1.1 that ends connections whose requests' heads come too slowly, for which uvicorn has no limit."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Something has come from it."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop()
        elif self._deadline is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(_HEADERS, self._end)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self) -> None:
        self._deadline = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()


def serve(app: Any, settings: ServiceSettings, ready: Callable[[str], None]) -> None:
    """Serve until a signal comes.

    Args:
        app: the application.
        settings: where it listens.
        ready: told the address, once it does.

    Raises:
        AnyTalkerError: if it can't listen there, or the application can't start.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        if os.name != "nt":  # where it would let two services have one port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((settings.host, settings.port))
        except OSError as error:
            raise AnyTalkerError(
                f"{settings.host}:{settings.port} can't be listened on: {error.strerror}. Give another --port."
            ) from error
        host = f"[{settings.host}]" if family == socket.AF_INET6 else settings.host
        address = f"http://{host}:{listening.getsockname()[1]}"
        config = uvicorn.Config(
            app,
            http=PunctualProtocol,
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            proxy_headers=False,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=_GRACE,
            h11_max_incomplete_event_size=_LARGEST_HEAD,
            limit_concurrency=_CONNECTIONS,
        )
        server = _Server(config, lambda: ready(address))
        with suppress(SystemExit):  # how newer versions of uvicorn say that it could not start
            server.run(sockets=[listening])
        if not server.started:
            raise AnyTalkerError("The service could not start. What it logged says why.")


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            self._ready()
