"""What nobody expected leaves a log and one line; what was expected stays as it is."""

from __future__ import annotations

import errno
import json
import os
import shlex
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError

from anytalker import InputError, cli, failures
from anytalker.doctor import report as doctor
from anytalker.errors import OUT_OF_MEMORY, first_line
from anytalker.evaluation.clips import ClipSource
from anytalker.evaluation.run import score_safely
from anytalker.jobs import batch, workers
from anytalker.jobs.job import Job
from anytalker.pipelines import ready as loading
from anytalker.pipelines.loading_options import LoadingOptions
from tests.test_cli import run


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ANYTALKER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(failures.DEBUG, raising=False)
    return tmp_path / "home"


def broken(*arguments, **options):
    unspoken = "contents of " + "inputs"
    raise RuntimeError(f"sizes differ.\nby {len(unspoken)}")


def logs(home: Path) -> list[Path]:
    return sorted((home / "logs").iterdir())


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_an_unexpected_error_is_one_line_and_a_log(home, monkeypatch, capsys) -> None:
    monkeypatch.setattr(doctor, "this_machine", broken)
    assert run("doctor", "--seconds", "3") == 1
    (log,) = logs(home)
    assert capsys.readouterr().err == (
        f"Error: RuntimeError: sizes differ. This was not expected; what led to it is in {log}, and --debug shows it.\n"
    )
    text = log.read_text()
    assert "command: anytalker doctor --seconds 3\n" in text
    assert f"torch {torch.__version__.partition('+')[0]}" in text
    assert "Traceback (most recent call last)" in text
    assert "in broken\n" in text
    assert text.endswith("RuntimeError: sizes differ.\nby 18\n")
    assert "contents of inputs" not in text


@pytest.mark.parametrize(
    "arguments", [["--debug", "doctor"], ["doctor", "--debug"], ["doctor", "--seconds", "3", "--debug"]]
)
def test_debug_shows_the_traceback(home, monkeypatch, capsys, arguments) -> None:
    monkeypatch.setattr(doctor, "this_machine", broken)
    assert run(*arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1].startswith("Error: RuntimeError: sizes differ. ")
    assert failures.DEBUG not in os.environ
    assert len(logs(home)) == 1


def test_expected_errors_stay_one_line_without_a_log(home, monkeypatch, capsys) -> None:
    arguments = ["doctor", "--seconds", "0"]
    assert run(*arguments) == 2
    plain = capsys.readouterr().err
    assert plain == "Error: --seconds is 0; it must be from 0.2 to 21600.\n"
    assert run(*arguments, "--debug") == 2
    told = capsys.readouterr().err
    assert told.startswith("Traceback")
    assert told.endswith(plain)
    assert run("doctor", "--nonsense") == 2
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory")):
        monkeypatch.setattr(doctor, "this_machine", lambda error=error: (_ for _ in ()).throw(error))
        capsys.readouterr()
        assert run("doctor") == 1
        assert capsys.readouterr().err == f"Error: {OUT_OF_MEMORY}\n"
    assert not home.exists()


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (PermissionError(errno.EACCES, "…", "/srv/a.json"), 2, "/srv/a.json can't be used: Permission denied. Choose"),
        (OSError(errno.EROFS, "…", "/srv/a.json"), 2, "/srv/a.json can't be used: Read-only file system. Choose"),
        (
            OSError(errno.ENOSPC, "…", "/srv/a"),
            1,
            "The disk is full: /srv/a can't be written. Free some space in /srv.",
        ),
        (OSError(errno.ENOSPC, "…"), 1, "The disk is full. Free some space"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), 1, "The disk is full. Free some space"),
    ],
)
def test_full_disks_and_refused_files_are_one_line_without_a_log(home, monkeypatch, capsys, error, code, told) -> None:
    monkeypatch.setattr(doctor, "this_machine", lambda: (_ for _ in ()).throw(error))
    assert run("doctor") == code
    said = capsys.readouterr().err
    assert said.startswith(f"Error: {told}")
    assert (said.count("\n"), home.exists()) == (1, False)


@pytest.mark.parametrize("command", ["evaluate {clips} --report", "batch {jobs} --output"])
def test_a_folder_below_a_file_is_refused(home, tmp_path, capsys, command) -> None:
    for name in ("clip.mp4", "two.png", "a.wav"):
        (tmp_path / name).touch()
    jobs = tmp_path / "jobs.json"
    jobs.write_text('{"a": {"image": "two.png", "audio": ["a.wav"]}}')
    assert run(*command.format(clips=tmp_path, jobs=jobs).split(), jobs / "below") == 2
    assert "Not a directory. Choose another place." in capsys.readouterr().err


