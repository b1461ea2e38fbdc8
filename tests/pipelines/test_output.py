"""Videos that are written are decoded again."""

from __future__ import annotations

import av
import numpy as np
import pytest

from anytalker import InputError, __version__
from anytalker.conditioning.audio import load_audio
from anytalker.pipelines.output import PersonRecord, RunRecord, Stopwatch, read_video, write_video


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
