"""Do lips say a sound? With mouths that were made from the voices, as a camera would see them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anytalker.curation.lip_sync import (
    CONFIRMED,
    REACH,
    SURE,
    find_speaker,
    judge_curve,
    judge_sync,
    match_voices,
    pool,
)
from anytalker.curation.voice_mouth import NAMES, RATE, VoiceMouth, expect_mouth
from anytalker.errors import InputError, NoScoreError
from anytalker.miniature.voices.speech import SAMPLE_RATE, random_utterance, resample_visemes

FPS, FRAMES, ROOM = 25.0, 80, 12


def seen_mouth(visemes: np.ndarray, seed: int) -> np.ndarray:
    """A mouth (T, 3) as the mesh measures it: from true visemes (T, 4), with noise."""
    spread = (visemes[:, 1] - 0.5) * np.clip(6 * visemes[:, 0], 0, 1)
    mouth = np.stack([0.35 * visemes[:, 0], 0.2 + 0.35 * visemes[:, 0], 0.6 + 0.25 * spread], axis=1)
    return mouth + np.random.default_rng(seed).normal(0, 0.01, mouth.shape)


@pytest.fixture(scope="module")
def people() -> list[tuple[np.ndarray, np.ndarray]]:
    """Two people's mouths (T, 3) and voices, who speak at the same time."""
    found = []
    for seed in range(2):
        spoken = random_utterance(np.random.default_rng([seed, 40]), 4.5, 5.5)
        visemes = resample_visemes(spoken.visemes, FRAMES + 2 * ROOM, FPS)
        found.append((seen_mouth(visemes, seed), spoken.waveform))
    return found


def cut(person: tuple[np.ndarray, np.ndarray], late: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A clip of a person whose voice comes so many frames late."""
    mouth, voice = person
    start = int((ROOM - late) / FPS * SAMPLE_RATE)
    return mouth[ROOM : ROOM + FRAMES], voice[start : start + int(FRAMES / FPS * SAMPLE_RATE)]


@pytest.mark.parametrize("late", [-8, -3, 0, 5])
def test_a_voice_that_comes_late_is_measured(people: list, late: int) -> None:
    for person in people:
        mouth, voice = cut(person, late)
        judged = judge_sync(mouth, FPS, voice)
        assert abs(judged.offset_frames - late) <= 1
        assert judged.agrees
        assert judged.curve.argmax() - REACH == judged.offset_frames


def test_a_foreign_voice_is_refused(people: list) -> None:
    for mouth, voice in ((cut(people[0])[0], cut(people[1])[1]), (cut(people[1])[0], cut(people[0])[1])):
        assert not judge_sync(mouth, FPS, voice).agrees
        assert not judge_sync(mouth, FPS, voice, delay=0).agrees


def test_each_voice_belongs_to_its_mouth(people: list) -> None:
    mouths, voices = zip(*(cut(person) for person in people), strict=True)
    matrix = match_voices(mouths, voices, FPS)
    assert matrix.argmax(axis=1).tolist() == [0, 1]
    assert matrix.argmax(axis=0).tolist() == [0, 1]
    assert matrix.diagonal().min() > SURE


def test_a_voice_from_off_screen_is_nobodys(people: list) -> None:
    mouth, _ = cut(people[0])
    still = np.random.default_rng(3).normal((0, 0.2, 0.6), 0.003, mouth.shape)
    speaker, confidence = find_speaker([still, mouth], FPS, cut(people[0])[1])
    assert speaker == 1
    assert confidence[0] < 1
    assert find_speaker([still, mouth], FPS, cut(people[1])[1])[0] is None


def test_frames_without_the_face_do_not_count(people: list) -> None:
    mouth, voice = cut(people[0], 2)
    mouth = mouth.copy()
    whole = judge_sync(mouth, FPS, voice)
    mouth[20:35] = np.nan
    judged = judge_sync(mouth, FPS, voice)
    assert abs(judged.offset_frames - 2) <= 1
    assert judged.seconds < whole.seconds
    mouth[10:] = np.nan
    with pytest.raises(NoScoreError, match="speech with a mouth"):
        judge_sync(mouth, FPS, voice)


def test_the_gap_alone_is_enough(people: list) -> None:
    mouth, voice = cut(people[0], 4)
    assert abs(judge_sync(mouth[:, 0], FPS, voice).offset_frames - 4) <= 1


def test_a_known_delay_limits_the_search(people: list) -> None:
    mouth, voice = cut(people[0], 6)
    assert judge_sync(mouth, FPS, voice, delay=6).confidence > CONFIRMED
    elsewhere = judge_sync(mouth, FPS, voice, delay=-6)
    assert abs(elsewhere.offset_frames + 6) <= 1
    assert not elsewhere.agrees


def test_spans_say_more_together() -> None:
    curve = np.zeros(2 * REACH + 1)
    curve[REACH + 3] = 0.3
    one = judge_curve(curve, 2.0)
    assert not one.agrees
    together = pool([one] * 4)
    assert together.agrees
    assert (together.offset_frames, together.seconds) == (3, 8.0)
    assert together.confidence == pytest.approx(2 * one.confidence)
    with pytest.raises(NoScoreError, match="nothing"):
        pool([])


def test_silence_is_not_judged(people: list) -> None:
    mouth, voice = cut(people[0])
    with pytest.raises(NoScoreError, match="speech"):
        judge_sync(mouth, FPS, np.zeros_like(voice))
    assert np.isnan(match_voices([mouth], [np.zeros_like(voice)], FPS)).all()
    assert find_speaker([mouth], FPS, np.zeros_like(voice))[0] is None


def test_mouths_and_delays_are_checked(people: list) -> None:
    mouth, voice = cut(people[0])
    with pytest.raises(InputError, match=r"\(80, 2\)"):
        judge_sync(mouth[:, :2], FPS, voice)
    with pytest.raises(InputError, match="delay of 40"):
        judge_sync(mouth, FPS, voice, delay=40)


def test_a_voice_makes_one_expect_its_mouth() -> None:
    spoken = random_utterance(np.random.default_rng([7, 41]), 4.0, 5.0)
    for fps in (25.0, 30.0):
        frames = int(spoken.seconds * fps)
        expected = expect_mouth(spoken.waveform, frames, fps)
        assert expected.shape == (frames, len(NAMES))
        truth = resample_visemes(spoken.visemes, frames, fps)[:, 0]
        assert np.corrcoef(expected[:, 0], truth)[0, 1] > 0.85


def test_expectations_look_only_around_themselves() -> None:
    network = VoiceMouth().eval()
    spectra = torch.rand(1, 3 * RATE, 32)
    changed = spectra.clone()
    changed[:, 2 * RATE :] = 0
    with torch.no_grad():
        assert torch.equal(network(spectra)[:, : 2 * RATE - 30], network(changed)[:, : 2 * RATE - 30])


def test_a_second_at_a_low_rate_is_shorter_than_the_delays() -> None:
    rng = np.random.default_rng(0)
    spoken = random_utterance(rng, 2.0, 3.0).waveform
    assert len(judge_sync(rng.random((12, 3)), 8.0, spoken).curve) == 2 * REACH + 1
