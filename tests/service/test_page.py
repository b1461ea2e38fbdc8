"""What docs/service.md prints works: its curl lines and its Python, on a service whose videos are made at once."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import ROOT, blocks
from tests.service.conftest import finish
from tests.service.test_server import address  # noqa: F401

PAGE = ROOT / "docs" / "service.md"
PRINTED = "http://127.0.0.1:8000"
TEXT = PAGE.read_text(encoding="utf-8")

pytestmark = pytest.mark.usefixtures("undecoded")


@pytest.fixture
def folder(tmp_path, picture, voice, monkeypatch) -> Path:
    """A user's folder."""
    for name in ("two.png", "anna.wav", "ben.wav"):
        shutil.copy(picture if name.endswith("png") else voice, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def maker(queue):
    """Finishes whatever waits."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.05):
            if queue.store.counts()["queued"]:
                id = finish(queue, b"a video")
                (queue.folder_of(id) / "preview.jpg").write_bytes(b"a picture")
        queue.store.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_curl_lines(address, folder, maker) -> None:  # noqa: F811
    lines = [line for block in blocks(TEXT) if block.language == "sh"
             for line in block.text.replace("\\\n", " ").splitlines() if line.startswith("curl")]  # fmt: skip
    assert len(lines) > 8
    id = ""
    for line in lines:
        command = line.replace(PRINTED, address).replace("$ID", id).replace("curl ", "curl --fail-with-body ", 1)
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        if "-F image" in line:
            id = json.loads(done.stdout)["id"]
        if line.endswith("/events"):
            assert "event: completed" in done.stdout
    assert (folder / "talk.mp4").read_bytes() == b"a video"
    assert json.loads(done.stdout)["deleted"] is True


def test_the_python(address, folder, maker, capsys) -> None:  # noqa: F811
    code = next(block.text for block in blocks(TEXT) if block.language == "py")
    exec(compile(code.replace(PRINTED, address), str(PAGE), "exec"), {})
    assert (folder / "talk.mp4").read_bytes() == b"a video"
    assert "completed 100" in capsys.readouterr().out


def test_the_page_names_every_route(client) -> None:
    shown = TEXT.replace("…/retry", "/v1/videos/{id}/retry")
    for path in client.get("/openapi.json").json()["paths"]:
        assert path in shown


def test_containers_run_the_command_and_keep_the_videos() -> None:
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]["anytalker"]
    assert "videos:/data" in compose["volumes"]
    assert (ROOT / "deploy" / compose["build"]["context"] / compose["build"]["dockerfile"]).is_file()
    words = (ROOT / "deploy" / "Containerfile").read_text()
    assert '"--data", "/data/videos", "--keys", "/data/keys.json"' in words
    assert "USER anytalker" in words
