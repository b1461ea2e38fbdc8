"""A service on a real port: the client, slow and huge requests, and where it may listen."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from anytalker.client import Client, ServiceError
from anytalker.errors import AnyTalkerError, InputError
from anytalker.queue.record import Failure
from anytalker.service import server
from anytalker.service.app import create_app
from anytalker.service.keys import ApiKeys
from anytalker.service.settings import ServiceSettings, check_address
from tests.service.conftest import SETTINGS, finish

pytestmark = pytest.mark.usefixtures("undecoded")


@pytest.fixture
def address(queue, monkeypatch) -> Iterator[str]:
    """A service that listens, and gives heads of requests half a second."""
    monkeypatch.setattr(server, "_HEADERS", 0.5)
    ready, found, servers = threading.Event(), [], []
    kept = server._Server.__init__

    def remember(self, *given) -> None:
        kept(self, *given)
        servers.append(self)

    def told(address: str) -> None:
        found.append(address)
        ready.set()

    monkeypatch.setattr(server._Server, "__init__", remember)
    settings = replace(SETTINGS, port=0)
    thread = threading.Thread(target=server.serve, args=(create_app(queue, settings), settings, told), daemon=True)
    thread.start()
    assert ready.wait(20)
    yield found[0]
    servers[0].should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def connected(address: str) -> socket.socket:
    """A connection to the service."""
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), 10)


def test_the_client_makes_a_video(address, queue, picture, voice, tmp_path) -> None:
    with Client(address) as client:
        video = client.create(picture, [voice, None], seed=3, max_frames=9, people=[{"order": 2}, {"order": 1}])
        assert (video.status, video.queue_position, video.data["seed"]) == ("queued", 0, 3)
        moments = []

        def look(moment) -> None:
            moments.append(moment.status)
            if len(moments) == 1:
                finish(queue, b"a video")

        assert client.wait(video.id, look).status == "completed"
        assert (moments[0], moments[-1]) == ("queued", "completed")
        assert client.download(video.id, tmp_path / "talk.mp4").read_bytes() == b"a video"
        assert [one.id for one in client.list()] == [video.id]
        client.delete(video.id)
        with pytest.raises(ServiceError) as caught:
            client.get(video.id)
        assert (caught.value.status, caught.value.code) == (404, "not_found")


def test_the_client_says_why_a_video_failed_or_was_refused(address, queue, picture, voice) -> None:
    with Client(address) as client:
        with pytest.raises(ServiceError, match="Nobody has a voice"):
            client.create(picture, [None])
        video = client.create(picture, [voice], idempotency_key="one")
        assert client.create(picture, [voice], idempotency_key="one").id == video.id
        queue.store.fail(queue.store.claim("w", 60), Failure("invalid_input", "No face."), 1, None)
        with pytest.raises(ServiceError, match="No face"):
            client.wait(video.id)
        other = client.create(picture, [voice])
        assert client.cancel(other.id).status == "cancelled"
        client.delete(other.id)


def test_the_client_waits_for_room(address, queue, picture, voice) -> None:
    object.__setattr__(queue.settings.bounds, "waiting", 0)
    with Client(address) as client, pytest.raises(ServiceError) as caught:
        client.create(picture, [voice], wait_for_room=0.5)
    assert (caught.value.code, caught.value.retry_after) == ("queue_full", 30)


def test_the_client_goes_on_waiting_where_too_many_listen(monkeypatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    done = {"id": "video_1", "status": "completed"}
    busy = {"error": {"code": "busy", "message": "Too many."}}
    answers = [
        httpx.Response(429, json=busy, headers={"Retry-After": "5"}),
        httpx.Response(502, text="<html>"),
        httpx.Response(200, text=f"data: {json.dumps(done)}\n\n"),
        httpx.Response(200, json=done),
    ]
    with Client(transport=httpx.MockTransport(lambda request: answers.pop(0))) as client:
        assert client.wait("video_1").over
    assert pauses == [5.0, 1.0]
    gone = httpx.MockTransport(
        lambda request: httpx.Response(404, json={"error": {"code": "not_found", "message": ""}})
    )
    with Client(transport=gone) as client, pytest.raises(ServiceError):
        client.wait("video_1")


def test_an_application_that_can_not_start_is_an_error() -> None:
    async def broken(scope, receive, send) -> None:
        raise RuntimeError("no threads")

    with pytest.raises(AnyTalkerError, match="could not start"):
        server.serve(broken, ServiceSettings(port=0), lambda told: None)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: "])
def test_a_head_that_does_not_come_ends_the_connection(address, sent) -> None:
    with connected(address) as connection:
        connection.sendall(sent)
        assert connection.recv(100) == b""


def test_a_huge_head_is_refused(address) -> None:
    with connected(address) as connection:
        try:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nA: " + b"a" * 200_000)
            answer = connection.recv(100)
        except ConnectionError:
            answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    with Client(address) as client:
        assert client.list() == []


def test_what_is_no_HTTP_is_refused(address) -> None:
    with connected(address) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


def test_two_lengths_are_no_way_around(address) -> None:
    head = b"POST /v1/videos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connected(address) as connection:
        connection.sendall(head + b"0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 4")


def test_a_taken_port_is_named(address, queue) -> None:
    port = int(address.rpartition(":")[2])
    with pytest.raises(AnyTalkerError, match=f"127.0.0.1:{port} can't be listened on"):
        server.serve(None, ServiceSettings(port=port), lambda told: None)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_needs_no_keys(host) -> None:
    check_address(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "8.8.8.8"])
def test_others_need_keys(host, tmp_path) -> None:
    with pytest.raises(InputError, match="--keys is needed"):
        check_address(host, None)
    empty = ApiKeys(tmp_path / "keys.json")
    with pytest.raises(InputError, match="holds no key"):
        check_address(host, empty)
    empty.add("anna")
    check_address(host, empty)


def test_logs_are_json_without_a_name_of_a_file(capsys, monkeypatch) -> None:
    from anytalker.service.logs import log_as_json

    loggers = [logging.getLogger(name) for name in ("anytalker", "uvicorn.error")]
    before = [(one.handlers, one.propagate, one.level) for one in loggers]
    try:
        log_as_json()
        logging.getLogger("anytalker.test").info("begun", extra={"job": "video_1", "prompt": "private"})
    finally:
        for one, (handlers, propagate, level) in zip(loggers, before, strict=True):
            one.handlers, one.propagate = handlers, propagate
            one.setLevel(level)
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["job"], line["level"]) == ("begun", "video_1", "info")
    assert "private" not in str(line)


def test_keys_that_are_made_at_the_same_time_are_all_kept(tmp_path, monkeypatch) -> None:
    file, read = ApiKeys(tmp_path / "keys.json"), ApiKeys.read

    def slow(self) -> list:
        found = read(self)
        if self is file:  # another process makes a key after this one has read the file
            with suppress(InputError):
                ApiKeys(tmp_path / "keys.json").add("ben")
        return found

    monkeypatch.setattr(ApiKeys, "read", slow)
    file.add("anna")
    monkeypatch.undo()
    with suppress(InputError):
        file.add("ben")
    assert sorted(file.names()) == ["anna", "ben"]
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]


def test_a_name_of_a_key_is_checked_as_a_whole(tmp_path) -> None:
    file = ApiKeys(tmp_path / "keys.json")
    file.add("anna")
    file.path.write_text(file.path.read_text().replace('"anna"', '"anna\\n<b>"'))
    with pytest.raises(InputError, match="isn't a file of keys"):
        file.names()


def test_keys_are_kept_as_hashes(tmp_path) -> None:
    file = ApiKeys(tmp_path / "keys.json")
    key = file.add("anna", max_jobs=3)
    text = Path(file.path).read_text()
    assert key not in text
    assert file.path.stat().st_mode & 0o077 == 0
    assert file.find(key).name == "anna"
    assert file.find(key + "x") is None
    with pytest.raises(InputError, match="already"):
        file.add("anna")
    for name in ("../anna", "local"):
        with pytest.raises(InputError, match="can't be the name"):
            file.add(name)
    file.path.write_text("{")
    assert file.find(key) is None
    with pytest.raises(InputError, match="isn't a file of keys"):
        file.names()
