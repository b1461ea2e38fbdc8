"""Takes: a file a turn in a folder, named by the turn's number and its speaker, 001_anna.wav; recorded, or kept."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import numpy as np

from anytalker.errors import InputError
from anytalker.hashing import ShortDigest
from anytalker.media.recordings import load_audio, write_wave
from anytalker.speech.engine import Request, Speaker, SpeechEngine

_LONGEST = 200
"""Bytes of a name in a file's name, of which disks allow 255."""
_NAME = re.compile(r"0*(\d+)[\s_-]+(.+?)(?:_[0-9a-f]{8})?")


class Takes:
    """Takes by number and name; what nobody recorded is spoken.

    Args:
        folder: where "001_anna.wav" and its like are, in any format.
        engine: speaks the turns without a take; None: there must be one for each.

    Raises:
        InputError: if the folder isn't there, or has no such files, or two of the same number.
    """

    def __init__(self, folder: str | Path, engine: SpeechEngine | None = None) -> None:
        self.folder, self._engine = Path(folder), engine
        if not self.folder.is_dir():
            raise InputError(f"There is no folder {folder} of takes. Check the path.")
        self.files: dict[int, tuple[str, Path]] = {}
        for path in sorted(self.folder.iterdir()):
            found = _NAME.fullmatch(path.stem)
            if found and path.is_file():
                number = int(found[1])
                if number in self.files:
                    raise InputError(f"{path} and {self.files[number][1]} are both takes of turn {number}. Keep one.")
                self.files[number] = (found[2], path)
        if not self.files:
            raise InputError(f"{folder} has no takes; name them by turn and speaker, such as 001_anna.wav.")

    def path(self, request: Request) -> Path | None:
        """The take of a turn, or what was kept of it.

        Raises:
            InputError: if it is somebody else's.
        """
        if request.number not in self.files:
            return self._engine.path(request) if self._engine is not None else None
        name, path = self.files[request.number]
        if take_name(name) != take_name(request.speaker):
            raise InputError(f"{path} is no take of {request.speaker}, who has turn {request.number}. Rename it.")
        return path

    def say(self, request: Request) -> np.ndarray:
        """See `Speaker.say`."""
        if request.number in self.files:
            return load_audio(str(self.path(request)))
        if self._engine is None:
            raise InputError(
                f"{self.folder} has no take of turn {request.number} ({request.speaker}: {request.text[:40]!r}); "
                f"record {request.number:03}_{take_name(request.speaker)}.wav."
            )
        return self._engine.say(request)


class Kept:
    """An engine whose speech is kept, as "001_anna_1a2b3c4d.wav": what was said once is not asked for again.

    Args:
        engine: that speaks.
        folder: where the files go; it is made when there is the first.
    """

    def __init__(self, engine: Speaker, folder: str | Path) -> None:
        self._engine, self.folder = engine, Path(folder)

    def path(self, request: Request) -> Path:
        """Where a turn's speech is kept."""
        digest = str(ShortDigest([repr(request), repr(getattr(self._engine, "url", ""))]))[:8]
        name = take_name(request.speaker).encode()[:_LONGEST].decode(errors="ignore")
        return self.folder / f"{request.number or 0:03}_{name}_{digest}.wav"

    def say(self, request: Request) -> np.ndarray:
        """See `Speaker.say`."""
        path = self.path(request)
        if not path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_wave(path, self._engine.say(request))
        return load_audio(path)


def take_name(name: str) -> str:
    """A name as files have it, with composed letters: "Anna Lee" is "anna_lee"."""
    return re.sub(r"[\s_-]+", "_", unicodedata.normalize("NFC", name.strip().casefold()))
