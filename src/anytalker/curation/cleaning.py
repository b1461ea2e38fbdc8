"""Voices without the music and noise behind them, of a whole file of footage."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from anytalker.conditioning.separation import VocalSeparator
from anytalker.curation.footage import Footage, StoredSound
from anytalker.errors import InputError
from anytalker.loading.separator import KNOWN, separator_path
from anytalker.media.sound import Sound

_AT_ONCE = 2**20


def find_separator(name: str) -> Path:
    """The file of a separator.

    Args:
        name: of one that is downloaded, or its path.

    Raises:
        InputError: if there is no such file.
        ModuleNotFoundError: if onnxruntime, of the extra `separate`, is not installed.
    """
    path = separator_path(name) if name in KNOWN else Path(name)
    if not path.is_file():
        raise InputError(f"There is no separator {path} (sound.separator). Get it with:  anytalker download separator")
    if find_spec("onnxruntime") is None:
        raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")
    return path


def write_voices(path: Path, footage: Footage, name: str) -> StoredSound:
    """Write a file's sound, voices alone, in memory that doesn't grow with its length.

    Args:
        path: where it goes.
        footage: the file.
        name: of the separator.

    Raises:
        InputError: as `find_separator` does.
    """
    voices = _separator(find_separator(name))(Sound.joined(footage.sound()))
    return StoredSound.write(path, (voices[start : start + _AT_ONCE] for start in range(0, len(voices), _AT_ONCE)))


@lru_cache(maxsize=1)
def _separator(path: Path) -> VocalSeparator:
    return VocalSeparator(path)