def test_debug_is_taken_before_a_double_dash_alone(monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(sys, "argv", ["anytalker", "generate", "--debug", "--", "--debug"])
    monkeypatch.setattr(
        sys.modules["anytalker.cli.app"], "_command", lambda: lambda *given, **options: seen.append(given)
    )
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    assert seen == [(["generate", "--", "--debug"],)]


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (
            "uniface",
            "The Python module uniface is missing. Install what this needs:  pip install --upgrade 'anytalker[faces]'",
        ),
        ("torchao.quantization", "pip install --upgrade 'anytalker[quantize]'"),
        ("ray", "pip install --upgrade 'anytalker[cluster]'"),
        ("pillow_heif", "pip install --upgrade 'anytalker[heic]'"),
        ("gradio", "pip install --upgrade 'anytalker[studio]'"),
        ("webdataset", "pip install --upgrade 'anytalker[train]'"),
        ("matplotlib", "'anytalker[train]' or pip install --upgrade 'anytalker[evaluate]'"),
        (
            "webdataset.nothing",
            "The installed webdataset is another version than is needed: it has no webdataset.nothing.",
        ),
        ("no_such_thing", "The Python module no_such_thing is missing. This was not expected; what led to it is in"),
    ],
)
def test_a_missing_module_is_named_with_its_own_extra(home, monkeypatch, capsys, module, told) -> None:
    def missing() -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(doctor, "this_machine", missing)
    assert run("doctor") == 1
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert ("anytalker[train]" in said) == (module.partition(".")[0] in ("webdataset", "matplotlib"))
    assert home.exists() == (module == "no_such_thing")


def test_errors_from_one_place_share_a_log_and_a_handful_is_kept(home) -> None:
    for number in range(3):
        failures.write_log(raised(ValueError(str(number))))
    assert [path.read_text().endswith("ValueError: 2\n") for path in logs(home)] == [True]
    for number in range(30):
        failures.write_log(raised(type(f"Kind{number}", (Exception,), {})("told")))
    assert len(logs(home)) == 20
    assert not any(path.name.startswith(".") for path in logs(home))


def test_where_the_home_can_not_be_written_the_log_is_temporary(tmp_path, monkeypatch) -> None:
    (tmp_path / "home").write_text("a file")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    failures._temporary_folder.cache_clear()
    said = failures.explain(raised(KeyError("gone")))
    (log,) = tmp_path.glob("anytalker-*/error-*.log")
    assert said == f"KeyError: 'gone'. This was not expected; what led to it is in {log}, and --debug shows it."
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    failures._temporary_folder.cache_clear()
    said = failures.explain(raised(AssertionError()))
    assert said == "AssertionError. This was not expected; no log could be written, and --debug shows it."
    failures._temporary_folder.cache_clear()


def test_a_batch_keeps_one_line_and_the_traceback(home, tmp_path, monkeypatch) -> None:
    class Here:
        def make(self, model, placement, one, path) -> str | None:
            return workers.make_video(model, "cpu", placement, one, path)

        def close(self) -> None:
            pass

    monkeypatch.setattr(batch, "worker_for", lambda device: Here())
    monkeypatch.setattr(loading, "load_pipeline", broken)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    jobs = {name: Job(image=f"{name}.png", audio=[None]) for name in ("a", "b")}
    batch.run_batch(jobs, "tiny", tmp_path / "out", ["cpu"])
    lines = [json.loads(line) for line in (tmp_path / "out" / "batch.jsonl").read_text().splitlines()]
    (log,) = logs(home)
    assert [line["name"] for line in lines] == ["a", "b"]
    for line in lines:
        assert line["reason"].startswith("RuntimeError: sizes differ. This was not expected")
        assert str(log) in line["reason"]
        assert "\n" not in line["reason"]
    assert "in broken\n" in log.read_text()


def test_workers_tell_expected_errors_as_they_are(home, tmp_path, monkeypatch) -> None:
    def refuse(*arguments) -> None:
        raise InputError("the picture is empty")

    monkeypatch.setattr(loading, "load_pipeline", refuse)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    job = Job(image="a.png", audio=[None])
    assert workers.make_video("tiny", "cpu", LoadingOptions(), job, tmp_path / "a.mp4") == "the picture is empty"
    assert not home.exists()


def test_an_evaluation_keeps_the_traceback_of_a_clip(home, monkeypatch) -> None:
    monkeypatch.setattr("anytalker.evaluation.run.score_clip", broken)
    line = score_safely(ClipSource(Path("talk.mp4")), SimpleNamespace())
    (log,) = logs(home)
    assert line["clip"] == "talk"
    assert line["scores"] == {}
    assert line["failure"].startswith("RuntimeError: sizes differ. ")
    assert str(log) in line["failure"]
    assert f"command: {shlex.join(sys.argv)}" in log.read_text()


def test_the_first_line_of_an_error_is_said_even_if_there_is_none() -> None:
    assert first_line(ValueError("\n one\ntwo")) == "one"
    assert first_line(ValueError("  \n")) == "ValueError"
