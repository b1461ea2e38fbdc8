"""Who speaks when, from end to end."""

import numpy as np
import pytest
import torch

from anytalker.diarization.diarize import diarize
from anytalker.diarization.turns import Diarization, Turn, diarization_error
from anytalker.diarization.voice_encoder import GE2EEmbedder, embed_voice
from anytalker.errors import InputError
from anytalker.media.sound import Sound
from tests.diarization.conftest import RATE


@pytest.fixture(scope="module")
def found(talk) -> Diarization:
    return diarize(talk[0])


def test_two_people_are_found_and_told_apart(talk, found) -> None:
    error = diarization_error(talk[1], found.turns)
    assert found.num_speakers == 2
    assert error.rate < 0.1
    assert error.confusion < 0.02


def test_speakers_are_numbered_by_their_first_word(talk, found) -> None:
    assert found.turns[0].speaker == 0
    assert diarization_error(talk[1], found.turns).mapping == {0: 0, 1: 1}


def test_their_voices_are_known_again(talk, found) -> None:
    sound, truth = talk
    voices = [embed_voice(sound[round(turn.start * RATE) : round(turn.end * RATE)]) for turn in truth[2:]]
    likeness = np.array(voices) @ found.embeddings.T
    assert likeness.argmax(axis=1).tolist() == [0, 1]
    assert np.allclose(np.linalg.norm(found.embeddings, axis=1), 1, atol=1e-5)


def test_two_at_once_are_an_overlap(talk) -> None:
    sound, truth = talk
    first, second = (round(turn.start * RATE) for turn in truth[2:])
    shifted = np.zeros_like(sound)
    early = round(1.2 * RATE)
    shifted[second - early : -early] = sound[second:]
    mixed = np.concatenate([sound[:second], np.zeros(len(sound) - second, np.float32)]) + shifted
    heard = diarize(mixed[: len(sound) - early], num_speakers=2)
    overlaps = heard.overlaps
    assert len(overlaps) >= 1
    longest = max(overlaps, key=lambda span: span[1] - span[0])
    assert second / RATE - 1.2 < sum(longest) / 2 < second / RATE
    assert first / RATE < longest[0]
    assert any(one.start < sum(longest) / 2 < one.end for one in heard.doubtful)


def test_one_person_is_one(talk) -> None:
    sound, truth = talk
    alone = sound[: round(truth[0].end * RATE) + RATE // 5]
    found = diarize(alone)
    assert found.num_speakers == 1
    assert found.overlaps == []
    assert diarization_error(truth[:1], found.turns).rate < 0.1
    assert diarize(alone, num_speakers=1).turns == found.turns


@pytest.mark.usefixtures("quick_diarization")
def test_a_sound_on_disk_gives_the_same(talk) -> None:
    sound = talk[0][: 10 * RATE]
    here, there = diarize(sound, num_speakers=2), diarize(Sound(sound, in_memory=0), num_speakers=2)
    assert here.turns == there.turns
    assert np.array_equal(here.embeddings, there.embeddings)


@pytest.mark.usefixtures("quick_diarization")
def test_another_embedder_may_be_given(talk) -> None:
    class Brightness:
        """Voices by their brightness alone."""

        directions, variances = np.eye(2, dtype=np.float32) * 30, np.array([100.0, 100.0], np.float32)

        def __call__(self, windows: np.ndarray) -> np.ndarray:
            spectrum = np.abs(np.fft.rfft(windows, axis=1)) ** 2
            share = spectrum[:, 4000:].sum(axis=1) / spectrum.sum(axis=1)
            return np.stack([np.cos(share), np.sin(share)], axis=1).astype(np.float32)

    assert diarize(talk[0], num_speakers=2, embedder=Brightness()).embeddings.shape[1] == 2


def test_without_speech_nobody_speaks() -> None:
    noise = 0.01 * np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32)
    for sound in (noise, np.zeros(RATE, np.float32), np.zeros(0, np.float32)):
        assert diarize(sound).turns == []
        assert diarize(sound).embeddings.shape == (0, 256)


@pytest.mark.parametrize("numbers", [{"num_speakers": 0}, {"max_speakers": -1}])
def test_impossible_numbers_are_refused(numbers) -> None:
    with pytest.raises(InputError, match="must be at least 1"):
        diarize(np.zeros(RATE, np.float32), **numbers)


@pytest.mark.usefixtures("quick_diarization")
def test_the_callers_random_numbers_and_threads_stay(talk) -> None:
    torch.manual_seed(5)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(5)
    diarize(talk[0][: 10 * RATE], num_speakers=2)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_turns_are_in_order_and_within_the_sound(talk, found) -> None:
    assert found.turns == sorted(found.turns, key=lambda turn: turn.start)
    assert all(isinstance(turn, Turn) and 0 <= turn.start < turn.end <= len(talk[0]) / RATE for turn in found.turns)


def test_embeddings_are_the_embedders(talk, found) -> None:
    assert found.embeddings.shape[1] == len(GE2EEmbedder().directions)
