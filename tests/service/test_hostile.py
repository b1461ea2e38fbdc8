"""Requests that mean harm, or are broken: each is refused or comes to nothing, and the service goes on as before.

For all of them: no answer of 500 and above, no traceback and no path in an answer, no file where none belongs, and
nothing that keeps the next video from being queued.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from anytalker.queue.video_queue import VideoQueue
from tests.service.conftest import bearer, client_for, files_in, open_queue

ID = "video_" + "0" * 24
VIDEOS = "/v1/videos"
REFUSED = {400, 401, 403, 404, 405, 409, 413, 415, 421, 422, 429}
TAKEN = {200}


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that claims a size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def png_bomb() -> bytes:
    """A real PNG of 64 million black pixels in some 60 kilobytes."""
    packer, rows = zlib.compressobj(9), bytes(8001)
    return png(8000, 8000, b"".join([*(packer.compress(rows) for _ in range(8000)), packer.flush()]))


def text_bomb() -> bytes:
    """A small PNG whose compressed text is 100 megabytes."""
    picture = io.BytesIO()
    Image.new("RGB", (64, 64)).save(picture, "PNG")
    data = picture.getvalue()
    content = b"Comment\0\0" + zlib.compress(bytes(100 * 2**20), 9)
    chunk = struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))
    return data[:33] + chunk + data[33:]


def sound_bomb() -> bytes:
    """A FLAC of ten minutes of silence in some kilobytes."""
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=16000, layout="mono")
        for number in range(10):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 960_000), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16000, number * 960_000
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def video_bomb() -> bytes:
    """An MP4 whose picture is said to be 30000 pixels wide and high."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue().replace(struct.pack(">HH", 64, 64), struct.pack(">HH", 30000, 30000))


def wave_lie(voice: bytes) -> bytes:
    """A WAV that promises a gigabyte."""
    return voice[:40] + struct.pack("<I", 2**30) + voice[44:]


ARCHIVE = b"PK\x03\x04" + bytes(200) + b"PK\x05\x06" + bytes(18)
SCALABLE = b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg xmlns="x">&x;</svg>'
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
SCRIPT = "<script>alert(1)</script>"
PAIRS = {"people": [{"name": "Anna"}], "turns": [{"person": "Anna", "start": 0, "end": 1, "text": "Hi"}]}


def timeline(**turn: Any) -> dict[str, Any]:
    """A timeline whose turn is otherwise."""
    return PAIRS | {"turns": [PAIRS["turns"][0] | turn]}


def nested(depth: int) -> str:
    """JSON in JSON."""
    return "[" * depth + "]" * depth


