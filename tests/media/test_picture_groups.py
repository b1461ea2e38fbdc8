"""Groups of pictures that a later video copies from an earlier one."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from anytalker.errors import InputError
from anytalker.media.picture_groups import GROUP, EarlierPictures, KeptFrames
from anytalker.media.video import encoder_options, exact_rate, read_video, write_video

COUNT = 4 * GROUP + 1
"""Frames, so that the last group has one."""


def frames(seed: int) -> np.ndarray:
    """A patch of noise that moves over a grey wall."""
    rng = np.random.default_rng(seed)
    pixels = np.full((COUNT, 32, 64, 3), 90, np.uint8)
    for number in range(COUNT):
        place = number % 40
        pixels[number, 8:24, place : place + 16] = rng.integers(0, 255, 3)
    return pixels


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    return (0.3 * np.sin(np.arange(16000 * 12) / 20)).astype(np.float32)


@pytest.mark.parametrize("fps", [24, 23.976, 12])
def test_copied_groups_stay_as_they_are_between_new_ones(tmp_path: Path, sound, fps: float) -> None:
    write_video(tmp_path / "a.mp4", frames(0), fps, sound, groups=True)
    earlier, other = EarlierPictures(tmp_path / "a.mp4"), frames(1)
    plan = [KeptFrames(0, 32), other[32:64], KeptFrames(64, 128), other[128:]]
    write_video(tmp_path / "b.mp4", plan, fps, sound, groups=True, earlier=earlier)
    before, after = read_video(tmp_path / "a.mp4")[0], read_video(tmp_path / "b.mp4")[0]
    same = (before == after).all(axis=(1, 2, 3))
    assert same.tolist() == [True] * 32 + [False] * 32 + [True] * 64 + [False]
    error = np.abs(after.astype(int) - other).mean(axis=(1, 2, 3))
    assert error[32:64].max() < 12 < np.abs(before.astype(int) - other).mean(axis=(1, 2, 3))[32:64].mean()
    assert moments(tmp_path / "b.mp4") == moments(tmp_path / "a.mp4")
    write_video(tmp_path / "c.mp4", [KeptFrames(0, COUNT)], fps, sound, groups=True, earlier=earlier)
    assert (tmp_path / "c.mp4").read_bytes() == (tmp_path / "a.mp4").read_bytes()


def moments(path: Path) -> list[tuple[int, int]]:
    """When each frame is decoded, and the length of the whole."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
        assert sorted(packet.pts for packet in packets) == [packets[0].duration * n for n in range(COUNT)]
        return [*((packet.dts, packet.duration) for packet in packets), (stream.duration, stream.frames)]


def test_groups_of_other_settings_do_not_fit(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", frames(0)[:3], 24, groups=True)
    earlier = EarlierPictures(tmp_path / "a.mp4")
    assert earlier.fits(exact_rate(24), encoder_options(groups=True))
    assert not earlier.fits(exact_rate(25), encoder_options(groups=True))
    assert not earlier.fits(exact_rate(24), encoder_options(preset="superfast", groups=True))


def test_a_video_that_lost_frames_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", frames(0)[:40], 24, groups=True)
    with pytest.raises(InputError, match="not whole"):
        write_video(
            tmp_path / "b.mp4", [KeptFrames(0, 64)], 24, groups=True, earlier=EarlierPictures(tmp_path / "a.mp4")
        )
    (tmp_path / "c.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match=r"c\.mp4 can't be read"):
        EarlierPictures(tmp_path / "c.mp4")
    assert not (tmp_path / "b.mp4").exists()
