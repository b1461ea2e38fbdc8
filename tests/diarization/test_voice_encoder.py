"""The speaker embedding is the original's."""

import numpy as np
import pytest

from anytalker.diarization.voice_encoder import GE2EEmbedder, embed_voice
from anytalker.errors import InputError
from tests.diarization.conftest import ANNA, BEN


def test_embeddings_are_those_of_the_original_code() -> None:
    """Resemblyzer's own functions, on the same sound at −30 dB."""
    times = np.arange(25600) / 16000
    buzz = np.sign(np.sin(2 * np.pi * 120 * times)) * np.sin(2 * np.pi * 3 * times)
    embedding = GE2EEmbedder()(buzz[None])[0]
    assert np.argsort(-embedding)[:4].tolist() == [24, 182, 45, 18]
    assert embedding[[24, 182, 45, 18]] == pytest.approx([0.3906, 0.2184, 0.1850, 0.1749], abs=1e-3)


def test_the_same_person_is_more_alike_than_others() -> None:
    texts = "Where have you been, and who is it on the phone?", "The number is seven, and we are late for dinner."
    anna, again = (embed_voice(ANNA.say(text)) for text in texts)
    ben = embed_voice(BEN.say(texts[0]))
    assert anna.shape == (256,)
    assert anna @ again > 0.85 > 0.8 > anna @ ben


def test_loudness_does_not_matter() -> None:
    voice = ANNA.say("Please, be quiet for a minute.")
    assert embed_voice(voice) @ embed_voice(0.05 * voice) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(16000), np.ones((2, 16000))])
def test_no_sound_is_no_voice(samples) -> None:
    with pytest.raises(InputError, match="no sound"):
        embed_voice(samples)
