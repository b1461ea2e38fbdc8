"""Files appear whole or not at all, and one process at a time makes them."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from anytalker import InputError
from anytalker.files import atomic_path, check_writable_output, exclusive, write_json_atomic


def test_a_finished_file_takes_its_place(tmp_path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_path(target) as partial:
        assert partial.suffix == ".txt"
        partial.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_can_not_be_written_is_named(tmp_path) -> None:
    target = tmp_path / "a.txt"
    with pytest.raises(OSError, match="No space") as caught, atomic_path(target):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(target)
    with pytest.raises(FileNotFoundError) as caught, atomic_path(target / "no" / "b.txt") as partial:
        partial.touch()
    assert caught.value.filename == str(target / "no" / "b.txt")
    with pytest.raises(FileNotFoundError) as caught, atomic_path(target):
        (tmp_path / "another").read_text()
    assert caught.value.filename == str(tmp_path / "another")


@pytest.mark.parametrize("exception", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_file_leaves_nothing(tmp_path, exception) -> None:
    target = tmp_path / "a.txt"
    with pytest.raises(exception), atomic_path(target) as partial:
        partial.write_text("half")
        raise exception
    assert list(tmp_path.iterdir()) == []


def test_unwritable_outputs_are_named(tmp_path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").write_text("")
    for path, reason in (
        (tmp_path / "a.avi", "must end in .mp4"),
        (tmp_path / "folder.mp4", "is a folder"),
        (tmp_path / "none" / "a.mp4", "no folder"),
        (tmp_path / "file" / "a.mp4", "no folder"),
        (tmp_path / f"{'x' * 300}.mp4", "too long"),
    ):
        with pytest.raises(InputError, match=reason) as caught:
            check_writable_output(path, ".mp4")
        assert path.name in str(caught.value)
    check_writable_output(tmp_path / "fine.mp4", ".mp4")
    assert not list(tmp_path.glob("*.partial*"))


def test_a_name_of_the_greatest_length_can_be_written(tmp_path) -> None:
    target = tmp_path / f"{'x' * 251}.mp4"
    check_writable_output(target, ".mp4")
    with atomic_path(target) as partial:
        partial.write_text("whole")
    assert target.read_text() == "whole"


def test_a_folder_that_refuses_is_found_out_by_trying(tmp_path, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.touch", refuse)
    with pytest.raises(InputError, match=r"a\.mp4 can't be written: Read-only file system"):
        check_writable_output(tmp_path / "a.mp4", ".mp4")


def test_checking_leaves_an_older_file_as_it_is(tmp_path) -> None:
    target = tmp_path / "a.mp4"
    target.write_text("old")
    check_writable_output(target, ".mp4")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_json_is_readable(tmp_path) -> None:
    write_json_atomic(tmp_path / "a.json", {"é": [1, 2]})
    assert "é" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_a_lock_keeps_others_out_and_leaves_nothing(tmp_path) -> None:
    lock = tmp_path / ".a.lock"
    lock.touch()  # of a process that was killed
    with exclusive(lock, "busy"):
        with pytest.raises(InputError, match="busy"), exclusive(lock, "busy"):
            pass
        assert lock.exists()
    assert not lock.exists()
    with pytest.raises(KeyboardInterrupt), exclusive(lock, "busy"):
        raise KeyboardInterrupt
    assert not lock.exists()
    with pytest.raises(InputError, match="none"), exclusive(tmp_path / "none" / ".a.lock", "busy"):
        pass


def test_a_lock_whose_owner_has_just_ended_is_taken_anew(tmp_path, monkeypatch) -> None:
    fcntl = pytest.importorskip("fcntl")
    lock, real, taken = tmp_path / ".a.lock", fcntl.flock, []

    def flock(descriptor: int, operation: int) -> None:
        taken.append(descriptor)
        if len(taken) == 1:
            lock.unlink()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with exclusive(lock, "busy"):
        assert lock.exists()
        with pytest.raises(InputError, match="busy"), exclusive(lock, "busy"):
            pass


@pytest.mark.skipif(os.name == "nt", reason="needs permission bits")
def test_a_lock_that_is_left_behind_can_be_taken_by_another_user(tmp_path) -> None:
    before = os.umask(0o077)
    try:
        with exclusive(tmp_path / ".a.lock", "busy"):
            assert stat.S_IMODE((tmp_path / ".a.lock").stat().st_mode) == 0o666
    finally:
        os.umask(before)


@pytest.mark.filterwarnings("ignore:flock not supported")
@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOSYS])
def test_where_there_are_no_locks_work_goes_on(tmp_path, monkeypatch, code) -> None:
    fcntl = pytest.importorskip("fcntl")

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    entered = 0
    for _ in range(2):
        with exclusive(tmp_path / ".a.lock", "busy"):
            entered += 1
        assert list(tmp_path.iterdir()) == []
    assert entered == 2
