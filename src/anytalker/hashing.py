"""Sixteen hexadecimal digits that are the same if and only if what they stand for is the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

_DIGITS = 16
_AT_ONCE = 2**20


class ShortDigest:
    """Sixteen hexadecimal digits, the first of SHA-256, for parts that come one by one; `str` gives them."""

    def __init__(self, parts: Iterable[str | bytes | memoryview] = ()) -> None:
        self._digest = hashlib.sha256()
        for part in parts:
            self.add(part)

    def add(self, part: str | bytes | memoryview) -> None:
        """Count a part in; where one ends and the next begins doesn't count."""
        self._digest.update(part.encode() if isinstance(part, str) else part)

    def __str__(self) -> str:
        return self._digest.hexdigest()[:_DIGITS]


def short_digest(*parts: str | bytes) -> str:
    """Sixteen hexadecimal digits for what is at hand as a whole."""
    return str(ShortDigest(parts))


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's content, all 64 hexadecimal digits.

    Raises:
        OSError: if it can't be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_AT_ONCE):
            digest.update(piece)
    return digest.hexdigest()
