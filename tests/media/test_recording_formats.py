"""Recordings as phones, browsers and recorders make them: the table of docs/inputs.md, row by row."""

from __future__ import annotations

import struct
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from anytalker import InputError
from anytalker.media.channels import split_channel, two_voices_remark
from anytalker.media.recordings import load_audio, read_recording
from anytalker.pipelines.inputs import load_voice

SECONDS = 2.0


def sine(rate: int, seconds: float = SECONDS) -> np.ndarray:
    """A tone of 440 Hz that swells, float32 (samples,)."""
    time = np.arange(int(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)


def encode(
    path: Path,
    codec: str,
    rate: int = 48000,
    layout: str = "mono",
    container: str | None = None,
    samples: np.ndarray | None = None,
    cover: bool = False,
    picture: bool = False,
    **options: str,
) -> None:
    """Write a sound (samples,), 440 Hz if none is given, to every channel; `cover`: with a picture of the album."""
    samples = sine(rate) if samples is None else samples
    with av.open(str(path), "w", format=container, options=options) as file:
        stream = file.add_stream(codec, rate=rate, layout=layout)
        if codec in ("aac", "wmav2"):
            stream.bit_rate = 96000
        video = file.add_stream("mjpeg" if cover else "libx264", rate=24) if cover or picture else None
        if video is not None:
            video.width = video.height = 64
            video.pix_fmt = "yuvj420p" if cover else "yuv420p"
            if cover:
                video.disposition = av.stream.Disposition.attached_pic
        channels = len(av.AudioLayout(layout).channels)
        frame = av.AudioFrame.from_ndarray(np.stack([samples] * channels), "fltp", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        context = stream.codec_context
        context.open()
        resampler = av.AudioResampler(context.format.name, layout, rate, frame_size=context.frame_size or 1024)
        if video is not None:
            for _ in range(1 if cover else 12):
                file.mux(video.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8), "rgb24")))
            file.mux(video.encode(None))
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))


def without_header(path: Path) -> None:
    """Take the tag and the frame that counts the others from an MP3."""
    data = path.read_bytes()
    size = struct.unpack(">I", bytes([0]) + data[7:10])[0] if data[:3] == b"ID3" else -10
    frame = data[10 + size :]
    assert b"Xing" in frame[:200] or b"Info" in frame[:200]
    second = frame.find(frame[:2], 100)
    path.write_bytes(frame[second:])


# name, codec, what `encode` is told
DECODED = [
    ("voice memo.m4a", "aac", {}),
    ("alac.m4a", "alac", {}),
    ("cover.m4a", "aac", {"cover": True, "container": "mp4"}),
    ("cover.mp3", "libmp3lame", {"cover": True, "id3v2_version": "3"}),
    ("message.ogg", "libopus", {}),
    ("message.opus", "libopus", {"container": "ogg"}),
    ("constant.mp3", "libmp3lame", {}),
    ("voice.flac", "flac", {}),
    ("deep.wav", "pcm_s24le", {}),
    ("float.wav", "pcm_f32le", {}),
    ("double.wav", "pcm_f64le", {}),
    ("eight.wav", "pcm_u8", {}),
    ("surround.wav", "pcm_f32le", {"layout": "5.1"}),
    ("stereo.wav", "pcm_s16le", {"layout": "stereo"}),
    ("high.wav", "pcm_s24le", {"rate": 192000}),
    ("mulaw.wav", "pcm_mulaw", {"rate": 8000}),
    ("alaw.wav", "pcm_alaw", {"rate": 8000}),
    ("phone.amr", "libopencore_amrnb", {"rate": 8000}),
    ("phone.3gp", "libopencore_amrnb", {"rate": 8000}),
    ("old.wma", "wmav2", {"container": "asf", "rate": 44100}),
    ("iphone.caf", "pcm_s16be", {}),
    ("iphone alac.caf", "alac", {}),
    ("bare.aac", "aac", {"container": "adts"}),
    ("browser.webm", "libopus", {"live": "1"}),
    ("call.webm", "libopus", {"picture": False}),
    ("film.mp4", "aac", {"picture": True}),
    ("film.mov", "pcm_s16le", {"picture": True}),
    ("film.mkv", "flac", {"picture": True}),
    ("apple.aiff", "pcm_s16be", {}),
    ("sun.au", "pcm_s16be", {}),
    ("cinema.ac3", "ac3", {}),
    ("wrong extension.wav", "libmp3lame", {"container": "mp3"}),
    ("wrong extension.mp3", "pcm_s16le", {"container": "wav"}),
    ("no extension", "aac", {"container": "mp4"}),
    ("日本 Ünï [x] (1) 'q' %03d #&.wav", "pcm_s16le", {}),
]


