"""What speaks: recorded takes, what was kept, and a server."""

from __future__ import annotations

import io
import json
import threading
import wave
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from anytalker.conventions import SAMPLE_RATE
from anytalker.errors import AnyTalkerError, InputError
from anytalker.media.recordings import write_wave
from anytalker.speech.endpoint import KEY, EndpointEngine
from anytalker.speech.engine import EspeakEngine, Request
from anytalker.speech.takes import Kept, Takes

TONE = 0.5 * np.sin(np.arange(SAMPLE_RATE // 2) / 5).astype(np.float32)
HELLO = Request("Hello there.", 1, "Anna Lee", number=2)


class Server(BaseHTTPRequestHandler):
    """Answers with a tone at 24 kHz, or as the text tells."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body, self.headers["Authorization"]))
        if body["input"] == "garbled":
            self.wfile.write(b"hello there\r\n\r\n")
            return
        if body["input"] == "moved":
            self.send_response(302)
            self.send_header("Location", "http://example.com/")
            self.end_headers()
            return
        self.send_response(401 if body["input"] == "refused" else 200)
        self.end_headers()
        sound = io.BytesIO()
        with wave.open(sound, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(24000)
            file.writeframes((20000 * np.sin(np.arange(12000) / 5)).astype("<i2").tobytes())
        self.wfile.write({"refused": b"no key", "text": b"hello"}.get(body["input"], sound.getvalue()))

    def log_message(self, *words) -> None:
        pass


@pytest.fixture
def server():
    made = HTTPServer(("127.0.0.1", 0), Server)
    made.asked = []
    made.url = f"http://127.0.0.1:{made.server_port}"
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def test_an_endpoint_speaks(server, monkeypatch) -> None:
    monkeypatch.setenv(KEY, "secret")
    samples = EndpointEngine(server.url + "/v1#voice-2").say(HELLO)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(SAMPLE_RATE / 2, abs=200)
    path, body, key = server.asked[0]
    assert (path, key) == ("/v1/audio/speech", "Bearer secret")
    assert body == {
        "model": "voice-2",
        "input": "Hello there.",
        "voice": "nova",
        "response_format": "wav",
        "speed": 1.0,
    }


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("refused", "401 no key"),
        ("text", "no sound that can be decoded"),
        ("moved", "302"),
        ("garbled", "can't be reached"),
    ],
)
def test_an_endpoint_that_does_not(server, text: str, part: str) -> None:
    with pytest.raises(AnyTalkerError, match=part):
        EndpointEngine(server.url).say(Request(text))


def test_an_endpoint_that_is_not_there(server) -> None:
    with pytest.raises(AnyTalkerError, match="can't be reached"):
        EndpointEngine("http://127.0.0.1:9").say(HELLO)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "ftp://localhost",
        "file:///etc/passwd",
        "x",
        "https://a:b@c.de",
        "https://[",
        "https://localhost:port",
    ],
)
def test_only_safe_addresses(url: str) -> None:
    with pytest.raises(InputError, match="https://"):
        EndpointEngine(url)


def test_keys_are_sent_clean_and_never_shown(server, monkeypatch) -> None:
    monkeypatch.setenv(KEY, "secret\n")
    EndpointEngine(server.url).say(HELLO)
    assert server.asked[0][2] == "Bearer secret"
    monkeypatch.setenv(KEY, "sec\nret")
    with pytest.raises(InputError, match=KEY) as caught:
        EndpointEngine(server.url).say(HELLO)
    assert "sec" not in str(caught.value)


def test_names_of_takes_fit_on_disks() -> None:
    engine = Kept(EspeakEngine(), "talk.takes")
    names = {engine.path(Request("Hi.", speaker="😀" * 59 + last, number=1)).name for last in "😁😂"}
    assert len(names) == 2
    assert all(len(name.encode()) <= 255 for name in names)


def test_what_was_said_is_kept(server, tmp_path) -> None:
    engine = Kept(EndpointEngine(server.url), tmp_path / "talk.takes")
    first, again = engine.say(HELLO), engine.say(HELLO)
    assert np.array_equal(first, again)
    assert len(server.asked) == 1
    engine.say(Request("Other words.", 1, "Anna Lee", number=2))
    assert len(server.asked) == 2
    assert engine.path(HELLO).name.startswith("002_anna_lee_")
    engine.path(Request("Other words.", 1, "Anna Lee", number=2)).unlink()
    assert np.array_equal(Takes(tmp_path / "talk.takes").say(HELLO), first)


def test_takes_are_found_by_number_and_name(tmp_path) -> None:
    write_wave(tmp_path / "2 - anna lee.wav", TONE)
    (tmp_path / "notes.txt").write_text("x")
    takes = Takes(tmp_path, EspeakEngine())
    np.testing.assert_allclose(takes.say(HELLO), TONE, atol=1e-4)
    assert takes.path(HELLO) == tmp_path / "2 - anna lee.wav"
    other = Request("Hello there.", number=3)
    assert np.array_equal(takes.say(other), EspeakEngine().say(other))
    assert takes.path(other) is None
    with pytest.raises(InputError, match=r"record 003_ben\.wav"):
        Takes(tmp_path).say(Request("Hello there.", speaker="Ben", number=3))
    with pytest.raises(InputError, match="is no take of Ben, who has turn 2"):
        takes.say(Request("Hello there.", speaker="Ben", number=2))
    write_wave(tmp_path / "004_jose\u0301.wav", TONE)
    assert Takes(tmp_path).path(Request("Hola.", speaker="Jos\u00e9", number=4)) is not None
    write_wave(tmp_path / "002_ben.wav", TONE)
    with pytest.raises(InputError, match="are both takes of turn 2"):
        Takes(tmp_path)


def test_folders_that_hold_no_takes(tmp_path) -> None:
    with pytest.raises(InputError, match="no takes"):
        Takes(tmp_path)
    with pytest.raises(InputError, match="no folder"):
        Takes(tmp_path / "gone")


def test_languages_and_variants() -> None:
    engine = EspeakEngine()

    def say(**more):
        return engine.say(Request("Hallo zusammen", **more))

    assert not np.array_equal(say(voice="de+f2"), say(voice="en-us+f2"))
    assert np.array_equal(say(voice="en-us+f2", language="de"), say(voice="de+f2"))
    assert not np.array_equal(say(voice="de", place=0), say(voice="de", place=1))
    assert len(say(speed=1.5)) < 0.8 * len(say())
    with pytest.raises(InputError, match="espeak-ng has no voice"):
        say(voice="alloy")
