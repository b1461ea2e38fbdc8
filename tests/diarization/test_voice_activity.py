"""Where there is speech."""

import numpy as np
import torch

from anytalker.diarization.voice_activity import speech_spans
from tests.diarization.conftest import RATE


def test_borders_are_within_a_tenth_of_a_second(talk) -> None:
    sound, truth = talk
    spans = speech_spans(sound, max_gap=0.35)
    assert len(spans) == len(truth)
    for (start, end), turn in zip(spans, truth, strict=True):
        assert abs(start - turn.start) < 0.1
        assert abs(end - turn.end) < 0.1


def test_a_longer_gap_joins(talk) -> None:
    assert len(speech_spans(talk[0], max_gap=0.6)) == 1


def test_noise_and_silence_are_no_speech() -> None:
    noise = 0.05 * np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    assert speech_spans(noise) == []
    assert speech_spans(np.zeros(2 * RATE, np.float32)) == []
    assert speech_spans(np.zeros(0, np.float32)) == []


def test_the_end_is_within_the_sound(talk) -> None:
    sound, truth = talk
    cut = sound[: round((truth[0].start + 1.003) * RATE)]
    assert speech_spans(cut)[-1][1] <= len(cut) / RATE


def test_it_does_not_change_the_number_of_threads(talk) -> None:
    threads = torch.get_num_threads()
    speech_spans(talk[0][:RATE])
    assert torch.get_num_threads() == threads
