"""Conversations of drawn voices."""

import numpy as np

from anytalker.conditioning.timeline import speaking_spans
from anytalker.miniature.voices.conversation import Speaker, random_conversation, random_speakers


def test_people_have_different_voices_and_halves_share_none() -> None:
    seen, held_out = (
        {s.voice for seed in range(30) for s in random_speakers(np.random.default_rng(seed), 4, half)}
        for half in (False, True)
    )
    assert len(seen) > 20
    assert not seen & held_out
    speakers = random_speakers(np.random.default_rng(0), 8)
    assert len({speaker.voice.partition("+")[2] for speaker in speakers}) == 8


def test_everybody_talks_in_turn_and_the_seed_decides() -> None:
    first, second = (
        random_conversation(rng, random_speakers(rng, 3), 30.0) for rng in (np.random.default_rng(3) for _ in range(2))
    )
    assert np.array_equal(first.streams, second.streams)
    assert first.streams.shape == (3, 30 * 16000)
    assert np.abs(first.streams.sum(axis=0)).max() <= 1.0001
    spans = [speaking_spans(stream) for stream in first.streams]
    assert all(spans)
    spoken = sum(end - start for person in spans for start, end in person)
    assert 15 < spoken < 36


def test_a_speaker_begins_and_ends_with_sound() -> None:
    said = Speaker("de+m2", 170, 40, 50).say("Ja.")
    loud = np.abs(said).max()
    assert abs(said[0]) > 0.005 * loud
    assert abs(said[-1]) > 0.005 * loud
