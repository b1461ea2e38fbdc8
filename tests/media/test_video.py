"""Videos that are written are decoded again."""

from __future__ import annotations

from fractions import Fraction
from itertools import groupby

import av
import numpy as np
import pytest

from anytalker import InputError, __version__
from anytalker.media.recordings import load_audio
from anytalker.media.video import PersonRecord, RunRecord, Stopwatch, read_video, write_video


def moving_square(frames: int, height: int = 64, width: int = 96) -> np.ndarray:
    video = np.zeros((frames, height, width, 3), dtype=np.float32)
    for frame in range(frames):
        video[frame, 20:40, frame : frame + 20] = (1.0, 0.5, 0.1)
    return video


@pytest.mark.parametrize(("fps", "frames"), [(24, 33), (25, 21), (16, 13), (23.976, 25)])
def test_frames_sound_and_length_survive(tmp_path, tone, fps: float, frames: int) -> None:
    video = moving_square(frames)
    write_video(tmp_path / "a.mp4", video, fps, np.concatenate([tone, tone]), 16000)
    decoded, rate = read_video(tmp_path / "a.mp4")
    assert decoded.shape == video.shape
    assert abs(rate - fps) < 0.01
    assert np.abs(decoded / 255 - video).mean() < 0.03
    with av.open(str(tmp_path / "a.mp4")) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        assert (picture.codec_context.name, sound.codec_context.name) == ("h264", "aac")
        lengths = [float(stream.duration * stream.time_base) for stream in (picture, sound)]
        assert abs(lengths[0] - frames / fps) < 1 / fps
        assert abs(lengths[0] - lengths[1]) <= 1 / fps
        assert "Synthetic" in container.metadata["comment"]
    heard = load_audio(tmp_path / "a.mp4")[2000:6000]
    expected = np.concatenate([tone, tone])[2000:6000]
    lags = np.correlate(heard, expected, "full")
    assert lags.max() > 0.9 * np.sqrt((heard**2).sum() * (expected**2).sum())


def test_short_sound_is_followed_by_silence(tmp_path, tone) -> None:
    write_video(tmp_path / "a.mp4", moving_square(49), 24, tone[:8000], 16000)
    heard = load_audio(tmp_path / "a.mp4")
    assert len(heard) / 16000 == pytest.approx(49 / 24, abs=1 / 24)
    assert np.abs(heard[12000:]).max() < 0.01


def test_frames_may_come_one_by_one_and_in_eight_bits(tmp_path) -> None:
    frames = (np.full((32, 32, 3), value, np.uint8) for value in (0, 120, 240))
    write_video(tmp_path / "a.mp4", frames, 24)
    decoded, _ = read_video(tmp_path / "a.mp4")
    np.testing.assert_allclose(decoded.mean(axis=(1, 2, 3)), [0, 120, 240], atol=4)


