"""Webhooks: signed, told once, and never sent into a private network."""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from standardwebhooks import Webhook

from anytalker.errors import InputError
from anytalker.queue.request import VideoRequest
from anytalker.service import webhooks as module
from anytalker.service.webhooks import Sender, check_target, deliver, is_public
from tests.service.conftest import finish

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
LOCAL = (ipaddress.ip_network("127.0.0.0/8"),)

pytestmark = pytest.mark.usefixtures("undecoded")


@contextmanager
def receiving() -> Iterator[HTTPServer]:
    """A server that keeps what it is told, calls `server.before`, and answers as `server.answers` says."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.told.append((self.path, dict(self.headers), body))
            if self.server.before is not None:
                self.server.before()
            status = self.server.answers.pop(0) if self.server.answers else 204
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *given) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.told, server.answers, server.before = [], [], None
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def receiver() -> Iterator[HTTPServer]:
    with receiving() as server:
        yield server


def test_the_end_of_a_video_is_told_and_signed(client_of, form, queue, receiver) -> None:
    client = client_of(webhook_networks=LOCAL)
    url = f"http://127.0.0.1:{receiver.server_port}/hook?x=1"
    answer = client.post("/v1/videos", **form(webhook_url=url, webhook_secret=SECRET))
    assert answer.status_code == 200
    assert SECRET not in answer.text
    finish(queue)
    Sender(queue, LOCAL).send_due()
    (path, headers, body), *others = receiver.told
    assert (path, others) == ("/hook?x=1", [])
    told = Webhook(SECRET).verify(body, headers)
    assert (told["type"], told["data"]["id"], told["data"]["status"]) == (
        "video.completed",
        answer.json()["id"],
        "completed",
    )
    assert Sender(queue, LOCAL).send_due() == 0


def test_what_does_not_arrive_is_told_again_later(queue, receiver, picture, voice) -> None:
    target = check_target(f"http://127.0.0.1:{receiver.server_port}/", SECRET, LOCAL)
    job = queue.submit(VideoRequest(), picture, [voice], webhook=target)
    queue.cancel(job.id)
    receiver.answers = [500]
    now = queue.store._clock()
    queue.store._clock = lambda: now
    sender = Sender(queue, LOCAL)
    assert (sender.send_due(), sender.send_due()) == (1, 0)
    queue.store._clock = lambda: now + 6
    assert (sender.send_due(), sender.send_due()) == (1, 0)
    queue.store._clock = lambda: now + 10**6
    assert sender.send_due() == 0
    ids = {headers["Webhook-Id"] for _, headers, _ in receiver.told}
    assert (len(receiver.told), len(ids)) == (2, 1)
    assert json.loads(receiver.told[1][2])["type"] == "video.cancelled"


def test_a_slow_receiver_holds_up_no_other_and_each_is_told_in_order(queue, receiver, picture, voice) -> None:
    told = threading.Event()
    receiver.before = told.set
    with receiving() as slow:
        slow.before = lambda: slow.answers.append(204 if told.wait(5) else 500)
        jobs = []
        for port in (slow.server_port, receiver.server_port, slow.server_port, receiver.server_port):
            target = check_target(f"http://127.0.0.1:{port}/", SECRET, LOCAL)
            jobs.append(queue.submit(VideoRequest(), picture, [voice], webhook=target).id)
        for job in jobs:
            queue.cancel(job)
        assert Sender(queue, LOCAL).send_due() == 4
        heard = [[json.loads(body)["data"]["id"] for _, _, body in server.told] for server in (slow, receiver)]
    assert heard == [jobs[::2], jobs[1::2]]
    queue.store._clock = lambda: 10**12
    assert queue.store.due_webhooks() == []


def test_a_redirect_is_not_followed(receiver) -> None:
    receiver.answers = [302]
    assert deliver(f"http://127.0.0.1:{receiver.server_port}/", SECRET, "m", "{}", LOCAL) == 302
    assert len(receiver.told) == 1


def test_the_address_that_was_checked_is_called_whatever_the_name_says_later(receiver) -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    url = f"http://name.invalid:{receiver.server_port}/"
    assert deliver(url, SECRET, "m", "{}", LOCAL, lambda host, port: next(answers)) == 204
    assert receiver.told[0][1]["Host"] == f"name.invalid:{receiver.server_port}"
    with pytest.raises(InputError, match="isn't public"):
        deliver(url, SECRET, "m", "{}", LOCAL, lambda host, port: next(answers))


def test_a_host_that_is_not_found_for_a_while_is_told_later(client_of, form, queue, receiver, monkeypatch) -> None:
    client = client_of(webhook_networks=LOCAL)
    url = f"http://127.0.0.1:{receiver.server_port}/"
    assert client.post("/v1/videos", **form(webhook_url=url, webhook_secret=SECRET)).status_code == 200
    queue.cancel(queue.list()[0].id)
    now = queue.store._clock()
    queue.store._clock = lambda: now
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", lambda *given, **more: unknown())
        Sender(queue, LOCAL).send_due()
    assert receiver.told == []
    queue.store._clock = lambda: now + 6
    Sender(queue, LOCAL).send_due()
    assert len(receiver.told) == 1


def unknown() -> None:
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def test_the_next_address_is_tried_where_one_does_not_answer(receiver) -> None:
    url = f"http://name.invalid:{receiver.server_port}/"
    assert deliver(url, SECRET, "m", "{}", LOCAL, lambda host, port: ["127.9.9.9", "127.0.0.1"]) == 204


def test_two_services_tell_it_once(queue, receiver, picture, voice) -> None:
    target = check_target(f"http://127.0.0.1:{receiver.server_port}/", SECRET, LOCAL)
    queue.cancel(queue.submit(VideoRequest(), picture, [voice], webhook=target).id)
    due = queue.store.due_webhooks()
    assert Sender(queue, LOCAL).send_due() == 1
    queue.store.due_webhooks = lambda: due  # as another process has read them before
    Sender(queue, LOCAL).send_due()
    assert len(receiver.told) == 1


@pytest.mark.parametrize("secure", [False, True])
def test_a_receiver_that_trickles_is_left(monkeypatch, secure) -> None:
    monkeypatch.setattr(module, "_WHOLE", 0.3)
    over = threading.Event()

    def trickle() -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 2" if not secure else b"\x16\x03\x03\x40\x00")
            while not over.wait(0.02):
                connection.sendall(b"a")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        url = f"{'https' if secure else 'http'}://127.0.0.1:{listening.getsockname()[1]}/"
        with pytest.raises((OSError, http.client.HTTPException)):
            deliver(url, SECRET, "m", "{}", LOCAL)
        over.set()
        thread.join(10)


@pytest.mark.parametrize("padding", ["", "="])
def test_a_secret_may_lack_its_padding(receiver, padding) -> None:
    secret = SECRET.rstrip("=") + padding
    check_target(f"http://127.0.0.1:{receiver.server_port}/", secret, LOCAL)
    deliver(f"http://127.0.0.1:{receiver.server_port}/", secret, "m", "{}", LOCAL)
    Webhook(bytes(range(32))).verify(receiver.told[0][2], receiver.told[0][1])


@pytest.mark.parametrize("secret", ["whsec_" + "-_" * 16, "A" * 43, "whsec_" + "A" * 20, "whsec_ä" + "A" * 43, ""])
def test_a_secret_that_clients_read_otherwise_is_refused(secret) -> None:
    with pytest.raises(InputError, match="webhook_secret"):
        check_target("https://example.com/", secret, (), lambda host, port: ["8.8.8.8"])


def test_one_private_address_among_others_is_enough_to_refuse() -> None:
    with pytest.raises(InputError, match="isn't public"):
        check_target("https://example.com/", SECRET, (), lambda host, port: ["8.8.8.8", "192.168.0.1"])
    assert check_target("https://example.com/", SECRET, (), lambda host, port: ["8.8.8.8"])


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111"])
def test_public_addresses(address) -> None:
    assert is_public(address)


PRIVATE = """127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 255.255.255.255 224.0.0.1
 192.0.2.1 198.18.0.1 240.0.0.1 ::1 :: fe80::1 fc00::1 ff02::1 ::ffff:127.0.0.1 ::ffff:8.8.8.8.1 64:ff9b::7f00:1
 2002:7f00:1:: 2001:db8::1 fe80::1%eth0 localhost fec0::1 5f00::1 ::ffff:0:7f00:1 3fff::1"""


@pytest.mark.parametrize("address", PRIVATE.split())
def test_private_addresses(address) -> None:
    assert not is_public(address)
