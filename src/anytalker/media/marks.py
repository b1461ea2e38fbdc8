"""The mark of synthetic media in an MP4, as programs read it: IPTC's digital source type, in XMP.

An MP4 is a list of boxes. XMP is one of them, of the kind "uuid" (XMP specification part 3, 2.1.3), and may stand at
the end, so that nothing before it moves.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from xml.sax.saxutils import quoteattr

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's term for what a model has made (iptc.org, NewsCodes, digitalsourcetype)."""
_XMP = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")
_MOST = 2**20


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


def read_xmp(path: str | Path) -> str | None:
    """The XMP of an MP4; None if it has none.

    Raises:
        OSError: if the file can't be read.
    """
    with open(path, "rb") as file:
        for kind, length in _boxes(file):
            if kind == b"uuid" and 16 <= length <= _MOST and file.read(16) == _XMP:
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
