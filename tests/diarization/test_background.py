"""Music and noise behind voices."""

import numpy as np

from anytalker.diarization.background import CLEAR, clear_windows, give_to_nearest, loud_to_quiet, voice_to_background


def syllables(seconds: float, background: float, seed: int = 0) -> np.ndarray:
    """Noise that comes and goes four times a second, over steady noise."""
    rng = np.random.default_rng(seed)
    times = np.arange(int(16000 * seconds)) / 16000
    voice = np.clip(np.sin(2 * np.pi * 4 * times), 0, 1) * rng.standard_normal(len(times))
    return (0.1 * voice + background * rng.standard_normal(len(times))).astype(np.float32)


def test_speech_pauses_and_noise_does_not() -> None:
    assert loud_to_quiet(syllables(2, 0.0005)) > 25
    assert loud_to_quiet(syllables(2, 0.05)) < 10
    sound = np.concatenate([syllables(2, 0.0005), syllables(2, 0.05)])
    assert clear_windows(sound, np.array([[0.0, 1.6], [2.2, 3.8]])).tolist() == [True, False]


def test_a_voice_that_never_pauses_is_clear_and_one_in_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    times = np.arange(25600) / 16000
    white = rng.standard_normal((2, len(times)))
    low, high = np.cumsum(white[0]) - np.convolve(np.cumsum(white[0]), np.ones(200) / 200, "same"), np.diff(white[1], 2)
    high = np.pad(high, (1, 1))
    turn = np.sin(2 * np.pi * 4 * times) > 0
    voice = 0.1 * np.where(turn, low / low.std(), high / high.std())
    assert loud_to_quiet(voice) < 6, "there is no pause in it"
    assert voice_to_background(voice) > CLEAR
    assert voice_to_background(voice + 0.03 * rng.standard_normal(len(voice))) < CLEAR
    assert voice_to_background(np.zeros(100)) == 0


def test_a_low_voice_in_the_rooms_noise_is_clear() -> None:
    room = 0.004
    low = 0.15 * syllables(2, room / 0.15, seed=1)
    sound = np.concatenate([syllables(2, room), low, syllables(2, 0.05, seed=2)])
    assert loud_to_quiet(low) < 16
    assert clear_windows(sound, np.array([[0.0, 1.6], [2.2, 3.8], [4.2, 5.8]])).tolist() == [True, True, False]


class Pitch:
    """An embedder of how often a sound crosses zero, and what white noise does to it."""

    directions, variances = np.eye(2), np.ones(2)

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """(B, 2)."""
        crossings = (np.diff(np.sign(windows), axis=1) != 0).mean(axis=1)
        return np.stack([20 * crossings, np.ones(len(windows))], axis=1).astype(np.float32)


def tone(hertz: float, seconds: float = 1.6) -> np.ndarray:
    """Two tones in turn, a fifth of a second each."""
    times = np.arange(int(16000 * seconds)) / 16000
    step = 1 + 0.2 * (times // 0.2 % 2)
    return (0.1 * np.sin(2 * np.pi * np.cumsum(hertz * step) / 16000)).astype(np.float32)


def test_windows_without_long_noise_go_to_the_voice_they_are_most_like() -> None:
    sound = np.concatenate([tone(500), tone(1500), tone(600, 1.0)])
    times = np.array([[0, 1.6], [1.6, 3.2], [3.2, 4.2]])
    embeddings = Pitch()(np.stack([np.resize(sound[int(a * 16000) : int(b * 16000)], 25600) for a, b in times]))
    clear = np.array([True, True, False])
    belief = give_to_nearest(sound, times, embeddings, clear, np.eye(2), Pitch())
    assert belief.tolist() == [[1, 0], [0, 1], [1, 0]]


def test_in_noise_voices_are_compared_with_how_they_sound_in_it() -> None:
    rng = np.random.default_rng(0)
    noisy = tone(500, 4) + 0.06 * rng.standard_normal(64000)
    sound = np.concatenate([tone(500), tone(2500), noisy]).astype(np.float32)
    times = np.array([[0, 1.6], [1.6, 3.2], *([start, start + 1.6] for start in np.arange(3.2, 5.7, 0.4))])
    embeddings = Pitch()(np.stack([sound[int(a * 16000) :][:25600] for a, b in times]))
    clear = np.arange(len(times)) < 2
    nearest = np.abs(embeddings[2:, None] - embeddings[None, :2]).sum(axis=2).argmin(axis=1)
    assert nearest.mean() > 0.5, "noise makes them like the other voice"
    belief = give_to_nearest(sound, times, embeddings, clear, np.eye(2), Pitch())
    assert belief[2:].argmax(axis=1).tolist() == [0] * (len(times) - 2)
    assert belief.sum(axis=1).tolist() == [1] * len(times)