def test_interruption_leaves_no_file(tmp_path) -> None:
    def frames():
        yield np.zeros((32, 32, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a.mp4", frames(), 24)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("frames", "fps", "reason"),
    [
        (np.zeros((2, 32, 32, 3)), 0, "fps is 0"),
        (np.zeros((2, 32, 32, 3)), float("nan"), "fps is nan"),
        (np.zeros((2, 31, 32, 3)), 24, "32×31"),
        (np.full((2, 32, 32, 3), np.nan), 24, "not numbers"),
        (np.zeros((2, 32, 32)), 24, "shape"),
        (np.zeros((0, 32, 32, 3)), 24, "no frames"),
    ],
)
def test_what_can_not_be_encoded_is_refused(tmp_path, frames, fps, reason) -> None:
    with pytest.raises(InputError, match=reason):
        write_video(tmp_path / "a.mp4", frames, fps)
    assert list(tmp_path.iterdir()) == []


def test_bad_videos_are_named(tmp_path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    for name in ("text.mp4", "missing.mp4"):
        with pytest.raises(InputError, match=name):
            read_video(tmp_path / name)


def test_the_record_knows_the_version_and_that_it_is_synthetic() -> None:
    person = PersonRecord(box_xywh=[1, 2, 3, 4], audio=None, speaking=[])
    record = RunRecord(
        model="tiny", seed=1, settings={}, width=8, height=8, fps=24, frames=5, persons=[person], seconds={}
    )
    assert record.version == __version__
    assert record.model_dump()["synthetic"] is True


def test_the_stopwatch_adds_up_stages() -> None:
    watch = Stopwatch()
    for _ in range(2):
        with watch.stage("a"):
            pass
    with watch.stage("b"):
        pass
    assert set(watch.seconds) == {"a", "b"}
    assert min(watch.seconds.values()) >= 0


def grey(frames: int, height: int = 32, width: int = 48) -> np.ndarray:
    return np.full((frames, height, width, 3), 128, np.uint8)


def test_pictures_and_sound_lie_side_by_side(tmp_path, tone) -> None:
    write_video(tmp_path / "a.mp4", (frame for frame in grey(301)), 24, np.tile(tone, 12))
    with av.open(str(tmp_path / "a.mp4")) as container:
        packets = sorted(
            (packet.pos, packet.stream.type, float(packet.pts * packet.time_base))
            for packet in container.demux()
            if packet.pts is not None
        )
    reached = {"video": 0.0, "audio": 0.0}
    gaps = []
    for kind, group in groupby(packets, key=lambda packet: packet[1]):
        reached[kind] = max(time for _, _, time in group)
        gaps.append(abs(reached["video"] - reached["audio"]))
    assert max(gaps) < 3  # the encoder looks 40 frames ahead


def test_the_file_starts_with_its_index(tmp_path) -> None:
    write_video(tmp_path / "a.mp4", grey(5), 24)
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_chunks_are_written_one_after_another(tmp_path) -> None:
    chunks = (np.full((3, 32, 48, 3), value, np.float32) for value in (0.2, 0.8))
    write_video(tmp_path / "a.mp4", chunks, 24)
    decoded, _ = read_video(tmp_path / "a.mp4")
    np.testing.assert_allclose(decoded.mean(axis=(1, 2, 3)) / 255, [0.2] * 3 + [0.8] * 3, atol=0.02)


@pytest.mark.parametrize("fps", [Fraction(30000, 1001), np.float32(25), 12])
def test_frame_rates_stay_exact(tmp_path, fps) -> None:
    write_video(tmp_path / "a.mp4", grey(5), fps)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].average_rate == Fraction(fps if isinstance(fps, Fraction) else float(fps))


def test_two_channels_keep_their_sides(tmp_path, tone) -> None:
    sound = np.stack([tone, np.zeros_like(tone)], axis=1)
    write_video(tmp_path / "a.mp4", grey(24), 24, sound)
    with av.open(str(tmp_path / "a.mp4")) as container:
        decoded = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    assert decoded.shape[0] == 2
    assert np.abs(decoded[0]).max() > 0.2
    assert np.abs(decoded[1]).max() < 0.01


@pytest.mark.parametrize("sample_rate", [16000, 22050, 44100, 48000])
def test_any_sample_rate_gives_sound_as_long_as_the_pictures(tmp_path, sample_rate) -> None:
    sound = np.sin(np.arange(3 * sample_rate) * 2 * np.pi * 220 / sample_rate).astype(np.float32) / 2
    write_video(tmp_path / "a.mp4", grey(49), 24, sound, sample_rate)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.audio[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(49 / 24, abs=1 / 24)
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(stream)])
    middle = heard[12000:60000] * np.hanning(48000)  # one second: bins of 1 Hz
    assert abs(np.abs(np.fft.rfft(middle)).argmax() - 220) <= 1


def test_colours_are_labelled_as_they_are_stored(tmp_path) -> None:
    red = np.zeros((3, 32, 48, 3), np.uint8)
    red[..., 0] = 200
    write_video(tmp_path / "a.mp4", red, 24)
    decoded, _ = read_video(tmp_path / "a.mp4")
    np.testing.assert_allclose(decoded[1].mean(axis=(0, 1)), [200, 0, 0], atol=6)
    with av.open(str(tmp_path / "a.mp4")) as container:
        codec = container.streams.video[0].codec_context
        next(container.decode(video=0))
        assert codec.colorspace in (5, 6)  # the two numbers of ITU-R BT.601
        assert codec.color_range == 1


def test_tags_are_kept_and_the_synthetic_note_stays(tmp_path) -> None:
    write_video(tmp_path / "a.mp4", grey(3), 24, metadata={"title": "Two people", "comment": "all real"})
    with av.open(str(tmp_path / "a.mp4")) as container:
        tags = container.metadata
    assert tags["title"] == "Two people"
    for name in ("comment", "description"):
        assert tags[name].startswith(f"Synthetic video: generated by AnyTalker {__version__}")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fps": 1e-5}, "fps is 1e-05"),
        ({"fps": 1e300}, "from 0.1 to 1000"),
        ({"fps": "fast"}, "fps is fast"),
        ({"frames": grey(3).astype(np.int64)}, "int64"),
        ({"frames": [grey(1)[0], grey(1, 64, 64)[0]]}, "Frame 1 is 64×64"),
        ({"audio": np.full(8000, np.nan, np.float32)}, "not numbers"),
        ({"audio": np.zeros(8000, np.int16)}, "int16"),
        ({"audio": np.zeros((2, 8000), np.float32)}, "shape"),
        ({"audio": np.zeros(8000, np.float32), "sample_rate": 0}, "sample rate is 0"),
    ],
)
def test_what_would_come_out_wrong_is_refused(tmp_path, changes, reason) -> None:
    with pytest.raises(InputError, match=reason):
        write_video(**{"path": tmp_path / "a.mp4", "frames": grey(3), "fps": 24} | changes)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_and_keeps_the_older_file(tmp_path) -> None:
    resource = pytest.importorskip("resource")
    (tmp_path / "a.mp4").write_text("older")
    noise = np.random.default_rng(0).integers(0, 255, (120, 48, 64, 3), np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(InputError, match=r"a\.mp4 can't be written"):
            write_video(tmp_path / "a.mp4", noise, 24)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_text() == "older"


def test_folders_may_be_called_like_addresses(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "http:").mkdir()
    write_video("http:/talk.mp4", np.zeros((2, 32, 32, 3), np.uint8), 25)
    assert len(read_video("http:/talk.mp4")[0]) == 2
