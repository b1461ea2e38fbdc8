"""Text to speech over HTTP: any server that takes OpenAI's `POST /v1/audio/speech`."""

from __future__ import annotations

import json
import os
import tempfile
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, build_opener
from urllib.request import Request as HttpRequest

import numpy as np

from anytalker.errors import AnyTalkerError, InputError
from anytalker.media.recordings import load_audio
from anytalker.speech.engine import Request, trimmed

VOICES = ("alloy", "nova", "echo", "shimmer", "fable", "onyx", "coral", "sage", "ash", "ballad", "verse")
"""Voices of OpenAI's models, in the order in which people get them."""
KEY = "ANYTALKER_SPEECH_KEY"
_LOCAL = ("localhost", "127.0.0.1", "::1")
_LARGEST = 2**26
"""Bytes of an answer, at most."""
_PATH = "/v1/audio/speech"


class EndpointEngine:
    """A speech endpoint.

    The key of the environment variable `ANYTALKER_SPEECH_KEY`, if there is one, is sent as a bearer token.

    Args:
        url: of the server or the endpoint, https, or http on this machine; "#MODEL" behind it names the model.
        timeout: seconds that the server may take for a turn.

    Raises:
        InputError: for any other URL.
    """

    def __init__(self, url: str, timeout: float = 60.0) -> None:
        try:
            parts = urlsplit(url)
            safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL)
            safe &= parts.port != 0
        except ValueError:  # a bad port, or half an IPv6 address
            safe = False
        if not safe or not parts.hostname or parts.username or parts.password:
            raise InputError(
                f"--speech is {url}; give an https:// address (http:// on localhost only), without a password in it."
            )
        self.model = parts.fragment or "tts-1"
        path = (
            parts.path
            if parts.path.rstrip("/").endswith("/audio/speech")
            else parts.path.rstrip("/").removesuffix("/v1") + _PATH
        )
        self.url = parts._replace(path=path, fragment="").geturl()
        self.timeout = timeout
        self._opener = build_opener(_NoRedirects())

    def say(self, request: Request) -> np.ndarray:
        """See `Speaker.say`; `AnyTalkerError` if the server can't be reached or refuses."""
        body = {
            "model": self.model,
            "input": request.text,
            "voice": request.voice or VOICES[request.place % len(VOICES)],
            "response_format": "wav",
            "speed": request.speed,
        }
        headers = {"Content-Type": "application/json", "User-Agent": "anytalker"}
        if key := os.environ.get(KEY, "").strip():
            if not (key.isascii() and key.isprintable()):  # http.client would show it in its message
                raise InputError(f"The key in {KEY} holds what no header can hold. Set it again.")
            headers["Authorization"] = f"Bearer {key}"
        sent = HttpRequest(self.url, json.dumps(body).encode(), headers, method="POST")
        try:
            with self._opener.open(sent, timeout=self.timeout) as answer:
                data = answer.read(_LARGEST + 1)
        except HTTPError as error:
            said = " ".join(error.read(300).decode("utf-8", "replace").split())
            raise AnyTalkerError(
                f"{self.url} refused to speak {request.text[:40]!r}: {error.code} {said[:200]}"
            ) from error
        except (URLError, OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise AnyTalkerError(
                f"{self.url} can't be reached: {reason}. Is the address right, and does it run?"
            ) from error
        if not data or len(data) > _LARGEST:
            raise AnyTalkerError(f"{self.url} sent {len(data)} bytes for {request.text[:40]!r}, which is no speech.")
        return trimmed(_decoded(data, self.url), request.text)


class _NoRedirects(HTTPRedirectHandler):
    """A redirect could lead off this machine, or to http, with the key."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        return None


def _decoded(data: bytes, url: str) -> np.ndarray:
    """Any format that PyAV decodes; WAV that was streamed has no length in its header."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech"
        path.write_bytes(data)
        try:
            return load_audio(path)
        except InputError as error:
            raise AnyTalkerError(f"{url} sent no sound that can be decoded ({len(data)} bytes).") from error
