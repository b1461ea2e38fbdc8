"""The miniature's test on unseen people, voices and conversations, against the exact truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from anytalker.conventions import Box
from anytalker.evaluation.lip_sync.mouths import background_psnr, mouth_motion
from anytalker.miniature.corpus import CorpusSettings, RenderedClip, render_clip
from anytalker.miniature.world.behaviour import LOOK, attention, is_speaking
from anytalker.miniature.world.people import FaceState
from anytalker.miniature.world.truth import FaceReader

EXAM_SEED = 5_000_000
"""Seed of the first scene; no corpus uses seeds this high."""

_PICTURE_HEIGHT = 288
_RESTING_TURN, _RESTING_SHIFT = 0.03, 0.01
"""Radians, and half face widths, below which a head is where the picture shows it: about a pixel of the video."""


@dataclass
class Scores:
    """Results of scenes with one number of people; lists hold one value a mouth, a matrix row, or a scene.

    Attributes:
        lip_sync: correlation of each speaking mouth's opening with the true one for its voice, without any lag.
        own_voice: for each speaking mouth of a scene with several people, whether its own voice fits it best.
        silence: motion of each silent mouth relative to the speaking one of the same scene.
        looking: share of each listener's frames in which the eyes turn to who speaks.
        by_chance: the same share for the opposite direction.
        background: PSNR in dB against the still picture, outside all faces.
        face: PSNR in dB of each face's box against the truth, while the true head is where the picture shows it.
        sharpness: mean magnitude of the gradient in each face's box, relative to the truth's.
    """

    lip_sync: list[float] = field(default_factory=list)
    own_voice: list[bool] = field(default_factory=list)
    silence: list[float] = field(default_factory=list)
    looking: list[float] = field(default_factory=list)
    by_chance: list[float] = field(default_factory=list)
    background: list[float] = field(default_factory=list)
    face: list[float] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """Mean of everything that was measured."""
        return {name: float(np.mean(values)) for name, values in vars(self).items() if len(values)}


def exam_clip(persons: int, seed: int, frames: int = 97) -> RenderedClip:
    """Scene `seed` of the exam: people and utterances that training never met, a monologue or a conversation."""
    settings = CorpusSettings(persons=persons, frames=frames, unseen=True, silent_share=0.0)
    return render_clip(EXAM_SEED + seed, settings)


def examine(
    pipeline: Any,
    persons: int,
    scenes: Sequence[int],
    frames: int = 97,
    on_scene: Callable[[int, Scores], None] = lambda seed, scores: None,
    on_video: Callable[[RenderedClip, np.ndarray, Sequence[FaceReader]], None] = lambda clip, frames, readers: None,
    silence: bool = True,
) -> Scores:
    """Score a pipeline on the scenes of the exam.

    Every scene is played as it is; with several people once more with only the first speaker's voice, to see whether
    the others keep still.

    Args:
        pipeline: an `AnyTalkerPipeline` of the miniature's world.
        persons: people a scene.
        scenes: seeds.
        frames: video frames a scene, 4n+1.
        on_scene: called after every scene.
        on_video: called with the truth, the frames (T, H, W, 3) in [0, 1] of its video, and a reader a person.
        silence: False leaves out the second video of every scene, and with it `Scores.silence`.
    """
    scores = Scores()
    for seed in scenes:
        clip = exam_clip(persons, seed, frames)
        video = play(pipeline, clip, clip.voices, seed)
        readers = [FaceReader(clip.scene, person, video.frames.shape[1]) for person in range(persons)]
        on_video(clip, video.frames, readers)
        _mark_lips(scores, clip, video.frames, readers)
        likeness, sharpness = score_faces(clip, video.frames, video.inputs.boxes)
        scores.face += likeness
        scores.sharpness += sharpness
        if persons > 1:
            _mark_eyes(scores, clip, video.frames, readers)
            if silence:
                _mark_silence(scores, pipeline, clip, seed)
        picture = np.asarray(video.inputs.image, dtype=np.float64) / 255
        scores.background.append(background_psnr(video.frames, picture, video.inputs.boxes))
        on_scene(seed, scores)
    return scores


def play(pipeline: Any, clip: RenderedClip, voices: Sequence[np.ndarray | None], seed: int) -> Any:
    """The pipeline's video of a clip's people with the given voices."""
    return pipeline(
        Image.fromarray(clip.scene.picture(_PICTURE_HEIGHT)),
        list(voices),
        faces=clip.scene.boxes(_PICTURE_HEIGHT),
        generator=torch.Generator().manual_seed(seed),
        max_frames=len(clip.frames),
        on_progress=lambda stage, done, total: None,
    )


def _truth(clip: RenderedClip) -> np.ndarray:
    return np.array([[state.opening for state in person] for person in clip.states])


def _speakers(clip: RenderedClip) -> list[int]:
    return [index for index, opening in enumerate(_truth(clip)) if opening.std() > 0.05]


def _mark_lips(scores: Scores, clip: RenderedClip, frames: np.ndarray, readers: Sequence[FaceReader]) -> None:
    truth, speakers = _truth(clip), _speakers(clip)
    seen = [reader.openings(frames) for reader in readers]
    fits = np.zeros((len(truth), len(truth)))
    for mouth, voice in product(speakers, speakers):
        if seen[mouth].std() > 1e-6:
            fits[mouth, voice] = np.corrcoef(seen[mouth], truth[voice])[0, 1]
    scores.lip_sync += [float(fits[person, person]) for person in speakers]
    if len(speakers) > 1:
        scores.own_voice += [bool(0 < fits[person, person] == fits[person].max()) for person in speakers]


def score_faces(clip: RenderedClip, frames: np.ndarray, boxes: Sequence[Box]) -> tuple[list[float], list[float]]:
    """PSNR in dB and sharpness of faces, see `Scores`.

    Args:
        clip: the truth.
        frames: float (T, H, W, 3) in [0, 1], to be scored.
        boxes: of the faces, in pixels of these frames.

    Returns:
        One PSNR a face whose true head rests at some moment, and one sharpness a face, both from left to right.
    """
    height, width = frames.shape[1:3]
    true = np.stack([_resized(frame, width, height) for frame in clip.scene.render(clip.states, height)]) / 255.0
    likeness, sharpness = [], []
    for (left, top, wide, tall), states in zip(boxes, clip.states, strict=True):
        part = slice(None), slice(top, top + tall), slice(left, left + wide)
        made, wanted = frames[part], true[part]
        sharpness.append(float(_gradient(made) / _gradient(wanted)))
        still = [index for index, state in enumerate(states) if _head_rests(state, states[0])]
        if still:
            error = np.square(made[still] - wanted[still]).mean()
            likeness.append(float(-10 * np.log10(max(error, 1e-12))))
    return likeness, sharpness


def _resized(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    return frame if frame.shape[:2] == (height, width) else cv2.resize(frame, (width, height))


def _gradient(frames: np.ndarray) -> float:
    """Mean magnitude of the gradient of frames (n, H, W, 3)."""
    across, down = np.diff(frames, axis=2)[:, :-1], np.diff(frames, axis=1)[:, :, :-1]
    return float(np.hypot(across, down).mean())


def _head_rests(state: FaceState, picture: FaceState) -> bool:
    turned = np.abs(np.subtract(state.turn, picture.turn)).max()
    moved = np.abs(np.subtract(state.shift, picture.shift)).max()
    return bool(turned < _RESTING_TURN and moved < _RESTING_SHIFT)


def _mark_eyes(scores: Scores, clip: RenderedClip, frames: np.ndarray, readers: Sequence[FaceReader]) -> None:
    openings = np.stack([np.repeat(opening[:, None], 4, axis=1) for opening in _truth(clip)])
    speaking = np.stack([is_speaking(track, 24.0) for track in openings])
    for person in range(len(speaking)):
        side = attention(speaking, person)
        listening = (side != 0) & _settled(side, 8)
        if listening.sum() < 8:
            continue
        gaze = readers[person].gazes(frames)[listening] * side[listening]
        scores.looking.append(float((gaze > LOOK / 2).mean()))
        scores.by_chance.append(float((gaze < -LOOK / 2).mean()))


def _settled(side: np.ndarray, frames: int) -> np.ndarray:
    """Where attention has stayed the same for that many frames: eyes need a moment to follow a change of speaker."""
    return np.array([np.ptp(side[max(0, frame - frames) : frame + 1]) == 0 for frame in range(len(side))])


def _mark_silence(scores: Scores, pipeline: Any, clip: RenderedClip, seed: int) -> None:
    speakers = _speakers(clip)
    if not speakers:
        return
    speaker = speakers[0]
    voices = [voice if person == speaker else None for person, voice in enumerate(clip.voices)]
    video = play(pipeline, clip, voices, seed)
    motion = [mouth_motion(video.frames, box) for box in video.inputs.boxes]
    scores.silence += [value / motion[speaker] for person, value in enumerate(motion) if person != speaker]
