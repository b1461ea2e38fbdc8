"""The studio over HTTP: what it answers, to whom, and its command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from anytalker.cli.app import app as commands
from anytalker.errors import InputError
from anytalker.studio.app import create_app, studio_settings
from anytalker.studio.rows import Choices, Row, submit
from tests.service.conftest import finish

pytestmark = pytest.mark.slow


@pytest.fixture
def client(desk) -> Iterator[TestClient]:
    """A browser on this machine."""
    app = create_app(desk.queue, studio_settings("127.0.0.1", 7860))
    with TestClient(app, base_url="http://127.0.0.1:7860") as client:
        yield client


def test_the_page_loads_nothing_from_elsewhere(client) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert client.get("/config").json()["analytics_enabled"] is False
    assert client.get("/theme.css").status_code == 200


def test_files_of_jobs_and_nothing_else(client, desk, example) -> None:
    rows = [Row("Anna", example.members[0].voice), Row("Ben")]
    job = submit(desk.queue, example, rows, Choices(), True)
    assert client.get(f"/videos/{job.id}/thumbnail.jpg").headers["content-type"] == "image/jpeg"
    assert client.get(f"/videos/{job.id}/video.mp4").status_code == 404
    finish(desk.queue, b"0123456789")
    assert client.get(f"/videos/{job.id}/video.mp4", headers={"Range": "bytes=2-4"}).content == b"234"
    assert client.get(f"/videos/{job.id}/video.json").json() == {}
    for path in ("image.png", "voice-1.wav", "..%2F..%2Fjobs.sqlite3", "%2Fetc%2Fpasswd"):
        assert client.get(f"/videos/{job.id}/{path}").status_code == 404
    assert client.get("/videos/..%2F../image.png").status_code == 404
    for path in (desk.queue.folder / "jobs.sqlite3", "/etc/passwd"):
        assert client.get(f"/gradio_api/file={path}").status_code in (403, 404)


def test_a_preview_that_is_replaced_meanwhile_is_sent_whole(client, desk, example, monkeypatch) -> None:
    job = submit(desk.queue, example, [Row("Anna", example.members[0].voice), Row("Ben")], Choices(), True)
    preview = desk.queue.folder_of(job.id) / "preview.jpg"
    preview.write_bytes(b"short")
    stat = os.stat

    def replaced_after(path, *given, **named):
        found = stat(path, *given, **named)
        if str(path) == str(preview):
            preview.write_bytes(preview.read_bytes() + b" and longer")
        return found

    monkeypatch.setattr(os, "stat", replaced_after)
    answer = client.get(f"/videos/{job.id}/preview.jpg")
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_other_sites_and_names_are_refused(client) -> None:
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 421
    assert client.get("/config", headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.post("/gradio_api/upload", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_the_models_are_listed_without_what_takes_long_to_import(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ANYTALKER_HOME", str(tmp_path))
    program = "import sys; from anytalker.studio.rows import models_here; print(models_here(), 'torch' in sys.modules)"
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert made.stdout == "['tiny'] False\n"


def test_only_this_machine_is_listened_on() -> None:
    assert studio_settings("localhost", 0).host == "localhost"
    with pytest.raises(InputError, match="anytalker serve"):
        studio_settings("0.0.0.0", 7860)


def test_the_command_checks_its_port() -> None:
    with pytest.raises(InputError, match="--port"):
        commands(["studio", "--port", "99999"], standalone_mode=False)
    with pytest.raises(InputError, match="--host"):
        commands(["studio", "--host", "0.0.0.0"], standalone_mode=False)
