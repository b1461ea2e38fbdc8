"""`anytalker serve` on the command line: what it refuses before it listens, and its keys."""

from __future__ import annotations

import pytest
from filelock import FileLock

from anytalker.client import Client
from anytalker.service import logs, server
from tests.test_cli import run


@pytest.fixture
def listening(monkeypatch):
    """What would be served, instead of serving."""
    served = []
    monkeypatch.setattr(logs, "log_as_json", lambda: None)  # the loggers are those of all tests
    monkeypatch.setattr(server, "serve", lambda app, settings, ready: served.append((app, settings)))
    return served


def test_it_listens_on_this_machine(listening, tmp_path, capsys) -> None:
    given = ["--port", "0", "--data", str(tmp_path / "data"), "--device", "cpu", "--max-queued", "7"]
    assert run("serve", *given) == 0
    (app, settings), *others = listening
    assert others == []
    assert (settings.host, settings.port, settings.models, settings.keys) == ("127.0.0.1", 0, ("tiny",), None)
    queue = app.state.service.queue
    assert (queue.folder, queue.settings.bounds.waiting) == (tmp_path / "data", 7)


def test_it_says_when_another_one_makes_the_videos(listening, tmp_path, capsys) -> None:
    given = ["serve", "--port", "0", "--data", tmp_path, "--device", "cpu"]
    assert run(*given) == 0
    assert "Another" not in capsys.readouterr().out
    with FileLock(tmp_path / "workers.lock"):
        assert run(*given) == 0
    assert f"Another studio or service makes the videos in {tmp_path}, with its own" in capsys.readouterr().out


def test_without_arguments_it_serves(listening, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ANYTALKER_HOME", str(tmp_path))
    assert run("serve") == 0
    assert listening[0][0].state.service.queue.folder == tmp_path / "videos"


def test_help_is_that_of_serving(capsys) -> None:
    assert run("serve", "--help") == 0
    said = capsys.readouterr().out
    assert "--webhook-network" in said
    assert "keys add" in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--host", "0.0.0.0"], "--keys is needed"),
        (["--host", "0.0.0.0", "--keys", "none.json"], "holds no key"),
        (["--host", "no.such.host.invalid"], "isn't an address"),
        (["--model", "nothing"], "There is no model 'nothing'"),
        (["--device", "cuda:9"], "--device cuda:9 can't be used here"),
        (["--ray", "auto", "--device", "cpu"], "leave out --device"),
        (["--ray", "127.0.0.1:1"], "no ray cluster at '127.0.0.1:1'"),
        (["--webhook-network", "everything"], "must be a network"),
        (["--port", "70000"], "--port is 70000"),
        (["--quota", "0"], "--quota is 0"),
        (["--per-minute", "0"], "--per-minute is 0"),
        (["--label", "\u4f60"], "--label is"),
        (["--certificate", "c.pem"], "belong together"),
        (["--data", "/dev/null/data"], "can't be used"),
    ],
)
def test_what_it_refuses(listening, given, said, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANYTALKER_HOME", str(tmp_path))
    assert run("serve", *given) == 2
    assert said in capsys.readouterr().err
    assert listening == []


def test_keys_come_and_go(tmp_path, capsys) -> None:
    file = ["--keys", str(tmp_path / "keys.json")]
    assert run("serve", "keys", "add", "anna", *file, "--max-jobs", "3") == 0
    key = capsys.readouterr().out.strip()
    assert key.startswith("at_")
    assert key not in (tmp_path / "keys.json").read_text()
    assert run("serve", "keys", "list", *file) == 0
    assert "anna: since" in capsys.readouterr().out
    assert run("serve", "keys", "add", "anna", *file) == 2
    assert run("serve", "keys", "remove", "anna", *file) == 0
    assert run("serve", "keys", "remove", "anna", *file) == 2


def test_the_client_needs_nothing_but_an_address() -> None:
    with Client("http://127.0.0.1:1", key="k") as client:
        assert client._http.headers["authorization"] == "Bearer k"
