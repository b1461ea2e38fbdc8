"""Decode uploads in a process of their own with bounds: whatever a picture or a recording holds, nothing else suffers.

`python -m anytalker.queue.decoding` reads a task from standard input, in the folder of the uploads, and writes the
picture as PNG and recordings as WAV: what is queued holds nothing of the files that were sent but pixels and samples.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from anytalker.errors import AnyTalkerError, InputError

PICTURE = "image.png"


@dataclass(frozen=True)
class DecodingBounds:
    """What decoding may take.

    Attributes:
        seconds: of time, and of one core.
        memory: bytes of address space.
        pixels: of the picture.
        audio_seconds: of each recording.
    """

    seconds: int = 60
    memory: int = 3 * 2**30
    pixels: int = 40_000_000
    audio_seconds: float = 1800.0


def voice_name(number: int) -> str:
    """The file of a recording: "voice-1.wav"."""
    return f"voice-{number}.wav"


def decode(
    folder: Path,
    image: Path,
    voices: Sequence[Path],
    at: float | None = None,
    bounds: DecodingBounds = DecodingBounds(),
) -> None:
    """Write the picture and the recordings of uploads as image.png and voice-N.wav into a folder.

    Args:
        folder: that is there.
        image: the picture, or a video.
        voices: recordings.
        at: of a video as the picture, the second of the frame.
        bounds: what it may take.

    Raises:
        InputError: if one of them can't be used, called "The picture" or "Recording 1".
        AnyTalkerError: if the process can't be started, or the disk is full.
    """
    task = {"image": str(image.absolute()), "voices": [str(voice.absolute()) for voice in voices], "at": at}
    command = [sys.executable, "-m", "anytalker.queue.decoding"]
    kept = {name: value for name, value in os.environ.items() if name in _NEEDED}
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    single |= {"PYTHONSAFEPATH": "1"}  # nothing in the folder is ever imported
    path = os.pathsep.join(filter(None, sys.path))
    try:
        done = subprocess.run(
            command,
            input=json.dumps(task | {"bounds": asdict(bounds)}),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            cwd=folder,
            env=kept | single | {"PYTHONPATH": path},
            timeout=bounds.seconds,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"The files take more than {bounds.seconds} s to decode. Give smaller ones.") from None
    except OSError as error:
        raise AnyTalkerError(f"Uploads can't be decoded: {error.strerror}.") from error
    said: Any = None
    with suppress(ValueError):
        said = json.loads(done.stdout.strip().rpartition("\n")[2])
    if done.returncode or not isinstance(said, dict):
        raise InputError("The files take too much time or memory to decode, or are damaged. Give smaller ones.")
    if said["full"]:
        raise AnyTalkerError(f"The disk is full: {folder} can't be written. Free some space.")
    if said["refused"] is not None:
        raise InputError(str(said["refused"]))


_NEEDED = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "VIRTUAL_ENV")


def main() -> None:
    """Do the task on standard input, and say on standard output why it was refused."""
    task = json.loads(sys.stdin.read())
    bounds = DecodingBounds(**task["bounds"])
    _bound(bounds)
    refused, full = None, False
    try:
        _decode_all(task, bounds)
    except InputError as error:
        refused = str(error)
    except MemoryError:
        refused = "The files take too much memory to decode. Give smaller ones."
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        full = True
    print("\n" + json.dumps({"refused": refused, "full": full}))


def _bound(bounds: DecodingBounds) -> None:
    """Bound this process, where the system can."""
    with suppress(ImportError):
        import resource

        largest = round(bounds.audio_seconds * 32000) + 4 * bounds.pixels + 2**20
        for name, value in (
            (resource.RLIMIT_AS, bounds.memory),
            (resource.RLIMIT_CPU, bounds.seconds),
            (resource.RLIMIT_FSIZE, largest),
            (resource.RLIMIT_CORE, 0),
        ):
            with suppress(ValueError, OSError):  # some systems know a limit but can't set it
                resource.setrlimit(name, (value, value))


def _decode_all(task: dict[str, Any], bounds: DecodingBounds) -> None:
    _said_as(task["image"], "The picture", partial(_decode_picture, at=task["at"], bounds=bounds))
    for number, voice in enumerate(task["voices"], start=1):
        _said_as(voice, f"Recording {number}", partial(_decode_voice, number=number, bounds=bounds))


def _decode_picture(path: Path, at: float | None, bounds: DecodingBounds) -> None:
    from PIL import Image

    from anytalker.media.pictures import load_image

    width = height = 0
    with suppress(Exception), Image.open(path) as known:  # of a video, or what can't be read, nothing is known yet
        width, height = known.size
    _check_pixels(path, width, height, bounds)
    picture = load_image(path, at)
    _check_pixels(path, *picture.size, bounds)
    picture.convert("RGB").save(PICTURE, compress_level=1)


def _check_pixels(path: Path, width: int, height: int, bounds: DecodingBounds) -> None:
    if width * height > bounds.pixels:
        raise InputError(
            f"{path} is {width}×{height} pixels; at most {bounds.pixels / 10**6:g} million are taken. Make it smaller."
        )


def _decode_voice(path: Path, number: int, bounds: DecodingBounds) -> None:
    import av

    from anytalker.conventions import SAMPLE_RATE
    from anytalker.media.containers import open_media
    from anytalker.media.recordings import load_audio, write_wave

    with suppress(av.FFmpegError, OSError), open_media(path) as container:
        if (container.duration or 0) / 1e6 > bounds.audio_seconds + 1:
            raise InputError(f"{path} is longer than {bounds.audio_seconds:g} s. Cut it.")
    samples = load_audio(path)
    if len(samples) > bounds.audio_seconds * SAMPLE_RATE:
        raise InputError(f"{path} is longer than {bounds.audio_seconds:g} s. Cut it.")
    write_wave(voice_name(number), samples)


def _said_as(path: str, called: str, work: Callable[[Path], None]) -> None:
    """Do work on a file, which is called something else in messages than its path."""
    try:
        work(Path(path))
    except InputError as error:
        if str(error).startswith("There is no "):  # a path of the caller's own, and the only thing that helps
            raise
        words = str(error).replace(path, called)
        for article in ("The picture ", "The audio file "):
            words = words.replace(f"{article}{called}", called)
        raise InputError(words) from None


if __name__ == "__main__":
    main()
