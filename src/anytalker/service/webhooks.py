"""Webhooks: whoever asked for a video is told when it is over, signed as standardwebhooks.com says.

The URL comes from a client, so it must not lead into the network of the service: only addresses of the public internet
are connected to, the very ones that were checked (a second look-up could give others), and no redirect is followed.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import ipaddress
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any
from urllib.parse import SplitResult, urlsplit

from anytalker.errors import InputError
from anytalker.queue.record import UnknownJob
from anytalker.queue.video_queue import VideoQueue
from anytalker.service.schemas import Video, video_of
from anytalker.service.settings import Network

_PAUSES = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0)
"""Seconds from one attempt to the next (the schedule of Standard Webhooks)."""
_TIMEOUT = 10.0
"""Seconds that a receiver may be silent."""
_WHOLE = 20.0
"""Seconds that an attempt may take: a receiver that trickles is never silent for long."""
_ADDRESSES = 4
"""Of a host, so many are tried."""
_LONGEST = 2000
_WAIT = 1.0
_AT_ONCE = 16
"""Receivers that are told something at a time."""
_TURN = 5.0
"""Seconds after which a receiver that is told more makes way for others."""
_GLOBAL = ipaddress.ip_network("2000::/3")
"""All that IPv6 has of addresses of the internet; those that translate into IPv4's are mostly elsewhere."""
_NOT_GLOBAL = tuple(map(ipaddress.ip_network, ("2002::/16", "2001::/32", "3fff::/20")))
"""In it, networks behind whose addresses others are hidden (6to4, Teredo), and that of documentation."""
log = logging.getLogger("anytalker.webhooks")

Resolve = Callable[[str, int], list[str]]


class HostNotFound(InputError):
    """The host of a webhook has no address."""


def check_target(url: str, secret: str, allowed: Sequence[Network] = (), resolve: Resolve | None = None) -> str:
    """Make sure that a webhook may be sent there; URL and secret as the queue keeps them.

    Raises:
        InputError: if the URL isn't one of the public internet, or the secret can't be one.
    """
    parts = _split(url)
    _addresses(parts, allowed, resolve or resolved)
    if not 24 <= len(_key(secret)) <= 64:
        raise InputError("webhook_secret must be whsec_ and the base64 of 24 to 64 random bytes.")
    return json.dumps([url, secret])


def _key(secret: str) -> bytes:
    """The bytes of a secret, padded or not; none if it isn't one."""
    text = secret.removeprefix("whsec_").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True) if secret.startswith("whsec_") else b""
    except (binascii.Error, ValueError):
        return b""


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InputError("webhook_url can't be understood.") from None
    clean = url.isascii() and url.isprintable() and " " not in url and "\\" not in url and len(url) <= _LONGEST
    if parts.scheme not in ("https", "http") or not parts.hostname or not clean or port == 0:
        raise InputError("webhook_url must be an address such as https://example.com/videos.")
    if parts.username is not None or parts.password is not None:
        raise InputError("webhook_url must hold no name and password.")
    return parts


