"""What a model hears of several people: which frames are whose, and zero where nobody's recording is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anytalker.conditioning import audio_features
from anytalker.conditioning.audio_features import VoiceWindows, hear_voices, heard_part
from anytalker.conditioning.log_mel import LogMelFeatures, windows
from anytalker.media.recordings import combine
from anytalker.media.sound import Sound


def spans(heard: VoiceWindows, frames: int) -> list[list[int]]:
    """First and last frame of each person in which anything is heard."""
    loud = [one.abs().flatten(1).amax(1).nonzero().flatten().tolist() for one in heard.at(range(frames))[0]]
    return [[one[0], one[-1]] if one else [] for one in loud]


@pytest.fixture
def voices(tone) -> list[np.ndarray | None]:
    """7.5 frames, nobody, 4.8 frames, at 24 a second."""
    return [tone[:5000], None, tone[:3200]]


def test_wav2vec2_hears_recordings_one_after_another_in_whole_frames(wav2vec2, voices, tone) -> None:
    heard = hear_voices(wav2vec2, combine(voices, "concat"), 17, 24.0, "concat")
    assert spans(heard, 17) == [[0, 7], [], [8, 12]]
    alone = wav2vec2(tone[:3200], 5, 24.0)
    torch.testing.assert_close(heard.at(range(8, 13))[0, 2], alone)
    assert not heard.at([7, 13])[0, 2].any(), "windows do not reach into a recording from outside"
    assert spans(hear_voices(wav2vec2, combine(voices, "concat"), 9, 24.0, "concat"), 9) == [[0, 7], [], [8, 8]]


def test_wav2vec2_hears_silence_after_recordings_that_share_a_clock(wav2vec2, voices) -> None:
    heard = hear_voices(wav2vec2, combine(voices, "pad"), 9, 24.0, "pad")
    assert spans(heard, 9) == [[0, 8], [], [0, 8]]
    louder = hear_voices(wav2vec2, combine([0.1 * voices[0], None, voices[2]], "pad"), 9, 24.0, "pad")
    torch.testing.assert_close(heard.at(range(9)), louder.at(range(9)), atol=1e-3, rtol=1e-3)


def test_log_mel_features_hear_the_clock_of_the_whole_video(voices) -> None:
    features = LogMelFeatures()
    sounds = combine(voices, "concat")
    heard = hear_voices(features, sounds, 13, 24.0, "concat")
    for person, sound in enumerate(sounds):
        assert torch.equal(heard.at(range(13))[0, person], features(np.asarray(sound), 13, 24.0))


@pytest.mark.parametrize("mode", ["pad", "concat"])
def test_a_recording_too_short_for_a_convolution_is_heard(wav2vec2, tone, mode) -> None:
    heard = hear_voices(wav2vec2, combine([tone[:10], tone[:5000]], mode), 9, 24.0, mode)
    assert heard.at(range(9)).isfinite().all()


def test_windows_of_some_frames_are_those_of_all(tone) -> None:
    rows = torch.randn(2, 11, 3, 4)
    made = VoiceWindows(rows, [(0, 11)] * 2, 5)
    frames = [0, 4, 5, 10]
    for person in range(2):
        assert torch.equal(made.at(frames)[0, person], windows(rows[person], 5)[frames])


def test_a_recording_is_heard_to_some_minutes_after_the_video(monkeypatch) -> None:
    monkeypatch.setattr(audio_features, "BEYOND", 2)
    samples = np.arange(100000, dtype=np.float32)
    part = heard_part(Sound(samples).placed(500, 900), 24, 24.0)
    np.testing.assert_array_equal(part[:], samples[:48000])
    assert len(heard_part(Sound(samples[:20000]).placed(0, 10**6), 24, 24.0)) == 20000
