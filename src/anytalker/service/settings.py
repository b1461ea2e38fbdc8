"""How the service is set up, and what it takes from anybody."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from anytalker.errors import InputError
from anytalker.service.keys import ApiKeys

Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Limits:
    """What a request may ask for.

    Attributes:
        upload: bytes of a request.
        idle: seconds between two pieces of an upload.
        upload_seconds: that an upload may take.
        steps: denoising steps.
        sides: product of width and height of the video in pixels.
        scale: larger sides than the picture's, see `GenerationOptions`.
        decoding: uploads that are decoded at a time.
        streams: event streams that are open at a time.
        per_minute: requests of one key or, without keys, of everybody together; None: any number.
    """

    upload: int = 200 * 2**20
    idle: float = 20.0
    upload_seconds: float = 600.0
    steps: int = 100
    sides: int = 2048 * 2048
    scale: float = 4.0
    decoding: int = 2
    streams: int = 200
    per_minute: int | None = None


@dataclass(frozen=True)
class ServiceSettings:
    """How the service is set up.

    Attributes:
        host, port: where it listens.
        models: names by which clients may ask for a model; the first one is the default.
        keys: who may use it; None: whoever reaches it.
        limits: what a request may ask for.
        hosts: names by which it may be called, besides its address, localhost and, with keys, any.
        webhook_networks: private networks that webhooks may go to, too.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    models: tuple[str, ...] = ("tiny",)
    keys: ApiKeys | None = None
    limits: Limits = field(default_factory=Limits)
    hosts: tuple[str, ...] = ()
    webhook_networks: tuple[Network, ...] = ()

    @property
    def known_hosts(self) -> frozenset[str] | None:
        """Names in the Host header that are answered; None: all."""
        if self.keys is not None and not self.hosts:
            return None
        return frozenset({"localhost", "127.0.0.1", "[::1]", self.host.lower(), *map(str.lower, self.hosts)})


def check_address(host: str, keys: ApiKeys | None) -> None:
    """Make sure that a service that others can reach has keys.

    Raises:
        InputError: if it has none, or the host is unknown.
    """
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"--host is {host!r}, which isn't an address of this machine. Give one such as 127.0.0.1."
        ) from error
    if all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in found):
        return
    if keys is None:
        raise InputError(
            f"--host {host} can be reached from outside, so --keys is needed. Make a key with:  "
            "anytalker serve keys add NAME --keys keys.json"
        )
    if not keys.names():
        raise InputError(
            f"{keys.path} holds no key, so nobody could use the service. Add one with:  "
            f"anytalker serve keys add NAME --keys {keys.path}"
        )


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Networks from texts such as "10.0.0.0/8".

    Raises:
        InputError: for anything else.
    """
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise InputError(f"--webhook-network is {text!r}; it must be a network such as 10.0.0.0/8.") from error
    return tuple(found)


def data_folder() -> Path:
    """Where jobs are kept, unless told otherwise."""
    from anytalker.files import home

    return home() / "videos"
