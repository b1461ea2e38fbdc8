"""Footage of all kinds beside each other: each file that can't be used is named, and none stops the others."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from anytalker.curation.config import CurationConfig
from anytalker.curation.footage import Footage
from anytalker.curation.run import curate, find_footage
from anytalker.media.color import HLG, PQ
from anytalker.media.video import write_video
from tests.curation.films import drawn
from tests.curation.test_footage import write_footage
from tests.test_cli import run

SHORT = [number / 25 for number in range(20)]
NAMED = {
    "empty.mp4": "empty.mp4",
    "notes.mp4": "damaged or no video",
    "no-index.mp4": "damaged or no video",
    "half.mp4": "is cut off",
    "only-sound.mp4": "holds no video",
    "playlist.mkv": "damaged or no video",
}
"""Files that can't be used, or not to their end, and what is said of each."""
USED = ("uneven.mkv", "really-mkv.avi", "turned.mp4", "bright.mp4", "silent.mp4", "nobody.mp4")


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def turn(path: Path) -> None:
    """Say in an MP4 that its pictures are to be turned by a quarter, as phones do."""
    data = path.read_bytes()
    place = data.index(b"tkhd") + 44
    matrix = np.array([0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(data[:place] + matrix + data[place + 36 :])


def write_bright(path: Path, transfer: int, level: float) -> None:
    """A second of grey in 10 bits of high dynamic range, its signal at `level` from 0 to 1."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = transfer, 9, 9, 1
        for number in range(20):
            grey = np.full((48, 64, 3), round(65535 * level), np.uint16)
            frame = av.VideoFrame.from_ndarray(grey, "rgb48le").reformat(format="yuv420p10le", dst_colorspace=9)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def footage(tmp_path_factory) -> Path:
    """One file of each kind, all tiny."""
    folder = tmp_path_factory.mktemp("footage")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "notes.mp4").write_text("not a video " * 40)
    (folder / "playlist.mkv").write_text("#EXTM3U\n#EXTINF:1,\nsilent.mp4\n")
    whole = write_footage(folder / "no-index.mp4", SHORT, still=True).read_bytes()
    (folder / "no-index.mp4").write_bytes(whole[: whole.index(b"moov") - 4])
    times = [number / 25 for number in range(75)]
    whole = write_footage(folder / "half.mp4", times, still=True, g="1", movflags="faststart").read_bytes()
    (folder / "half.mp4").write_bytes(whole[: len(whole) // 2])
    write_sound(folder / "only-sound.mp4")
    write_footage(folder / "uneven.mkv", [0.0, 0.04, 0.2, 0.24, 0.5], still=True)
    write_footage(folder / "other.mkv", SHORT, sound_from=0.0, still=True).rename(folder / "really-mkv.avi")
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32] = 200
    write_video(folder / "turned.mp4", iter([picture] * 20), 25.0, synthetic=False)
    turn(folder / "turned.mp4")
    write_bright(folder / "bright.mp4", PQ, 0.5)
    write_video(folder / "silent.mp4", iter(drawn(0, 55, height=216)), 25.0, synthetic=False)
    wall = np.random.default_rng(0).integers(60, 200, (12, 16, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    write_video(folder / "nobody.mp4", iter([wall] * 55), 25.0, synthetic=False)
    return folder


@pytest.fixture(scope="module")
def made(footage, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dataset") / "dataset"
    curate(find_footage([footage]), folder, CurationConfig())
    return folder


def test_each_file_that_can_t_be_used_is_named_and_counted(made, footage, capsys) -> None:
    assert run("curate", footage, made, "--workers", "0") == 0
    out, err = capsys.readouterr()
    for name, reason in NAMED.items():
        assert any(name in line and reason in line for line in err.splitlines()), f"{name}: {err}"
    assert not any(name in err for name in USED)
    assert f"{len(NAMED)} files, or parts of them, could not be used." in err
    assert "Kept 0 clips" in out


def test_strict_makes_that_a_failure(made, footage) -> None:
    assert run("curate", footage, made, "--workers", "0", "--strict") == 1


def test_every_file_that_can_be_used_is_looked_at(made) -> None:
    dropped = [json.loads(line) for line in (made / "dropped.jsonl").read_text().splitlines()]
    reasons = {Path(one["source"]["path"]).name: one["reason"] for one in dropped}
    assert {reasons[name] for name in USED[:4]} == {"shorter than 2 s"}
    assert (reasons["silent.mp4"], reasons["nobody.mp4"]) == ("nobody speaks", "no face is seen")
    cuts = [json.loads(line)["path"] for line in (made / "cuts.jsonl").read_text().splitlines()]
    assert len(cuts) == len(NAMED) + len(USED)


def test_pictures_are_turned_upright(footage) -> None:
    frames = list(Footage(footage / "turned.mp4").frames())
    assert frames[0].shape == (64, 48, 3)
    assert frames[0][:30].mean() > 180
    assert frames[0][34:].mean() < 20
    assert Footage(footage / "turned.mp4").probe() == (48, 64)


@pytest.mark.parametrize(("transfer", "level", "grey"), [(PQ, 0.411, 118), (HLG, 0.43, None)])
def test_high_dynamic_range_becomes_that_of_a_screen(tmp_path, transfer, level, grey) -> None:
    write_bright(tmp_path / "bright.mp4", transfer, level)
    (shade, *_) = (frame.mean() for frame in Footage(tmp_path / "bright.mp4").frames())
    if grey is None:
        assert 60 < shade < 180
        assert abs(shade - 255 * level) > 5  # the signal itself would be shown wrong
    else:
        assert shade == pytest.approx(grey, abs=6)
