"""Voices: any format in, one clock for all, features as in the release, and refusals that name what is wrong."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from anytalker import InputError
from anytalker.conditioning.audio_features import Wav2Vec2Features, audio_features_from_pretrained
from anytalker.conditioning.log_mel import LogMelFeatures
from anytalker.conditioning.timeline import is_silent, speaking_spans
from anytalker.media.recordings import (
    audio_array,
    combine,
    frame_count,
    frame_loudness,
    load_audio,
    mix,
    normalize_waveform,
)
from anytalker.media.sound import Sound


def encode(path, samples: np.ndarray, codec: str, rate: int, pictures: int = 0, **options) -> None:
    """Write samples (samples,) as both channels, and before them so many black pictures, 24 a second."""
    with av.open(str(path), "w", **options) as container:
        video = container.add_stream("libx264", rate=24) if pictures else None
        stream = container.add_stream(codec, rate=rate, layout="stereo")
        if video is not None:
            video.width = video.height = 64
            black = np.zeros((64, 64, 3), np.uint8)
            for _ in range(pictures):
                container.mux(video.encode(av.VideoFrame.from_ndarray(black, "rgb24")))
            container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(np.stack([samples, samples]).astype(np.float32), "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        resampler = av.AudioResampler(
            stream.codec_context.format.name, "stereo", rate, frame_size=stream.frame_size or 1024
        )
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "aac"), ("a.ogg", "libopus"), ("a.flac", "flac"), ("a.mp3", "libmp3lame")]
)
def test_every_format_decodes_to_16_khz_mono(tmp_path, name: str, codec: str) -> None:
    time = np.arange(48000) / 48000
    encode(tmp_path / name, 0.5 * np.sin(2 * np.pi * 440 * time), codec, 48000)
    samples = load_audio(tmp_path / name)
    assert samples.dtype == np.float32
    assert abs(len(samples) - 16000) < 1600
    spectrum = np.abs(np.fft.rfft(samples[2000:14000]))
    assert abs(np.fft.rfftfreq(12000, 1 / 16000)[spectrum.argmax()] - 440) < 3
    assert 0.4 < np.abs(samples[2000:14000]).max() < 0.6


def test_a_wave_file_keeps_its_samples(write_wave, tone) -> None:
    np.testing.assert_allclose(load_audio(write_wave(tone)), tone, atol=1e-4)


def test_bad_recordings_are_named(tmp_path, write_wave, tone) -> None:
    whole = write_wave(tone, "whole.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[:12000])
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "header.wav").write_bytes(whole[:44])
    (tmp_path / "text.wav").write_text("this is no sound " * 100)
    write_wave(tone[:0], "none.wav")
    whole = bytearray((tmp_path / "header.wav").read_bytes())
    whole[17] = 0xFD  # the first chunk would end beyond the file
    (tmp_path / "chunk.wav").write_bytes(whole)
    with av.open(str(tmp_path / "mute.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width = stream.height = 64
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
        container.mux(stream.encode(None))
    for name, reason in {
        "missing.wav": "There is no audio file",
        "x" * 300 + ".wav": "can't be read: File name too long",
        "cut.wav": "cut off",
        "empty.wav": "is empty",
        "chunk.wav": "can't be decoded",
        "header.wav": "cut off",
        "text.wav": "can't be decoded",
        "none.wav": "holds no sound",
        "mute.mp4": "has no sound",
    }.items():
        with pytest.raises(InputError, match=reason) as caught:
            load_audio(tmp_path / name)
        assert name in str(caught.value)


def test_a_cut_compressed_recording_is_refused(tmp_path) -> None:
    encode(tmp_path / "a.mp4", np.random.default_rng(0).normal(0, 0.2, 88200), "aac", 44100)
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:15000])
    with pytest.raises(InputError, match=r"cut\.mp4"):
        load_audio(tmp_path / "cut.mp4")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_a_video_longer_than_its_sound_is_whole(tmp_path, name) -> None:
    noise = np.random.default_rng(0).normal(0, 0.2, 4 * 44100)
    options = {"options": {"movflags": "+faststart"}} if name != "a.mkv" else {}
    encode(tmp_path / name, noise, "aac", 44100, pictures=240, **options)
    assert len(load_audio(tmp_path / name)) / 16000 == pytest.approx(4, abs=0.1)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / f"cut.{name}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut off: it should last 4\.|damaged"):
        load_audio(tmp_path / f"cut.{name}")


@pytest.mark.parametrize(("name", "codec"), [("a.webm", "libopus"), ("a.m4a", "aac")])
def test_pauses_of_which_nothing_is_stored_are_silent(tmp_path, tone, name, codec) -> None:
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=48000, layout="mono")
        for begin in (0.0, 3.0):
            resampler = av.AudioResampler(stream.codec_context.format.name, "mono", 48000, stream.frame_size or 960)
            frame = av.AudioFrame.from_ndarray(np.repeat(tone, 3)[None], "flt", "mono")
            frame.sample_rate, position = 48000, round(48000 * begin)
            for part in resampler.resample(frame):
                part.pts, part.time_base = position, Fraction(1, 48000)
                position += part.samples
                container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    loud = frame_loudness(load_audio(tmp_path / name), 40, 10) > 0.05
    assert loud[1:9].all()
    assert not loud[12:29].any()
    assert loud[31:39].all()


def test_a_recording_that_begins_late_is_whole(tmp_path, tone) -> None:
    with av.open(str(tmp_path / "late.mka"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray((tone * 30000).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate, frame.time_base, frame.pts = 16000, Fraction(1, 16000), 6 * 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert len(load_audio(tmp_path / "late.mka")) == 16000


@pytest.mark.parametrize("tail", [bytes(1), b"LYRICSBEGIN" + b"x" * 60 + b"000071LYRICS200", "again"])
def test_what_follows_an_mp3_is_no_damage(tmp_path, tail) -> None:
    encode(tmp_path / "a.mp3", np.random.default_rng(0).normal(0, 0.2, 88200), "libmp3lame", 44100)
    whole = (tmp_path / "a.mp3").read_bytes()
    seconds = len(load_audio(tmp_path / "a.mp3")) / 16000
    (tmp_path / "b.mp3").write_bytes(whole + (whole if tail == "again" else tail))
    heard = len(load_audio(tmp_path / "b.mp3")) / 16000
    assert heard == pytest.approx(2 * seconds if tail == "again" else seconds, abs=0.1)


def test_bare_frames_are_as_long_as_they_are(tmp_path) -> None:
    late = np.concatenate([np.zeros(88200), np.random.default_rng(0).normal(0, 0.2, 88200)])
    encode(tmp_path / "a.aac", late, "aac", 44100, format="adts")  # its length is guessed from the quiet beginning
    assert len(load_audio(tmp_path / "a.aac")) / 16000 == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("left", [1.0, 0.9, 0.0])
def test_channels_that_cancel_out_leave_the_louder_one(write_wave, tone, left) -> None:
    opposite = np.stack([left * tone, -tone])
    expected = {1.0: tone, 0.9: -tone, 0.0: -tone / 2}[left]
    np.testing.assert_allclose(load_audio(write_wave(opposite.T.ravel(), channels=2)), expected, atol=1e-4)
    np.testing.assert_allclose(audio_array(opposite), expected, atol=1e-6)


def test_recordings_of_many_channels_are_mixed_down(write_wave, tone) -> None:
    many = np.stack([tone * share for share in (1.0, 0.5, 0, 0, 0, 0, 0, 0, 0.3)])
    loaded = load_audio(write_wave(many.T.ravel(), channels=9))
    np.testing.assert_allclose(loaded, tone * 0.2, atol=1e-4)


def test_silence_is_known(tone) -> None:
    click = np.zeros(16000, np.float32)
    assert is_silent(click)
    assert is_silent(click[:0])
    click[8000:8100] = 0.1
    assert not is_silent(click)
    assert not is_silent(tone * 0.01)
    assert is_silent(Sound(np.random.default_rng(0).integers(-1, 2, 16000).astype(np.float32) / 32768, 10))


def test_reading_takes_no_more_memory_than_its_result(write_wave) -> None:
    stereo = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * 44100 * 60).astype(np.float32)
    path = write_wave(stereo, rate=44100, channels=2)
    load_audio(write_wave(stereo[:88200], "short.wav", 44100, 2))  # what is loaded once
    tracemalloc.start()
    samples = load_audio(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert abs(len(samples) - 16000 * 60) < 10
    assert peak < 1.3 * samples.nbytes  # a growing array has a little to spare


def test_arrays_are_checked() -> None:
    assert audio_array(np.zeros((2, 16000))).shape == (16000,)
    with pytest.raises(InputError, match="holds no sound"):
        audio_array([])
    with pytest.raises(InputError, match="not numbers"):
        audio_array(np.full(16000, np.nan))
    with pytest.raises(InputError, match=r"\(1, 2, 3\)"):
        audio_array(np.zeros((1, 2, 3)))


def test_padding_shares_a_clock_and_concatenation_takes_turns() -> None:
    one, two = np.ones(3, np.float32), np.full(5, 2, np.float32)
    padded = combine([one, None, two], "pad")
    assert [list(stream[:]) for stream in padded] == [[1, 1, 1, 0, 0], [0] * 5, [2] * 5]
    turns = combine([one, None, two], "concat")
    assert [list(stream[:]) for stream in turns] == [[1] * 3 + [0] * 5, [0] * 8, [0] * 3 + [2] * 5]
    with pytest.raises(InputError, match="'backwards'"):
        combine([one], "backwards")
    with pytest.raises(InputError, match="Nobody"):
        combine([None, None], "pad")


def test_frame_counts_equal_the_release(preprocess_cases) -> None:
    for case in preprocess_cases["frame_counts"]:
        assert frame_count(case["seconds"], case["fps"]) == case["frames"], case


def test_mixing_never_clips_and_keeps_quiet_voices() -> None:
    loud = np.full(10, 0.9, np.float32)
    assert mix([loud, loud]).max() <= 1
    np.testing.assert_array_equal(mix([loud, np.zeros_like(loud)]), loud)


def test_normalised_silence_stays_silence() -> None:
    assert np.abs(normalize_waveform(np.zeros(100, np.float32))).max() == 0


@pytest.mark.parametrize("index", range(4))
def test_wav2vec2_features_equal_the_release(index, recipe, preprocess_cases, preprocess_goldens, error) -> None:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    audio = preprocess_cases["audio"]
    model = Wav2Vec2Model(Wav2Vec2Config(**audio["config"]))
    weights = {key: recipe.weight("wav2vec2." + key, value.shape) for key, value in model.state_dict().items()}
    weights = {key: value.abs() + 0.1 if "original0" in key else value for key, value in weights.items()}
    model.load_state_dict(weights)
    case = audio["cases"][index]
    waveform = recipe.tensor(f"wave.{index}", (case["samples"],)).numpy() * 0.1
    features = Wav2Vec2Features(model)(waveform, case["frames"], case["fps"])
    assert error(features, preprocess_goldens[f"audio_embeds_{index}"]) <= 1e-5


def test_wav2vec2_features_are_saved_and_loaded(tmp_path, tone, wav2vec2) -> None:
    wav2vec2.save_pretrained(tmp_path)
    loaded = audio_features_from_pretrained(tmp_path)
    assert (loaded.window, loaded.blocks, loaded.channels) == (5, 2, 32)
    assert torch.equal(loaded(tone, 21, 24), wav2vec2(tone, 21, 24))


def test_log_mel_silence_is_exactly_zero_and_gain_does_not_matter(tone) -> None:
    features = LogMelFeatures()
    assert features(np.zeros(16000, np.float32), 21, 24).abs().max() == 0
    half_silent = np.concatenate([np.zeros(16000, np.float32), tone])
    values = features(half_silent, 45, 24)
    assert values.shape == (45, 5, 1, 128)
    assert values[:20].abs().max() == 0
    assert values[30:].max() > 0.9
    assert (features(half_silent * 0.1, 45, 24) - values).abs().max() < 0.05


def test_log_mel_windows_repeat_the_edges_and_frames_stay_in_place(tone) -> None:
    features = LogMelFeatures()
    values = features(tone, 24, 24)
    assert torch.equal(values[0, 0], values[0, 2])
    assert torch.equal(values[5, 4], values[7, 2])
    click = np.zeros(16000, np.float32)
    click[8000:8200] = 0.5
    energy = features(click, 24, 24)[:, 2].sum(dim=(1, 2))
    assert energy.argmax() == 12


def test_log_mel_frames_say_which_of_their_latent_frame_they_are(tone) -> None:
    half_silent = np.concatenate([tone, np.zeros(16000, np.float32)])
    values = LogMelFeatures(frame_positions=4)(half_silent, 45, 24)
    assert values.shape == (45, 5, 1, 132)
    assert torch.equal(values[..., :128], LogMelFeatures()(half_silent, 45, 24))
    marks = values[:, 2, 0, 128:]
    assert not marks[0].any()
    assert not values[25:, 2].any(), "silence stays zero"
    for frame in range(1, 20):
        assert marks[frame].nonzero().flatten().tolist() == [(frame - 1) % 4]


def test_log_mel_settings_are_saved_and_loaded(tmp_path, tone) -> None:
    features = LogMelFeatures(mel_bins=20, floor=3.0, frame_positions=4)
    features.save_pretrained(tmp_path)
    assert torch.equal(audio_features_from_pretrained(tmp_path)(tone, 13, 16), features(tone, 13, 16))


def test_loudness_of_a_frame_is_its_root_mean_square() -> None:
    waveform = np.concatenate([np.full(8000, 0.5), np.zeros(8000)]).astype(np.float32)
    np.testing.assert_allclose(frame_loudness(waveform, 6, 4), [0.5, 0.5, 0, 0, 0, 0], atol=1e-6)


def test_speaking_spans_find_speech_and_bridge_short_pauses() -> None:
    rng = np.random.default_rng(0)
    waveform = rng.normal(0, 0.001, 5 * 16000)
    for start, end in ((0.5, 1.5), (1.65, 2.0), (3.0, 4.0), (4.5, 4.54)):
        waveform[int(start * 16000) : int(end * 16000)] += rng.normal(0, 0.2, int(end * 16000) - int(start * 16000))
    spans = speaking_spans(waveform.astype(np.float32))
    np.testing.assert_allclose(spans, [[0.5, 2.0], [3.0, 4.0]], atol=0.05)
    assert speaking_spans(np.zeros(16000, np.float32)) == []
    assert speaking_spans(np.zeros(0, np.float32)) == []