def resolved(host: str, port: int) -> list[str]:
    """All addresses of a host, those that are most likely reached first."""
    return list(dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def _addresses(parts: SplitResult, allowed: Sequence[Network], resolve: Resolve) -> list[str]:
    """Addresses of a URL's host, all of them public or allowed.

    Raises:
        HostNotFound: if there is none.
        InputError: if any is neither.
    """
    try:
        found = resolve(str(parts.hostname), _port(parts))
    except (OSError, UnicodeError):
        found = []
    if not found:
        raise HostNotFound("The host of webhook_url can't be found.")
    for address in found:
        if not is_public(address) and not any(_in(address, network) for network in allowed):
            raise InputError("webhook_url leads to an address that isn't public, and is not called.")
    return found


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def is_public(text: str) -> bool:
    """Whether an address belongs to the public internet, and hides none that doesn't."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(str(address.ipv4_mapped))
        if address not in _GLOBAL or any(address in network for network in _NOT_GLOBAL):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _in(text: str, network: Network) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return address.version == network.version and address in network


def deliver(
    url: str, secret: str, message: str, body: str, allowed: Sequence[Network] = (), resolve: Resolve = resolved
) -> int:
    """Send a webhook; the status of the answer.

    Raises:
        HostNotFound: if the host has no address.
        InputError: if it may not be sent there any more.
        OSError, http.client.HTTPException: if it can't be sent.
    """
    from standardwebhooks import Webhook

    parts = _split(url)
    addresses = _addresses(parts, allowed, resolve)
    now = datetime.now(timezone.utc)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "anytalker",
        "Webhook-Id": message,
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": Webhook(_key(secret)).sign(message, now, body),
    }
    connection = _Pinned(parts, addresses)
    deadline = threading.Timer(_WHOLE, connection.abort)
    deadline.daemon = True
    deadline.start()
    try:
        connection.request("POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, headers)
        answer = connection.getresponse()
        answer.read(2**16)
        return answer.status
    finally:
        deadline.cancel()
        connection.close()


class _Pinned(http.client.HTTPConnection):
    """A connection to the first of the addresses that answers, all of them checked; it speaks to the host of a URL."""

    def __init__(self, parts: SplitResult, addresses: Sequence[str]) -> None:
        host = str(parts.hostname)
        super().__init__(f"[{host}]" if ":" in host else host, _port(parts), timeout=_TIMEOUT)
        self._addresses, self._name = addresses[:_ADDRESSES], host
        self._opened: socket.socket | None = None
        self._aborted = False
        self._secure = parts.scheme == "https"
        if self._secure:
            self.default_port = 443

    def connect(self) -> None:
        """Connect to an address instead of looking the name up again."""
        self.sock = self._opened = self._connected()
        if self._secure:
            context = ssl.create_default_context()
            secured = context.wrap_socket(self.sock, server_hostname=self._name, do_handshake_on_connect=False)
            self.sock = self._opened = secured
            secured.do_handshake()

    def _connected(self) -> socket.socket:
        failure: OSError = TimeoutError("The receiver took too long.")
        for address in self._addresses:
            try:
                opened = socket.create_connection((address, self.port), _TIMEOUT)
            except OSError as error:
                failure = error
            else:
                if not self._aborted:
                    return opened
                opened.close()
            if self._aborted:
                break
        raise failure

    def abort(self) -> None:
        """End it from another thread, whatever it is waiting for."""
        self._aborted = True
        if self._opened is not None:
            with suppress(OSError):
                socket.socket.shutdown(self._opened, socket.SHUT_RDWR)  # past TLS, which would wait for its goodbye


class Sender:
    """Sends what is due from threads of its own, for use with `with`.

    Each receiver is told one thing after another, in order, and several receivers at a time: one that is slow holds up
    nobody else.

    Args:
        queue: of whose jobs is told.
        allowed: private networks that may be called, too.
    """

    def __init__(self, queue: VideoQueue, allowed: Sequence[Network] = ()) -> None:
        self._queue, self._allowed = queue, allowed
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="webhooks")
        self._turns: dict[str, threading.Thread] = {}

    def __enter__(self) -> Sender:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        ends = time.monotonic() + _TIMEOUT
        self._thread.join(_TIMEOUT)
        for turn in tuple(self._turns.values()):
            turn.join(max(0.0, ends - time.monotonic()))

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._begin()
            except Exception:
                log.exception("webhooks")
            self._over.wait(_WAIT)
        self._queue.store.close()

    def send_due(self) -> int:
        """Send what is due, as far as there is a turn for it, and wait for that; how much was due."""
        due = self._begin()
        for turn in tuple(self._turns.values()):
            turn.join()
        return due

    def _begin(self) -> int:
        """Give receivers for whom something is due a turn; how much is due."""
        due = self._queue.store.due_webhooks()
        waiting: dict[str, list[Any]] = {}
        for row in due:
            waiting.setdefault(_receiver(row), []).append(row)
        self._turns = {receiver: turn for receiver, turn in self._turns.items() if turn.is_alive()}
        free = [receiver for receiver in waiting if receiver not in self._turns]
        for receiver in free[: max(0, _AT_ONCE - len(self._turns))]:
            turn = threading.Thread(target=self._tell, args=(waiting[receiver],), daemon=True, name="webhook")
            turn.start()
            self._turns[receiver] = turn
        return len(due)

    def _tell(self, rows: Sequence[Any]) -> None:
        """One receiver's turn."""
        ends = time.monotonic() + _TURN
        store = self._queue.store
        try:
            for row in rows:
                # Taken before it is sent: an answer that is lost must not make it be sent again at once.
                taken = store.take_webhook(row["number"], row["attempts"], _pause(row["attempts"]))
                if taken and self._send(row):
                    store.forget_webhook(row["number"])
                if self._over.is_set() or time.monotonic() > ends:
                    break
        except Exception:
            log.exception("webhooks")
        finally:
            store.close()

    def _send(self, row: Any) -> bool:
        """Whether it has arrived, or never will."""
        url, secret = json.loads(row["target"])
        video: Video | None = None
        with suppress(UnknownJob):
            video = video_of(self._queue.get(row["job"]))
        name = {"succeeded": "completed"}.get(row["event"], row["event"])
        stamp = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        data = {"id": row["job"], "status": name} if video is None else video.model_dump(mode="json")
        body = json.dumps({"type": f"video.{name}", "timestamp": stamp, "data": data})
        try:
            status = deliver(url, secret, f"msg_{row['job']}_{row['number']}", body, self._allowed)
        except (OSError, http.client.HTTPException, ValueError) as error:
            log.info("not delivered", extra={"job": row["job"], "why": type(error).__name__})
            return isinstance(error, InputError) and not isinstance(error, HostNotFound)
        log.info("told", extra={"job": row["job"], "status": status})
        return 200 <= status < 300 or status == 410


def _receiver(row: Any) -> str:
    """The host and port that a webhook goes to."""
    parts = urlsplit(json.loads(row["target"])[0])
    return f"{parts.hostname}:{_port(parts)}"


def _pause(attempts: int) -> float | None:
    return _PAUSES[attempts] if attempts < len(_PAUSES) else None
