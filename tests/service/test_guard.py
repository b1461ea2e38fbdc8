"""The guard by itself: how long it waits for what a client sends."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from starlette.exceptions import HTTPException

from anytalker.service.guard import Guard
from anytalker.service.settings import Limits, ServiceSettings

SCOPE = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"localhost")]}
SETTINGS = replace(ServiceSettings(), limits=Limits(idle=0.01))


def ask(app) -> list[dict]:
    """What is sent to a client that says nothing, and goes away after several times what it is waited for."""
    sent: list[dict] = []

    async def receive() -> dict:
        await asyncio.sleep(0.1)
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        sent.append(message)

    asyncio.run(Guard(app, SETTINGS, lambda *seen: None)(dict(SCOPE), receive, send))
    return sent


def test_a_stream_goes_on_whatever_its_client_has_announced() -> None:
    async def stream(scope, receive, send) -> None:
        listening = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        assert await listening == {"type": "http.disconnect"}
        await send({"type": "http.response.body", "body": b"the end"})

    assert [message["type"] for message in ask(stream)] == ["http.response.start", "http.response.body"]


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async def read(scope, receive, send) -> None:
        await receive()

    with pytest.raises(HTTPException, match="too slowly"):
        ask(read)