@pytest.mark.parametrize(("name", "codec", "options"), DECODED, ids=[row[0] for row in DECODED])
def test_it_decodes_whole(tmp_path, name, codec, options) -> None:
    try:
        av.codec.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this build of PyAV can't encode {codec}, so the file can't be made here")
    encode(tmp_path / name, codec, **options)
    _assert_tone(load_audio(tmp_path / name))


def _assert_tone(samples: np.ndarray) -> None:
    assert samples.dtype == np.float32
    assert abs(len(samples) / 16000 - SECONDS) < 0.15
    middle = samples[4000:28000]
    peak = np.fft.rfftfreq(len(middle), 1 / 16000)[np.abs(np.fft.rfft(middle)).argmax()]
    assert abs(peak - 440) < 5
    assert 0.3 < np.sqrt(np.mean(middle**2)) < 0.4  # 0.354 is a sine's of 0.5


@pytest.mark.parametrize("name", ["a: b.wav", "http:x.wav", "concat:a.wav", "C:voice.wav", "a:left"])
def test_colons_are_no_addresses(tmp_path, monkeypatch, name) -> None:
    encode(tmp_path / "x", "pcm_s16le", container="wav")
    (tmp_path / "x").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    _assert_tone(load_audio(name))


def test_an_mp3_of_changing_bit_rate_without_a_header_is_not_called_cut_off(tmp_path) -> None:
    rng = np.random.default_rng(0)
    quiet, loud = np.zeros(48000 * 8, np.float32), rng.normal(0, 0.2, 48000 * 3).astype(np.float32)
    path = tmp_path / "changing.mp3"
    for samples in (np.concatenate([quiet, loud]), np.concatenate([loud, quiet])):
        with av.open(str(path), "w") as file:
            quality = {"flags": "+qscale", "global_quality": "0"}
            stream = file.add_stream("libmp3lame", rate=48000, layout="mono", options=quality)
            frame = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
            stream.codec_context.open()
            for part in av.AudioResampler("fltp", "mono", 48000, frame_size=1152).resample(frame):
                file.mux(stream.encode(part))
            file.mux(stream.encode(None))
        assert len(load_audio(path)) / 16000 == pytest.approx(11, abs=0.15)
        whole = path.read_bytes()
        without_header(path)
        assert len(load_audio(path)) / 16000 == pytest.approx(11, abs=0.15)
        path.write_bytes(whole[: len(whole) // 2])  # it says its length, so that a cut is known
        with pytest.raises(InputError, match="cut off: it should last 1"):
            load_audio(path)


def test_an_amr_file_made_by_hand(tmp_path) -> None:
    (tmp_path / "memo.amr").write_bytes(b"#!AMR\n" + 100 * (b"\x3c" + bytes(31)))  # 12.2 kbit/s, 20 ms each
    assert len(load_audio(tmp_path / "memo.amr")) / 16000 == pytest.approx(2, abs=0.05)


def test_an_offset_and_clipping_are_left_as_they_are(tmp_path, write_wave) -> None:
    tone = sine(16000)
    np.testing.assert_allclose(load_audio(write_wave(tone + 0.2)), tone + 0.2, atol=1e-4)
    clipped = np.clip(4 * tone, -1, 1)
    np.testing.assert_allclose(load_audio(write_wave(clipped)), clipped, atol=1e-4)
    encode(tmp_path / "beyond.wav", "pcm_f32le", 16000, samples=4 * tone)
    assert np.abs(load_audio(tmp_path / "beyond.wav")).max() == 1


def test_a_rate_that_holds_no_speech_is_refused(write_wave) -> None:
    with pytest.raises(InputError, match="has 1 samples a second"):
        load_audio(write_wave(sine(16000), rate=1))


def test_names_of_other_files_are_never_followed(tmp_path, monkeypatch) -> None:
    encode(tmp_path / "secret.wav", "pcm_s16le")
    encode(tmp_path / "secret.ts", "aac", container="mpegts")
    monkeypatch.chdir(tmp_path)
    playlist = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n"
    sdp = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n"
    dash = '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>'
    for kind, text in {
        "ffconcat": "ffconcat version 1.0\nfile secret.wav\n",
        "m3u8": playlist.format("secret.ts"),
        "sdp": sdp,
        "mpd": dash,
    }.items():
        for ending in ("wav", kind):
            path = tmp_path / f"list.{ending}"
            path.write_text(text)
            with pytest.raises(InputError, match=r"list\.\w+ can't be decoded") as caught:
                load_audio(path)
            assert "\n" not in str(caught.value)
    with av.open("list.ffconcat") as file:
        assert file.format.name == "concat"  # FFmpeg itself would have read the other file


def stereo(tmp_path: Path, left: np.ndarray, right: np.ndarray, name: str = "talk.wav") -> Path:
    path = tmp_path / name
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((np.clip(np.stack([left, right], 1), -1, 1) * 32767).astype("<i2").tobytes())
    return path


def speech(seed: int, seconds: float = 6.0) -> np.ndarray:
    """Noise in the rhythm of speech: bursts of syllables and pauses."""
    rng = np.random.default_rng(seed)
    loudness = np.repeat(rng.uniform(0.2, 1, int(seconds * 5)) * (rng.random(int(seconds * 5)) < 0.6), 3200)
    return (0.2 * loudness * rng.normal(0, 1, len(loudness))).clip(-1, 1).astype(np.float32)


def turns(seed: int, bleed_db: float = 100.0) -> tuple[np.ndarray, np.ndarray]:
    left, right = speech(seed), speech(seed + 1)
    left[48000:], right[:48000] = 0, 0
    bleed = 10 ** (-bleed_db / 20)
    return left + bleed * np.roll(right, 40), right + bleed * np.roll(left, 40)


def test_a_different_voice_on_each_side_is_noticed(tmp_path) -> None:
    rng = np.random.default_rng(0)
    one, (left, right) = speech(0), turns(2)
    echo = np.convolve(one, rng.normal(0, 1, 4000) * np.exp(-np.arange(4000) / 800) / 30)[: len(one)]
    for name, pair in {"at once": (one, speech(9)), "turns": (left, right), "bleed": turns(4, 18)}.items():
        assert read_recording(stereo(tmp_path, *pair)).two_voices, name
    for name, pair in {
        "copy": (one, one),
        "gain": (one, 0.1 * one),
        "delay": (one, np.roll(one, 480)),
        "echo": (one, echo),
        "opposite": (one, -one),
        "silence": (one, 0 * one),
        "hiss": (one, rng.normal(0, 0.005, len(one))),
        "one room": turns(6, 4),
    }.items():
        assert not read_recording(stereo(tmp_path, *pair)).two_voices, name


def test_one_channel_is_taken_by_name_or_number(tmp_path) -> None:
    left, right = turns(2)
    path = stereo(tmp_path, left, right)
    for ending, expected in {"left": left, "right": right, "1": left, "2": right, "RIGHT": right}.items():
        np.testing.assert_allclose(load_audio(f"{path}:{ending}"), expected, atol=1e-4)
    voice = load_voice(f"{path}:left")
    assert (voice.name, voice.remark) == ("talk.wav:left", None)
    assert load_voice(path).remark == two_voices_remark(path)
    assert str(path) in two_voices_remark(path)
    for ending in ("3", "99"):
        with pytest.raises(InputError, match=r"has 2 channels, so there is no channel"):
            load_audio(f"{path}:{ending}")
    for ending in ("middle", "0", "-1", "²", ""):
        with pytest.raises(InputError, match="There is no audio file"):
            load_audio(f"{path}:{ending}")
    encode(tmp_path / "mono.wav", "pcm_s16le")
    with pytest.raises(InputError, match="only one channel"):
        load_audio(f"{tmp_path / 'mono.wav'}:right")


def test_a_file_that_is_really_called_so_wins(tmp_path) -> None:
    path = stereo(tmp_path, *turns(2))
    named = stereo(tmp_path, speech(5), speech(5), "talk.wav:left")
    assert split_channel(named) == (named, None)
    np.testing.assert_allclose(load_audio(f"{path}:left"), speech(5), atol=1e-4)
    named.unlink()
    assert split_channel(named) == (path, 0)
