"""Faces are read back from pixels as they were drawn, also where a codec or a model has blurred them."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import pytest

from anytalker.miniature.corpus import CorpusSettings, RenderedClip, render_clip
from anytalker.miniature.exam import Scores, _mark_lips, _speakers, exam_clip
from anytalker.miniature.world.truth import FaceReader


@pytest.fixture(scope="module")
def clips() -> list[tuple[RenderedClip, list[FaceReader]]]:
    """A monologue and a conversation of people whom nothing was trained on, who all speak, and face readers."""
    made = [render_clip(1, CorpusSettings(persons=1, frames=49, unseen=True, silent_share=0.0))]
    made.append(next(clip for clip in map(partial(exam_clip, 2, frames=61), range(20)) if len(_speakers(clip)) == 2))
    return [
        (clip, [FaceReader(clip.scene, person, clip.frames.shape[1]) for person in range(len(clip.states))])
        for clip in made
    ]


@pytest.mark.slow
@pytest.mark.parametrize("blur", [0.0, 1.0])
def test_mouths_and_eyes_are_read_as_they_were_drawn(clips, blur: float) -> None:
    follows, off = [], []
    for clip, readers in clips:
        frames = clip.frames.astype(np.float32) / 255
        if blur:
            frames = np.stack([cv2.GaussianBlur(frame, (0, 0), blur) for frame in frames])
        for reader, states in zip(readers, clip.states, strict=True):
            opening = np.array([state.opening for state in states])
            if opening.std() > 0.05:
                follows.append(np.corrcoef(reader.openings(frames), opening)[0, 1])
            awake = np.array([state.blink < 0.3 for state in states])
            gaze = np.array([state.gaze[0] for state in states])
            off.append(np.abs(reader.gazes(frames) - gaze)[awake].mean())
    assert follows
    assert min(follows) > 0.97
    assert np.mean(off) < 0.1


def test_a_mouth_that_never_moves_follows_nobody(clips) -> None:
    clip, readers = clips[-1]
    frames = clip.frames.astype(np.float32) / 255
    moving, still = Scores(), Scores()
    _mark_lips(moving, clip, frames, readers)
    _mark_lips(still, clip, np.repeat(frames[:1], len(frames), axis=0), readers)
    assert moving.own_voice == [True, True]
    assert still.own_voice == [False, False]
    assert still.lip_sync == [0.0, 0.0]
