"""Webhooks: signed, told once, and never sent into a private network."""

from __future__ import annotations

import base64
import ipaddress
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from standardwebhooks import Webhook

from anytalker.errors import InputError
from anytalker.service.webhooks import Sender, check_target, deliver, is_public
from tests.service.conftest import finish

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
LOCAL = (ipaddress.ip_network("127.0.0.0/8"),)

pytestmark = pytest.mark.usefixtures("undecoded")


@pytest.fixture
def receiver() -> Iterator[HTTPServer]:
    """A server that keeps what it is told, and answers as `server.answers` says."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.told.append((self.path, dict(self.headers), body))
            status = self.server.answers.pop(0) if self.server.answers else 204
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *given) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.told, server.answers = [], []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


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
    from anytalker.queue.request import VideoRequest

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


def test_one_private_address_among_others_is_enough_to_refuse() -> None:
    with pytest.raises(InputError, match="isn't public"):
        check_target("https://example.com/", SECRET, (), lambda host, port: ["8.8.8.8", "192.168.0.1"])
    assert check_target("https://example.com/", SECRET, (), lambda host, port: ["8.8.8.8"])


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111"])
def test_public_addresses(address) -> None:
    assert is_public(address)


PRIVATE = """127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 255.255.255.255 224.0.0.1
 192.0.2.1 198.18.0.1 240.0.0.1 ::1 :: fe80::1 fc00::1 ff02::1 ::ffff:127.0.0.1 ::ffff:8.8.8.8.1 64:ff9b::7f00:1
 2002:7f00:1:: 2001:db8::1 fe80::1%eth0 localhost"""


@pytest.mark.parametrize("address", PRIVATE.split())
def test_private_addresses(address) -> None:
    assert not is_public(address)
