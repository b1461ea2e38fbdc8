"""What stands before every request: whom it calls, where it comes from, how much it sends and how slowly.

A page of another site can't use a service on this machine: browsers say where a request comes from (Origin,
Sec-Fetch-Site), and a name that was pointed at this address (DNS rebinding) is not one of the service's (Host).
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anytalker.service.settings import Limits, ServiceSettings

log = logging.getLogger("anytalker.service")
_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}
_POLICY = b"default-src 'none'; frame-ancestors 'none'"
_SAFE = ("GET", "HEAD")


class Guard:
    """An ASGI application before another one.

    Args:
        app: what is guarded.
        settings: of the service.
        seen: told of every request: method, route, status, seconds.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings, seen: Callable[[str, str, int, float], None]) -> None:
        self.app, self.settings, self.seen = app, settings, seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})
                return
            await self.app(scope, receive, send)
            return
        began, status, number = time.monotonic(), 500, secrets.token_hex(8)
        answered = False
        scope.setdefault("state", {})["request"] = number

        async def answer(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], True
                message = {**message, "headers": _with_ours(message.get("headers", []), number)}
            await send(message)

        try:
            refused = self._refusal(scope)
            if refused is not None:
                await _refuse(answer, *refused)
            else:
                await self.app(scope, _bounded(receive, self.settings.limits, lambda: answered), answer)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            seconds = time.monotonic() - began
            self.seen(scope["method"], route, status, seconds)
            log.info(
                "request",
                extra={
                    **{"request": number, "method": scope["method"], "route": route, "status": status},
                    **{"ms": round(1000 * seconds, 1), "owner": scope["state"].get("owner")},
                },
            )

    def _refusal(self, scope: Scope) -> tuple[int, str, str] | None:
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, []).append(value)
        hosts = [value.decode("latin-1") for value in headers.get(b"host", [])]
        known = self.settings.known_hosts
        if len(hosts) != 1 or (known is not None and _name(hosts[0]) not in known):
            return 421, "wrong_host", "This service isn't known by that name; see --allow-host."
        site = headers.get(b"sec-fetch-site", [b"none"])[-1]
        origins = [value.decode("latin-1") for value in headers.get(b"origin", [])]
        foreign = any(_host_of(origin) != hosts[0].lower() for origin in origins)
        if (foreign or site in (b"cross-site", b"same-site")) and not _is_navigation(scope, headers):
            return 403, "foreign_origin", "Pages of other sites can't use this service."
        lengths = headers.get(b"content-length", [])
        if any(not length.isdigit() for length in lengths) or len(lengths) > 1:
            return 400, "bad_request", "The length of the request isn't a number."
        if lengths and int(lengths[0][:20]) > self.settings.limits.upload:
            return 413, "too_large", _too_large(self.settings.limits)
        return None


def _is_navigation(scope: Scope, headers: dict[bytes, list[bytes]]) -> bool:
    """Whether somebody has followed a link, which changes nothing and is seen by nobody else."""
    return scope["method"] in _SAFE and headers.get(b"sec-fetch-mode") == [b"navigate"] and b"origin" not in headers


def _host_of(origin: str) -> str | None:
    """Host and port of an origin; None for "null" and whatever isn't one."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") else None


def _name(host: str) -> str:
    """The Host header without its port."""
    host = host.lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].rstrip(".")


def _with_ours(headers: Any, number: str) -> list[tuple[bytes, bytes]]:
    given = [(name.lower(), value) for name, value in headers]
    names = {name for name, _ in given}
    ours = _HEADERS | {b"content-security-policy": _POLICY, b"x-request-id": number.encode()}
    return [*given, *((name, value) for name, value in ours.items() if name not in names)]


def _bounded(receive: Receive, limits: Limits, answered: Callable[[], bool]) -> Receive:
    """Receive no more than may be sent, and not for ever, until an answer has begun: what follows is not waited for."""
    total, ends = 0, time.monotonic() + limits.upload_seconds
    over = False

    async def bounded() -> Message:
        nonlocal total, over
        if over:  # the body has come; what follows is the end of the connection, for which streams wait
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), max(0.0, min(limits.idle, ends - time.monotonic())))
        except asyncio.TimeoutError:
            if answered():
                return await receive()
            raise HTTPException(408, "The request came too slowly.") from None
        if message["type"] == "http.request":
            total += len(message.get("body", b""))
            over = not message.get("more_body", False)
            if total > limits.upload:
                raise HTTPException(413, _too_large(limits))
        return message

    return bounded


def _too_large(limits: Limits) -> str:
    return f"A request may have at most {limits.upload // 2**20} MiB."


async def _refuse(send: Send, status: int, code: str, message: str) -> None:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
