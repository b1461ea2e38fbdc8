"""Footage as a stream: an even clock, upright, any stretch of it, and its sound in time with the pictures."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from anytalker.curation.export import export_clip
from anytalker.curation.footage import FPS, DamagedFootage, Footage, StoredSound, _mono
from anytalker.curation.piece import Face, Pictures, Piece
from anytalker.errors import InputError
from anytalker.media.recordings import load_audio
from anytalker.media.video import read_video


def write_footage(
    path: Path,
    times: list[float],
    fps: int = 25,
    sound_from: float | None = None,
    seconds: float = 1.0,
    still: bool = False,
    aspect: Fraction | None = None,
    **options: str,
) -> Path:
    """A video whose frames show their number as brightness, or the same noise, at given times, perhaps with a click."""
    codec = options.pop("codec", "libx264")
    container_options = {"movflags": options.pop("movflags")} if "movflags" in options else {}
    with av.open(str(path), "w", options=container_options) as container:
        video = container.add_stream(codec, rate=fps, options={"crf": "5", "g": "10", **options})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        if codec == "libx264":
            video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("pcm_s16le", rate=16000, layout="mono") if sound_from is not None else None
        noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
        for number, time in enumerate(times):
            picture = noise if still else np.full((48, 64, 3), brightness(number), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            samples = np.zeros(int(seconds * 16000), np.int16)
            samples[:160] = 20000
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = 16000, Fraction(1, 16000), round(sound_from * 16000)
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return path


def brightness(number: int) -> int:
    return 20 + 5 * number % 220


def shown(frames) -> list[int]:
    return [round((float(frame.mean()) - 20) / 5) for frame in frames]


def test_any_stretch_is_what_the_whole_has_there(tmp_path) -> None:
    footage = Footage(write_footage(tmp_path / "even.mkv", [n / 25 for n in range(40)]))
    whole = shown(footage.frames())
    assert whole == list(range(40))
    for start, end in ((0, 5), (3, 17), (25, 40), (39, 40), (12, None)):
        assert shown(footage.frames(start, end)) == whole[start:end]
    assert shown(Footage(footage.path, limit=7).frames(2)) == whole[2:7]


@pytest.mark.parametrize("ending", ["ts", "mpg"])
def test_streams_that_are_searched_by_bytes_give_the_same_stretches(tmp_path, ending) -> None:
    codec = {"codec": "mpeg2video", "bf": "2", "b": "4M"} if ending == "mpg" else {"codec": "libx264"}
    footage = Footage(write_footage(tmp_path / f"long.{ending}", [n / 25 for n in range(120)], g="60", **codec))
    whole = list(footage.frames())
    assert len(whole) == 120
    for start, end in ((20, 25), (59, 63), (100, 120)):
        stretch = list(footage.frames(start, end))
        assert np.array_equal(stretch, whole[start:end])
    assert list(footage.frames(1000, 1010)) == []


def test_a_variable_rate_becomes_even(tmp_path) -> None:
    footage = Footage(write_footage(tmp_path / "vfr.mkv", [0.0, 0.04, 0.2, 0.24]))
    assert shown(footage.frames()) == [0, 1, 1, 1, 1, 2, 3]
    assert shown(footage.frames(3, 6)) == [1, 1, 2]


def test_a_still_of_minutes_stays_and_a_jump_of_the_clock_is_damage(tmp_path) -> None:
    still = Footage(write_footage(tmp_path / "still.mkv", [0.0, 0.04, 100.0, 100.04]))
    numbers = shown(still.frames())
    assert [numbers.count(number) for number in range(4)] == [1, 2499, 1, 1]
    jump = Footage(write_footage(tmp_path / "jump.mkv", [0.0, 0.04, 40000.0, 40000.04]))
    numbers = []
    with pytest.raises(DamagedFootage, match="time stamps jump by 40000 s"):
        for frame in jump.frames():
            numbers += shown([frame])
    assert numbers == [0, 1]


def test_other_rates_keep_their_length(tmp_path) -> None:
    faster = Footage(write_footage(tmp_path / "fast.mkv", [n / 50 for n in range(44)], fps=50))
    assert len(shown(faster.frames())) == 22
    slower = Footage(write_footage(tmp_path / "slow.mkv", [n / 10 for n in range(10)], fps=10))
    assert len(shown(slower.frames())) == FPS


def test_pictures_are_scaled_down_but_not_up(tmp_path) -> None:
    footage = Footage(write_footage(tmp_path / "even.mkv", [0.0, 0.04]))
    assert next(footage.frames(height=24)).shape == (24, 32, 3)
    assert next(footage.frames(height=480)).shape == (48, 64, 3)
    assert footage.probe() == (64, 48)


@pytest.mark.parametrize("late", [0.0, 0.25])
def test_sound_keeps_its_time(tmp_path, late) -> None:
    footage = Footage(write_footage(tmp_path / "late.mkv", [n / 25 for n in range(25)], sound_from=late))
    sound = StoredSound.write(tmp_path / "sound", footage.sound())
    assert abs(int(np.argmax(sound[:] > 0.3)) - late * 16000) < 32
    assert np.array_equal(sound[100:300], sound[:][100:300])


@pytest.mark.parametrize("gap", [24000, 100 * 16000])
def test_sound_after_a_gap_keeps_its_time(tmp_path, gap) -> None:
    path = tmp_path / "gap.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for number in range(100):
            picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            picture.pts = number
            container.mux(video.encode(picture))
        after = 16000 + gap
        # Half a second each: after the gap, a quarter comes twice.
        for begin, value in ((0, 0), (8000, 4000), (after, 20000), (after + 4000, 22000)):
            samples = np.full((1, 8000), value, np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = 16000, Fraction(1, 16000), begin
            container.mux(sound.encode(frame))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    heard = StoredSound.write(tmp_path / "sound", Footage(path).sound())[:] * 32768
    assert len(heard) == after + 12000
    assert heard[[100, 12000, after - 10000, after + 7000, after + 9000]].round().tolist() == [0, 4000, 0, 20000, 22000]


def test_sound_goes_on_where_its_channels_change() -> None:
    frames = []
    for number, layout in enumerate(("mono", "stereo", "5.1", "mono")):
        channels = len(av.AudioLayout(layout).channels)
        frame = av.AudioFrame.from_ndarray(np.full((channels, 4800), 0.1 * (number + 1), np.float32), "fltp", layout)
        frame.sample_rate, frame.time_base, frame.pts = 48000, Fraction(1, 48000), 4800 * number
        frames.append(frame)
    stream = SimpleNamespace(start_time=0, time_base=Fraction(1, 48000))
    packets = [SimpleNamespace(decode=lambda: frames)]
    heard = np.concatenate(list(_mono(SimpleNamespace(demux=lambda _: packets), stream)))
    assert abs(len(heard) - 6400) <= 3
    assert heard[[800, 2400, 4000, 5600]] == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.01)


def test_a_damaged_packet_ends_no_sound() -> None:
    def packet(number: int) -> SimpleNamespace:
        frame = av.AudioFrame.from_ndarray(np.full((1, 16000), 0.1 * number, np.float32), "fltp", "mono")
        frame.sample_rate, frame.time_base, frame.pts = 16000, Fraction(1, 16000), 16000 * number
        return SimpleNamespace(decode=lambda: [frame])

    def damaged() -> None:
        raise av.InvalidDataError(1, "damaged")

    packets = [packet(0), packet(1), SimpleNamespace(decode=damaged), packet(3)]
    stream = SimpleNamespace(start_time=0, time_base=Fraction(1, 16000))
    heard = np.concatenate(list(_mono(SimpleNamespace(demux=lambda _: packets), stream)))
    assert heard[8000::16000] == pytest.approx([0, 0.1, 0, 0.3], abs=0.01)


def test_pixels_become_square(tmp_path) -> None:
    wide = write_footage(tmp_path / "wide.mp4", [0.0, 0.04], aspect=Fraction(4, 3))
    assert next(Footage(wide).frames()).shape == read_video(wide)[0].shape[1:] == (48, 85, 3)


def test_footage_without_sound_has_none(tmp_path) -> None:
    footage = Footage(write_footage(tmp_path / "mute.mkv", [0.0, 0.04]))
    assert len(StoredSound.write(tmp_path / "sound", footage.sound())) == 0


def test_what_comes_before_the_damage_is_used(tmp_path) -> None:
    whole = write_footage(tmp_path / "whole.mp4", [n / 25 for n in range(100)], movflags="faststart").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    numbers = []
    with pytest.raises(DamagedFootage) as caught:
        for frame in Footage(tmp_path / "cut.mp4").frames():
            numbers += shown([frame])
    assert numbers == list(range(len(numbers)))
    assert caught.value.seconds == len(numbers) / FPS > 0.5
    last = Footage(tmp_path / "cut.mp4").frames(5, len(numbers))  # the last shot of the file
    assert shown(last) == numbers[5:]


def test_what_is_no_video_is_named(tmp_path) -> None:
    (tmp_path / "notes.mp4").write_text("not a video " * 40)
    with pytest.raises(InputError, match=r"notes\.mp4"):
        list(Footage(tmp_path / "notes.mp4").frames())
    with pytest.raises(InputError, match="no file"):
        list(Footage(tmp_path / "missing.mp4").frames())
    with pytest.raises(InputError):
        Footage(tmp_path / "notes.mp4").probe()


def test_every_n_th_frame_is_counted_from_the_start(tmp_path) -> None:
    footage = Footage(write_footage(tmp_path / "even.mkv", [n / 25 for n in range(40)]))
    assert shown(footage.frames(3, 20, every=5)) == [3, 8, 13, 18]


@pytest.mark.parametrize(("kept", "decoded"), [(10**9, 1), (64 * 48 * 3 * 10, 2), (100, 4)])
def test_frames_are_kept_as_far_as_they_fit(tmp_path, monkeypatch, kept, decoded) -> None:
    monkeypatch.setattr("anytalker.curation.piece._CACHED_BYTES", kept)
    reads = []
    frames = Footage.frames
    monkeypatch.setattr(Footage, "frames", lambda *given, **named: reads.append(given) or frames(*given, **named))
    pictures = Pictures(Footage(write_footage(tmp_path / "even.mkv", [n / 25 for n in range(40)])), 4, 36)
    assert shown(pictures.frames(4, 36, 10)) == [4, 14, 24, 34]
    assert shown(pictures.frames(4, 36, 5)) == list(range(4, 36, 5))
    assert shown(pictures.frames(7, 20)) == list(range(7, 20))
    assert len(reads) == decoded


def test_voices_of_clips_are_as_long_as_the_pictures(tmp_path) -> None:
    footage = Footage(write_footage(tmp_path / "even.mkv", [n / 25 for n in range(25)]))
    face = Face(np.tile(np.array([10, 10, 40, 40], np.float32), (25, 1)), ((0.1, 0.4),), 0)
    short = np.full(8000, 0.1, np.float32)  # the sound ends after half a second
    clip = export_clip(Piece(footage, 0, 25, short, faces=(face,)), "even", tmp_path)
    assert len(load_audio(tmp_path / clip.persons[0].audio_path)) == 16000
