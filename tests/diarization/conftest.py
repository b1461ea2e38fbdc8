"""Drawn voices, spoken once for all tests here."""

import numpy as np
import pytest

from anytalker.diarization.turns import Turn
from anytalker.miniature.voices.conversation import Speaker

ANNA, BEN = Speaker("en-us+f2", 170, 70, 60), Speaker("en-us+m3", 160, 30, 50)
TEXTS = (
    (ANNA, "Good morning! Would you like to buy the blue bicycle with me on Friday evening?"),
    (BEN, "My brother watches the moon above the valley, and then he forgets the whole story."),
    (ANNA, "That is absolutely fabulous, but nobody told me about the wooden boat by the river."),
    (BEN, "We should measure a pair of shoes before breakfast, or maybe sooner or later."),
)
RATE = 16000


@pytest.fixture(scope="session")
def talk() -> tuple[np.ndarray, list[Turn]]:
    """Two people who take turns with pauses of 0.4 s in a little noise, (samples,) at 16 kHz, and the truth."""
    rng = np.random.default_rng(0)
    parts, truth, start = [np.zeros(RATE // 2, np.float32)], [], 0.5
    for speaker, text in TEXTS:
        said = speaker.say(text)
        truth.append(Turn((ANNA, BEN).index(speaker), start, start + len(said) / RATE))
        parts += [said, np.zeros(2 * RATE // 5, np.float32)]
        start = truth[-1].end + 0.4
    sound = np.concatenate(parts)
    return (sound + 1e-3 * rng.standard_normal(len(sound))).astype(np.float32), truth