HOOK = {"webhook_secret": "whsec_" + "A" * 43 + "="}
PATHS = {
    "traversal in the path": "/v1/videos/../../../../etc/passwd",
    "encoded traversal": "/v1/videos/%2e%2e%2f%2e%2e%2fetc%2fpasswd/content",
    "twice encoded traversal": "/v1/videos/%252e%252e%252fjobs.sqlite3/content",
    "backslashes": "/v1/videos/..%5c..%5cjobs.sqlite3/content",
    "null in an id": f"/v1/videos/{ID}%00/content",
    "line feed in an id": f"/v1/videos/{ID}%0a",
    "id in other letters": f"/v1/videos/{ID.upper()}",
    "full-width digits": "/v1/videos/video_" + "%EF%BC%90" * 24,
    "very long id": "/v1/videos/" + "a" * 20000,
    "SQL in an id": "/v1/videos/' OR 1=1 --",
    "SQL behind after": "/v1/videos?after=video_' UNION SELECT * FROM jobs--",
    "negative limit": "/v1/videos?limit=-1",
    "huge limit": "/v1/videos?limit=99999999999999999999999",
    "limit that is none": "/v1/videos?limit=NaN",
    "order that is none": "/v1/videos?order=asc;DROP TABLE jobs",
    "unknown id": f"/v1/videos/{ID}",
    "content of an unknown id": f"/v1/videos/{ID}/content",
    "events of an unknown id": f"/v1/videos/{ID}/events",
    "unknown part": f"/v1/videos/{ID}/jobs.sqlite3",
    "unknown page": "/.env",
    "slash at the end": "/v1/videos/",
    "two slashes": "//etc/passwd",
}
FIELDS = {
    "model that is a path": {"model": "../../../etc"},
    "model that is an absolute path": {"model": "/etc/passwd"},
    "model that isn't offered": {"model": "14b"},
    "negative seed": {"seed": "-1"},
    "huge seed": {"seed": str(2**70)},
    "seed that is no number": {"seed": "1e"},
    "no steps": {"num_inference_steps": "0"},
    "a billion steps": {"num_inference_steps": "1000000000"},
    "frame rate that is none": {"fps": "NaN"},
    "infinite guidance": {"guidance_scale": "Infinity"},
    "huge video": {"size": "99999x99999"},
    "huge scale": {"scale": "8"},
    "huge window": {"window": "1" * 400},
    "number with 4000 digits": {"max_frames": "9" * 4000},
    "unknown field": {"output": "/etc/cron.d/x"},
    "long prompt": {"prompt": "a" * 6000},
    "null in a prompt": {"prompt": "a\0b"},
    "script of dashes": {"script": "Anna: " + "-" * 90_000 + "x"},
    "people that are no JSON": {"people": "{"},
    "people in people": {"people": nested(5000)},
    "people in people, less deep": {"people": nested(700)},
    "people that are an object": {"people": {"audio": 1}},
    "nobody": {"people": []},
    "a thousand people": {"people": [{"audio": "none"}] * 1000},
    "audio that isn't there": {"people": [{"audio": 7}]},
    "audio that is a path": {"people": [{"audio": "/etc/passwd"}]},
    "audio that is a truth": {"people": [{"audio": True}]},
    "voice of the inside": {"people": [{"voice": 1}]},
    "box that is none": {"people": '[{"audio": 1, "box": [NaN, 1, 2, 3]}]'},
    "box below zero": {"people": [{"audio": 1, "box": [-5, 1, 2, 3]}]},
    "box and point": {"people": [{"audio": 1, "box": [1, 1, 9, 9], "point": [1, 1]}]},
    "script in a name": {"people": [{"audio": 1, "name": SCRIPT}]},
    "two timelines": {"timeline": PAIRS, "script": "Anna: Hi"},
    "timeline that names a file": {"timeline": timeline(sound={"file": "../../../etc/passwd"})},
    "timeline that names a job's file": {"timeline": timeline(sound={"file": "image.png"})},
    "timeline with a face in a file": {"timeline": PAIRS | {"people": [{"name": "Anna", "face": "/etc/x.png"}]}},
    "timeline with a voice in a file": {
        "timeline": PAIRS | {"people": [{"name": "Anna", "voice": {"name": "../../etc/passwd"}}]}
    },
    "timeline that is a list": {"timeline": [1, 2]},
    "script with audio": {"script": "Anna: Hi"},
    "webhook without a secret": {"webhook_url": "https://example.com"},
    "webhook to this machine": {"webhook_url": "http://127.0.0.1:22/", **HOOK},
    "webhook to localhost": {"webhook_url": "http://localhost/", **HOOK},
    "webhook to a number": {"webhook_url": "http://2130706433/", **HOOK},
    "webhook to an octal": {"webhook_url": "http://0177.0.0.1/", **HOOK},
    "webhook to metadata": {"webhook_url": "http://169.254.169.254/latest/meta-data", **HOOK},
    "webhook to a private network": {"webhook_url": "https://10.0.0.5/", **HOOK},
    "webhook to IPv6": {"webhook_url": "http://[::1]:8000/", **HOOK},
    "webhook to a mapped address": {"webhook_url": "http://[::ffff:10.0.0.1]/", **HOOK},
    "webhook to a translated address": {"webhook_url": "http://[64:ff9b::7f00:1]/", **HOOK},
    "webhook to everybody": {"webhook_url": "http://0.0.0.0/", **HOOK},
    "webhook to a file": {"webhook_url": "file:///etc/passwd", **HOOK},
    "webhook to gopher": {"webhook_url": "gopher://127.0.0.1:6379/_FLUSHALL", **HOOK},
    "webhook with a password": {"webhook_url": "http://a:b@example.com/", **HOOK},
    "webhook with line feeds": {"webhook_url": "http://example.com/\r\nX: y", **HOOK},
    "webhook with a port that is none": {"webhook_url": "http://example.com:99999/", **HOOK},
    "webhook secret that is none": {"webhook_url": "https://8.8.8.8/", "webhook_secret": "whsec_AA"},
}
HEADERS = {
    "name that was pointed here": {"Host": "evil.example"},
    "page of another site": {"Origin": "https://evil.example"},
    "page without a site": {"Origin": "null"},
    "page of another port": {"Origin": "http://127.0.0.1:1234"},
    "request across sites": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    "length that is none": {"Content-Length": "-5"},
    "length of a terabyte": {"Content-Length": str(2**40)},
    "JSON": {"Content-Type": "application/json"},
    "no boundary": {"Content-Type": "multipart/form-data"},
    "endless boundary": {"Content-Type": "multipart/form-data; boundary=" + "x" * 5000},
    "key of idempotency that is too long": {"Idempotency-Key": "k" * 300},
    "key of idempotency that is empty": {"Idempotency-Key": ""},
}


