"""The mark of synthetic media: in every video that was made, in none that was cut, and in nobody's way."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

from anytalker.media.marks import SOURCE_TYPE, add_settings, add_synthetic_mark, read_settings, read_xmp
from anytalker.media.video import read_video, write_video

TERM = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"


def test_a_video_names_its_source_as_iptc_does(tmp_path) -> None:
    frames = np.zeros((5, 32, 32, 3), np.uint8)
    path = tmp_path / "talk.mp4"
    write_video(path, frames, 10)
    packet = read_xmp(path)
    root = ElementTree.fromstring(packet[packet.index("<x:xmpmeta") : packet.index("<?xpacket end")])
    assert [one.get(TERM) for one in root.iter() if one.get(TERM)] == [SOURCE_TYPE]
    assert len(read_video(path)[0]) == 5


def test_footage_has_no_mark(tmp_path) -> None:
    write_video(tmp_path / "cut.mp4", np.zeros((5, 32, 32, 3), np.uint8), 10, synthetic=False)
    assert read_xmp(tmp_path / "cut.mp4") is None


def test_what_is_no_mp4_has_no_xmp(tmp_path) -> None:
    path = tmp_path / "noise"
    for data in (b"", b"abc", bytes(100), b"\x00\x00\x00\x01mdat" + bytes(3), b"\xff" * 64):
        path.write_bytes(data)
        assert read_xmp(path) is None
        assert read_settings(path) is None


def test_settings_are_kept_inside_of_a_video(tmp_path) -> None:
    path = tmp_path / "talk.mp4"
    write_video(path, np.zeros((5, 32, 32, 3), np.uint8), 10, settings='{"prompt": "Zoë"}')
    assert read_settings(path) == '{"prompt": "Zoë"}'
    assert SOURCE_TYPE in read_xmp(path)
    assert len(read_video(path)[0]) == 5
    before = path.read_bytes()
    add_settings(path, "x" * 2**21)
    assert path.read_bytes() == before, "too large"


def test_a_mark_moves_nothing_before_it(tmp_path) -> None:
    path = tmp_path / "any.mp4"
    path.write_bytes(b"\x00\x00\x00\x0cfreeabcd")
    add_synthetic_mark(path)
    assert path.read_bytes().startswith(b"\x00\x00\x00\x0cfreeabcd")
    assert SOURCE_TYPE in read_xmp(path)
