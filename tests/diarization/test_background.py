"""Music and noise behind voices."""

import numpy as np

from anytalker.diarization.background import clear_windows, give_to_nearest, loud_to_quiet


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


def test_noisy_windows_go_to_the_voice_they_are_most_like() -> None:
    points = np.array([[2.0, 0], [2, 0.1], [0, 2], [0.1, 2], [0.5, 0.1], [0.6, 0.2]])
    clear = np.array([True] * 4 + [False] * 2)
    belief = give_to_nearest(points, clear, np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]]))
    assert belief.argmax(axis=1).tolist() == [0, 0, 1, 1, 0, 0]
    assert belief.sum(axis=1).tolist() == [1] * 6