def parts(image: Any = None, audio: Any = None, more: Any = ()) -> Callable[[bytes, bytes], list[Any]]:
    """Makes the parts of a form from a picture and a recording; what is given takes the place of the usual ones."""

    def make(picture: bytes, voice: bytes) -> list[Any]:
        found: list[Any] = []
        for name, usual, given in (("image", picture, image), ("audio", voice, audio)):
            values = given if isinstance(given, list) else [given]
            for value in values:
                file, data = ("usual", usual) if value is None else value
                found.append((name, (file, data(usual) if callable(data) else data)))
        return [*found, *more]

    return make


def same(data: bytes) -> bytes:
    """A file as it is."""
    return data


NOBODY = (None, "none")
UPLOADS: dict[str, tuple[Callable[[bytes, bytes], list[Any]], set[int]]] = {
    "traversal in the picture's name": (parts(("../../../evil.png", same)), TAKEN),
    "absolute name of a picture": (parts(("/etc/cron.d/evil", same)), TAKEN),
    "null in a recording's name": (parts(audio=("a\0/../../b.wav", same)), TAKEN | REFUSED),
    "script in a recording's name": (parts(audio=(SCRIPT, same)), TAKEN),
    "very long name": (parts(audio=("a" * 5000, same)), TAKEN | REFUSED),
    "picture and archive in one": (parts(("p.png", lambda picture: picture + ARCHIVE)), TAKEN),
    "picture and page in one": (parts(("p.html", lambda picture: picture + SCRIPT.encode())), TAKEN),
    "archive": (parts(("p.png", ARCHIVE)), REFUSED),
    "page": (parts(("p.png", b"<html>" + SCRIPT.encode())), REFUSED),
    "scalable picture with an entity": (parts(("p.svg", SCALABLE)), REFUSED),
    "program of a picture": (parts(("p.eps", b"%!PS-Adobe-3.0 EPSF-3.0\nquit\n")), REFUSED),
    "picture that claims to be huge": (parts(("p.png", lambda picture: png(60000, 60000))), REFUSED),
    "picture bomb": (parts(("p.png", lambda picture: png_bomb())), REFUSED),
    "text bomb in a picture": (parts(("p.png", lambda picture: text_bomb())), REFUSED),
    "video that claims to be huge": (parts(("p.mp4", lambda picture: video_bomb())), REFUSED),
    "half a picture": (parts(("p.png", lambda picture: picture[: len(picture) // 2])), REFUSED),
    "playlist": (parts(audio=("a.m3u8", PLAYLIST)), REFUSED),
    "list of files": (parts(audio=("a.txt", b"ffconcat version 1.0\nfile /etc/passwd\n")), REFUSED),
    "stream description": (parts(audio=("a.sdp", b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\n")), REFUSED),
    "sound bomb": (parts(audio=("a.flac", lambda voice: sound_bomb())), REFUSED),
    "sound that promises a gigabyte": (parts(audio=("a.wav", wave_lie)), REFUSED),
    "noise": (parts(audio=("a.wav", bytes(range(256)) * 200)), REFUSED),
    "empty picture": (parts(("p.png", b"")), REFUSED),
    "empty recording": (parts(audio=("a.wav", b"")), REFUSED),
    "no picture": (parts([]), REFUSED),
    "two pictures": (parts([None, None]), REFUSED),
    "path as a picture": (parts((None, "/etc/passwd")), REFUSED),
    "path as a recording": (parts(audio=(None, "/etc/passwd")), REFUSED),
    "nobody speaks": (parts(audio=NOBODY), REFUSED),
    "too many recordings": (parts(audio=[None] * 60), REFUSED),
    "too many parts": (parts(audio=[NOBODY] * 500), REFUSED),
    "file as a text": (parts(more=[("prompt", ("p.txt", b"hello"))]), REFUSED),
    "too large": (parts(audio=("a.wav", bytes(4 * 2**20))), REFUSED),
}
METHODS = ("PUT", "PATCH", "OPTIONS", "TRACE", "CONNECT", "HEAD", "DELETE", "BREW")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the service keeps its files."""
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def queue(folder) -> VideoQueue:
    """One queue for the whole table."""
    return open_queue(folder / "data")


@pytest.fixture(scope="module")
def client(queue) -> Iterator[TestClient]:
    """One service for the whole table."""
    with client_for(queue) as one:
        yield one


@pytest.fixture
def harmless(client, queue, folder):
    """Checks an answer, and that nothing has changed but for videos that were taken."""
    before = files_in(folder)

    def check(answer: Any, allowed: set[int]) -> None:
        text = answer.text
        assert answer.status_code in allowed, (answer.status_code, text)
        for told in ("Traceback", str(folder), "site-packages", 'File "', "sqlite"):
            assert told not in text
        if answer.status_code >= 400 and text:
            assert set(answer.json()["error"]) == {"code", "message"}
        jobs = queue.list()
        assert len(jobs) == (answer.status_code == 200 and answer.request.method == "POST")
        for job in jobs:
            names = {path.name for path in queue.folder_of(job.id).iterdir()}
            assert names <= {"image.png", "voice-1.wav"}
            kept = b"".join(path.read_bytes() for path in queue.folder_of(job.id).iterdir())
            assert SCRIPT.encode() not in kept
            assert ARCHIVE not in kept
            queue.delete(job.id)
        left = {name for name in files_in(folder) if not name.startswith("data/jobs.sqlite3")}
        assert left <= before
        assert client.get("/healthz").json()["queued"] == 0

    return check


@pytest.mark.parametrize("name", PATHS)
def test_hostile_paths(client, harmless, name) -> None:
    harmless(client.get(PATHS[name]), REFUSED)


@pytest.mark.parametrize("name", FIELDS)
def test_hostile_fields(client, form, harmless, name) -> None:
    harmless(client.post(VIDEOS, **form(**FIELDS[name])), REFUSED)


@pytest.mark.parametrize("name", HEADERS)
def test_hostile_headers(client, form, harmless, name) -> None:
    harmless(client.post(VIDEOS, **form(headers=HEADERS[name])), REFUSED)


@pytest.mark.parametrize("name", UPLOADS)
def test_hostile_uploads(client, form, harmless, picture, voice, name) -> None:
    make, allowed = UPLOADS[name]
    harmless(client.post(VIDEOS, **form(make(picture.read_bytes(), voice.read_bytes()))), allowed)


@pytest.mark.parametrize("method", METHODS)
def test_other_methods(client, harmless, method) -> None:
    harmless(client.request(method, VIDEOS), REFUSED)


BROKEN = [b"", b"--x", b"--x\r\n\r\n", b"--x\r\nContent-Disposition: form-data\r\n\r\na", bytes(1000)]


@pytest.mark.parametrize("body", BROKEN)
def test_broken_forms(client, harmless, body) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    harmless(client.post(VIDEOS, content=body, headers=headers), REFUSED)


def test_a_body_without_an_end_is_cut_off(client, harmless) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    harmless(client.post(VIDEOS, content=(bytes(2**18) for _ in range(40)), headers=headers), {400, 413})


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer " + "k" * 9000, "Bearer ' OR 1=1"])
def test_keys_that_are_none(client_of, keys, given) -> None:
    answer = client_of(keys=keys["file"]).get(VIDEOS, headers={"Authorization": given})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")


def test_a_key_without_a_video_learns_nothing_of_others(client_of, keys, form) -> None:
    client = client_of(keys=keys["file"])
    id = client.post(VIDEOS, **form(headers=bearer(keys["anna"]))).json()["id"]
    theirs = client.get(f"{VIDEOS}/{id}", headers=bearer(keys["ben"]))
    nobodys = client.get(f"{VIDEOS}/{ID}", headers=bearer(keys["ben"]))
    assert theirs.status_code == nobodys.status_code == 404
    assert theirs.text.replace(id, ID) == nobodys.text


def test_the_table_is_long_enough() -> None:
    assert len(PATHS) + len(FIELDS) + len(HEADERS) + len(UPLOADS) + len(METHODS) >= 60
