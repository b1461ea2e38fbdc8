"""The first look at a file of footage: its shots, and who speaks when, before any shot is examined."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import BaseModel

from anytalker.curation.footage import FPS, DamagedFootage, Footage
from anytalker.curation.piece import Turn
from anytalker.curation.shots import find_shots
from anytalker.curation.spans import joined
from anytalker.diarization.diarize import diarize
from anytalker.media.sound import Samples

_HEIGHT = 96
"""Height in pixels of the pictures in which shots are looked for."""


class Survey(BaseModel):
    """What is known of a file.

    Attributes:
        path: the file.
        width, height: in pixels.
        frames: how many there are at `footage.FPS` a second.
        cuts: seconds at which shots change.
        shots: (first frame, end) of each.
        turns: who speaks when, in seconds.
        overlaps: (start, end) in seconds where several speak, or may do so.
        doubts: who else may speak when, in seconds.
        voices: the embedding of each voice.
        problem: what is wrong with the file; it is used up to there.
        failed: whether that was not expected, so that another run may try again.
    """

    path: str
    width: int = 0
    height: int = 0
    frames: int = 0
    cuts: list[float] = []
    shots: list[tuple[int, int]] = []
    turns: list[Turn] = []
    overlaps: list[tuple[float, float]] = []
    doubts: list[Turn] = []
    voices: list[list[float]] = []
    problem: str | None = None
    failed: bool = False


def survey(footage: Footage, sound: Samples, speakers: int | None = None) -> Survey:
    """Look through a file once; pictures are seen as a stream.

    Args:
        footage: the file.
        sound: its sound.
        speakers: how many voices it has; None: estimated.

    Raises:
        InputError: if no picture of it can be decoded.
    """
    width, height = footage.probe()
    found = Survey(path=str(footage.path), width=width, height=height)
    for shot in find_shots(_counted(footage, found), FPS):
        if found.shots:
            found.cuts.append(round(shot.cut / FPS, 3))
        found.shots.append((shot.start, shot.end))
    heard = diarize(sound, num_speakers=speakers)
    found.turns, found.doubts = (
        [Turn(speaker=one.speaker, start=round(one.start, 3), end=round(one.end, 3)) for one in turns]
        for turns in (heard.turns, heard.doubtful)
    )
    several = joined([*heard.overlaps, *((one.start, one.end) for one in heard.doubtful)])
    found.overlaps = [(round(start, 3), round(end, 3)) for start, end in several]
    found.voices = [[round(float(value), 4) for value in one] for one in heard.embeddings]
    return found


def _counted(footage: Footage, found: Survey) -> Iterator[np.ndarray]:
    """The frames, counted; where the file breaks off they end, and that is noted."""
    try:
        for frame in footage.frames(height=_HEIGHT):
            found.frames += 1
            yield frame
    except DamagedFootage as error:
        if not found.frames:
            raise
        found.problem = f"{error} It is used up to {error.seconds:.2f} s."
