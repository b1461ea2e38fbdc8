"""What an MP4 says of itself to programs: that it is synthetic (IPTC's digital source type, in XMP), and its settings.

An MP4 is a list of boxes. XMP is one of them, of the kind "uuid" (XMP specification part 3, 2.1.3), and may stand at
the end, so that nothing before it moves. The settings, as JSON, are another box of that kind.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from xml.sax.saxutils import quoteattr

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's term for what a model has made (iptc.org, NewsCodes, digitalsourcetype)."""
_XMP = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")
_SETTINGS = bytes.fromhex("7D41C9B2F06A4E5B9A31D84C65E20F17")
"""A random number that is ours."""
_MOST = 2**20
"""Bytes of a box that is read or written."""
_BOXES = 1000
"""Boxes that are looked at, at most."""


def add_synthetic_mark(path: str | Path) -> None:
    """Add XMP to an MP4 that says that a model has made it, with the program's name.

    Raises:
        OSError: if the file can't be written.
    """
    from anytalker import __version__

    packet = (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        f"xmp:CreatorTool={quoteattr(f'AnyTalker {__version__}')} "
        f"Iptc4xmpExt:DigitalSourceType={quoteattr(SOURCE_TYPE)}/>"
        '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()
    with open(path, "ab") as file:
        file.write(struct.pack(">I", 24 + len(packet)) + b"uuid" + _XMP + packet)


def add_settings(path: str | Path, settings: str) -> None:
    """Add to an MP4 how it was made, as JSON; left out if it is larger than a MiB.

    Raises:
        OSError: if the file can't be written.
    """
    content = settings.encode()
    if len(content) + 16 <= _MOST:
        with open(path, "ab") as file:
            file.write(struct.pack(">I", 24 + len(content)) + b"uuid" + _SETTINGS + content)


def read_xmp(path: str | Path) -> str | None:
    """The XMP of an MP4; None if it has none.

    Raises:
        OSError: if the file can't be read.
    """
    return _read(path, _XMP)


def read_settings(path: str | Path) -> str | None:
    """What `add_settings` has put into an MP4, whoever did; None if there is nothing.

    Raises:
        OSError: if the file can't be read.
    """
    return _read(path, _SETTINGS)


def _read(path: str | Path, number: bytes) -> str | None:
    with open(path, "rb") as file:
        for kind, length in itertools.islice(_boxes(file), _BOXES):
            if kind == b"uuid" and 16 <= length <= _MOST and file.read(16) == number:
                return file.read(length - 16).decode("utf-8", "replace")
    return None


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Kind and length of the content of each box, with the file at its beginning."""
    position = 0
    while True:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            return
        size, kind = struct.unpack(">I4s", head)
        used = 8
        if size == 1:
            size, used = int.from_bytes(file.read(8), "big"), 16
        if size < used:  # the rest of the file, or nonsense
            return
        yield kind, size - used
        position += size
