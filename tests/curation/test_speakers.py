"""Whose voice it is: with mouths that were made from voices, as a camera would see them, and no pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anytalker.conditioning.face_mesh.mouths import FaceMotion
from anytalker.curation.config import CurationConfig
from anytalker.curation.footage import Footage
from anytalker.curation.piece import Dropped, Face, Piece, Turn, run_stages
from anytalker.curation.stages.clips import ClipsStage
from anytalker.curation.stages.speakers import SpeakersStage, still_lips
from anytalker.curation.stages.sync import SyncStage
from anytalker.miniature.voices.speech import SAMPLE_RATE, random_utterance, resample_visemes
from tests.curation.test_lip_sync import seen_mouth

FPS, FRAMES, LATE = 25, 250, 5
CONFIG = CurationConfig()
STAGES = [SpeakersStage(CONFIG.speech, CONFIG.sync), ClipsStage(CONFIG.clips, CONFIG.speech), SyncStage(CONFIG.sync)]


def told(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten seconds of a mouth (T, 3) and of its voice (samples,)."""
    spoken = random_utterance(np.random.default_rng([seed, 43]), 10.2, 12.0)
    visemes = resample_visemes(spoken.visemes, FRAMES, FPS)
    return seen_mouth(visemes, seed), spoken.waveform[: FRAMES * SAMPLE_RATE // FPS].astype(np.float32)


@pytest.fixture(scope="module")
def people() -> list[tuple[np.ndarray, np.ndarray]]:
    return [told(seed) for seed in range(2)]


def piece_of(mouths: list[np.ndarray], sound: np.ndarray, turns: list[Turn], doubts: tuple[Turn, ...] = ()) -> Piece:
    """A shot of ten seconds whose faces were already followed."""
    opening, height, width = np.stack(mouths, axis=2).transpose(1, 0, 2)
    still = np.zeros_like(opening)
    motion = FaceMotion(opening, width, height, np.zeros((*still.shape, 2)), still, still, still, still + 1)
    faces = tuple(Face(np.tile([0, 0, 60, 60], (FRAMES, 1)).astype(np.float32)) for _ in mouths)
    return Piece(Footage(Path("talk.mp4")), 0, FRAMES, sound, tuple(turns), doubts, faces, motion=motion)


def frames_kept(piece: Piece, stages: list = STAGES) -> tuple[np.ndarray, list[Dropped], list[Piece]]:
    kept, dropped = run_stages(piece, stages)
    frames = np.zeros(FRAMES, bool)
    for clip in kept:
        frames[clip.start : clip.end] = True
    return frames, dropped, kept


def test_lips_that_prove_little_keep_their_clips_delayed_or_not(people: list) -> None:
    """As with real people: four seconds alone prove nothing, ten seconds do."""
    mouth, voice = people[0]
    faint = mouth + np.random.default_rng(1).normal(0, 0.28, mouth.shape)
    delayed = np.concatenate([np.zeros(LATE * SAMPLE_RATE // FPS, np.float32), voice])[: len(voice)]
    now, _, clips = frames_kept(piece_of([faint], voice, [Turn(speaker=0, start=0.0, end=10.0)]))
    late, _, later = frames_kept(piece_of([faint], delayed, [Turn(speaker=0, start=LATE / FPS, end=10.0)]))
    assert {clip.delay for clip in clips} == {0}
    assert {clip.delay for clip in later} == {LATE}
    assert min(clip.numbers["sync.confidence_0"] for clip in clips) < CONFIG.sync.min_confidence
    assert now[5:-5].all()
    assert late[5 : -5 - LATE].all()


def test_a_foreign_voice_in_a_part_of_a_shot_is_dropped(people: list) -> None:
    (mouth, voice), (_, other) = people
    cut = 6 * SAMPLE_RATE
    sound = np.concatenate([voice[:cut], other[cut:]])
    frames, dropped, _ = frames_kept(piece_of([mouth], sound, [Turn(speaker=0, start=0.0, end=10.0)]))
    assert frames[5:120].all()
    assert not frames[7 * FPS :].any()
    assert dropped[-1].reason == "lips and voice don't go together"
    assert dropped[-1].numbers["sync.likeness_0"] < CONFIG.sync.min_likeness


@pytest.fixture(scope="module")
def exchange(people: list) -> Piece:
    """The first person speaks for five seconds and closes the lips, and then the second one does the same."""
    half = FRAMES // 2
    mouths = [mouth.copy() for mouth, _ in people]
    closed = np.array([0.0, 0.2, 0.6])
    mouths[0][half:], mouths[1][:half] = closed, closed
    sound = np.concatenate([people[0][1][: 5 * SAMPLE_RATE], people[1][1][5 * SAMPLE_RATE :]])
    return piece_of(mouths, sound, [Turn(speaker=0, start=0.0, end=5.4), Turn(speaker=1, start=4.8, end=10.0)])


def test_turns_that_overlap_end_where_lips_close(exchange: Piece) -> None:
    frames, _, kept = frames_kept(exchange)
    assert frames[5:115].all()
    assert frames[135:-5].all()
    first, last = kept[0], kept[-1]
    assert [face.voice for face in first.faces] == [0, 1]
    assert not last.faces[0].speaking
    assert last.faces[1].speaking[0][0] < 5.3


def test_a_doubt_counts_where_lips_move_or_nobody_visible_is_meant(exchange: Piece) -> None:
    still, absent = (Turn(speaker=who, start=2.0, end=2.4) for who in (1, 7))
    clean = frames_kept(exchange, STAGES[:1])[0]
    for harmless in (still, absent):
        assert np.array_equal(frames_kept(replace(exchange, doubts=(harmless,)), STAGES[:1])[0], clean)
    lips = exchange.motion.opening.copy()
    lips[45:65, 1] += np.resize([0.0, 0.1], 20)
    moving = replace(exchange, motion=replace(exchange.motion, opening=lips), doubts=(still,))
    frames, dropped, _ = frames_kept(moving, STAGES[:1])
    assert not frames[50:60].any()
    assert "voices overlap" in {one.reason for one in dropped}
    turns = (exchange.turns[0], Turn(speaker=1, start=4.8, end=8.3), Turn(speaker=7, start=8.4, end=10.0))
    lips = {name: values.copy() for name, values in vars(exchange.motion).items()}
    for name in ("opening", "height", "width"):
        lips[name][205:] = lips[name][205]
    unseen = replace(exchange, turns=turns, doubts=(absent,), motion=FaceMotion(**lips))
    assert not frames_kept(unseen, STAGES[:1])[0][50:60].any(), "that voice is heard elsewhere in the shot"


def test_lips_are_still_only_where_they_are_seen(exchange: Piece) -> None:
    opening = exchange.motion.opening.copy()
    opening[40:45, 1] = np.nan
    still = still_lips(replace(exchange.motion, opening=opening))
    assert still[:30, 1].all()
    assert not still[40:45, 1].any()
    assert still[:120, 0].mean() < 0.3
