"""The synthetic voices: sound, mouths that follow it, and nothing left to chance."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from anytalker.errors import AnyTalkerError, InputError
from anytalker.miniature.voices import augmentation, sentences
from anytalker.miniature.voices import speech as voices
from anytalker.speech import espeak


def frame_loudness(waveform: np.ndarray, num_frames: int) -> np.ndarray:
    """RMS of each video frame at 24 fps."""
    edges = np.round(np.arange(num_frames + 1) * voices.SAMPLE_RATE / 24).astype(int)
    return np.array([np.sqrt(np.mean(waveform[a:b] ** 2)) for a, b in itertools.pairwise(edges)])


def opening_correlation(utterance: voices.Utterance) -> float:
    frames = int(utterance.seconds * 24)
    opening = voices.resample_visemes(utterance.visemes, frames, 24)[:, 0]
    return float(np.corrcoef(opening, frame_loudness(utterance.waveform, frames))[0, 1])


def test_synthesis_gives_sound_and_visemes_of_its_length() -> None:
    utterance = voices.synthesize("Hello world, how are you?", "en-us+f2")
    assert utterance.waveform.dtype == utterance.visemes.dtype == np.float32
    assert 0.1 < np.abs(utterance.waveform).max() <= 1
    assert utterance.visemes.shape == (int(np.ceil(utterance.seconds * voices.VISEME_RATE)), 4)
    assert utterance.visemes.min() >= 0
    assert utterance.visemes.max() <= 1


def test_the_same_request_gives_the_same_samples_whatever_was_said_before() -> None:
    first = voices.synthesize("Papa and mama.", "en-us+whisper")
    voices.synthesize("Etwas anderes.", "de+m3", speed_wpm=220)
    again = voices.synthesize("Papa and mama.", "en-us+whisper")
    np.testing.assert_array_equal(first.waveform, again.waveform)
    np.testing.assert_array_equal(first.visemes, again.visemes)


def test_random_utterances_follow_their_seed_and_length() -> None:
    for seed in range(6):
        one, other = (voices.random_utterance(np.random.default_rng(seed), 2.0, 3.0) for _ in range(2))
        assert (one.text, one.voice) == (other.text, other.voice)
        np.testing.assert_array_equal(one.waveform, other.waveform)
        assert 2.0 <= one.seconds <= 3.0
        assert len(one.visemes) == int(np.ceil(one.seconds * voices.VISEME_RATE))


@pytest.mark.parametrize("text", ["Mama mama mama.", "Papa papa papa."])
def test_lips_close_between_vowels(text: str) -> None:
    utterance = voices.synthesize(text, "it", speed_wpm=130)
    opening = utterance.visemes[:, 0]
    inner = opening[len(opening) // 10 : -len(opening) // 5]
    lows = [value for before, value, after in zip(inner, inner[1:], inner[2:], strict=False) if before > value <= after]
    deep = [value for value in lows if value < 0.4 * opening.max()]
    assert len(deep) >= 4, f"few closures in {np.round(opening, 2)}"


def test_teeth_and_rounding_show() -> None:
    hiss = voices.synthesize("Fishes, fives, essays.").visemes
    round_lips = voices.synthesize("Who knew, you do too.").visemes
    wide_lips = voices.synthesize("See me, eat cheese.").visemes
    assert hiss[:, 2].mean() > 1.5 * round_lips[:, 2].mean()
    assert round_lips[:, 1].mean() < wide_lips[:, 1].mean() - 0.15


def test_opening_follows_loudness_and_pauses_are_closed() -> None:
    rng = np.random.default_rng(5)
    utterances = [voices.random_utterance(rng, 2.0, 4.0) for _ in range(12)]
    assert np.mean([opening_correlation(utterance) for utterance in utterances]) >= 0.8
    paused = voices.synthesize("One. Two. Three.")
    assert (paused.visemes[:, 0] == 0).sum() > 20


def test_augmentation_keeps_length_and_bounds() -> None:
    clean = voices.synthesize("A short test of noise.").waveform
    for seed in range(30):
        first, again = (augmentation.augment(clean, np.random.default_rng(seed)) for _ in range(2))
        np.testing.assert_array_equal(first, again)
        assert first.shape == clean.shape
        assert first.dtype == np.float32
        assert np.isfinite(first).all()
        assert 0.05 < np.abs(first).max() <= 1
    for silent in (np.zeros(0, np.float32), np.zeros(1600, np.float32)):
        assert np.isfinite(augmentation.augment(silent, np.random.default_rng(0))).all()


def test_resampled_visemes_are_means_then_rest() -> None:
    visemes = np.stack([np.arange(10.0), np.ones(10), np.ones(10), np.ones(10)], axis=1)
    frames = voices.resample_visemes(visemes, 4, 24)
    np.testing.assert_allclose(frames[:, 0], [1.5, 5.5, 17 / 4, 0])
    np.testing.assert_allclose(frames[-1], voices.NEUTRAL)


def test_every_voice_of_the_draw_exists_and_every_language_has_sentences() -> None:
    for voice in voices._BASE_VOICES:
        text = sentences.random_sentence(np.random.default_rng(0), voice.partition("-")[0])
        assert "{" not in text
        assert voices.synthesize(text, voice).seconds > 0.5
    for variant in filter(None, voices._VARIANTS):
        assert voices.synthesize("hello", f"en-us+{variant}").seconds > 0.1


def test_a_damaged_installation_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library, _ = espeak._locations()
    monkeypatch.setattr(espeak, "_locations", lambda: (library, tmp_path))
    with pytest.raises(AnyTalkerError, match="reinstall"):
        voices.synthesize("hi")


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [(("hi", "atlantean"), "atlantean"), (("hi", "en-us+nobody"), "nobody"), (("hi", "en-us", 9000), "9000")],
)
def test_wrong_requests_name_the_culprit(arguments: tuple, culprit: str) -> None:
    with pytest.raises(InputError, match=culprit):
        voices.synthesize(*arguments)
