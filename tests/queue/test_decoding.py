"""Decoding in a process with bounds: what goes beyond them is refused, and named without its path."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
from PIL import Image

from anytalker.errors import AnyTalkerError, InputError
from anytalker.media.recordings import load_audio, write_wave
from anytalker.media.video import write_video
from anytalker.queue import decoding as module
from anytalker.queue.decoding import DecodingBounds, decode

BOUNDS = DecodingBounds(seconds=20, pixels=100_000, audio_seconds=2.0)


@pytest.fixture
def folder(tmp_path):
    """Where the decoded files go."""
    path = tmp_path / "decoded"
    path.mkdir()
    return path


def test_pictures_and_recordings_become_plain_files(folder, tmp_path, voice) -> None:
    picture = tmp_path / "anything"
    Image.new("RGBA", (64, 48), (255, 0, 0, 0)).save(picture, "WEBP", exif=b"Exif\0\0secret")
    decode(folder, picture, [voice, voice], bounds=BOUNDS)
    assert {path.name for path in folder.iterdir()} == {"image.png", "voice-1.wav", "voice-2.wav"}
    with Image.open(folder / "image.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (64, 48))
    assert b"secret" not in (folder / "image.png").read_bytes()
    assert len(load_audio(folder / "voice-2.wav")) == 8000


def test_a_frame_of_a_video_is_a_picture(folder, tmp_path, voice) -> None:
    frames = np.zeros((20, 64, 64, 3), np.uint8)
    frames[10:] = (0, 0, 200)
    write_video(tmp_path / "v.mp4", frames, 10)
    decode(folder, tmp_path / "v.mp4", [], at=1.5, bounds=BOUNDS)
    with Image.open(folder / "image.png") as image:
        assert image.getpixel((30, 30))[2] > 150


def test_a_path_that_is_not_there_is_named(folder, tmp_path, voice) -> None:
    with pytest.raises(InputError, match=r"There is no .*tow\.png"):
        decode(folder, tmp_path / "tow.png", [voice], bounds=BOUNDS)


@pytest.mark.parametrize(
    ("picture", "seconds", "said"),
    [
        ((400, 400), 1.0, "The picture is 400×400 pixels; at most 0.1 million"),
        ((64, 64), 3.0, "Recording 2 is longer than 2 s"),
        (None, 1.0, "The picture is not a picture"),
    ],
)
def test_what_is_refused_is_named_without_its_path(folder, tmp_path, voice, picture, seconds, said) -> None:
    path = tmp_path / "upload-0"
    if picture is None:
        path.write_bytes(b"nothing")
    else:
        Image.new("RGB", picture).save(path, "PNG")
    write_wave(tmp_path / "upload-2", np.zeros(round(16000 * seconds), np.float32))
    with pytest.raises(InputError, match=said) as caught:
        decode(folder, path, [voice, tmp_path / "upload-2"], bounds=BOUNDS)
    assert str(tmp_path) not in str(caught.value)


def test_too_many_pixels_are_refused_before_they_are_decoded(folder, tmp_path, voice) -> None:
    Image.new("RGB", (400, 400)).save(tmp_path / "whole.png")
    path = tmp_path / "cut.png"
    path.write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    with pytest.raises(InputError, match=r"at most 0\.1 million"):
        decode(folder, path, [voice], bounds=BOUNDS)


def test_a_full_disk_is_not_the_files_fault(tmp_path, monkeypatch, capsys) -> None:
    def full(task, bounds) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    task = {"image": "a", "voices": [], "at": None, "bounds": asdict(BOUNDS)}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(task)))
    monkeypatch.setattr(module, "_decode_all", full)
    monkeypatch.setattr(module, "_bound", lambda bounds: None)
    module.main()
    done = subprocess.CompletedProcess([], 0, stdout=capsys.readouterr().out)
    monkeypatch.setattr(subprocess, "run", lambda *given, **more: done)
    with pytest.raises(AnyTalkerError, match="The disk is full") as caught:
        decode(tmp_path, tmp_path / "a", [])
    assert not isinstance(caught.value, InputError)


@pytest.mark.skipif(os.name != "posix", reason="the system has no such bounds")
def test_memory_and_time_end(folder, tmp_path, voice) -> None:
    Image.new("RGB", (6000, 5000)).save(tmp_path / "large.png", compress_level=1)
    wide = replace(BOUNDS, pixels=10**9)
    for bounds in (replace(wide, memory=300 * 2**20), replace(wide, seconds=0)):
        with pytest.raises(InputError, match=r"to decode|damaged"):
            decode(folder, tmp_path / "large.png", [voice], bounds=bounds)
