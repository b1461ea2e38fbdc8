"""What goes through the stages of curation: pieces of footage, and what was dropped and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict

from anytalker.conditioning.face_mesh.mouths import FaceMotion, follow_faces
from anytalker.curation.footage import FPS, Footage
from anytalker.curation.lip_sync import SyncJudgement
from anytalker.curation.spans import Span
from anytalker.media.recordings import SAMPLE_RATE
from anytalker.media.sound import Samples

_CACHED_BYTES = 600 * 2**20
_THIN = 5
"""Where not all frames fit into that, every fifth one is kept, for those stages that look at no more."""


class Source(BaseModel):
    """Where something comes from: a file, and seconds of it."""

    model_config = ConfigDict(frozen=True)

    path: str
    start: float
    end: float


class Dropped(BaseModel):
    """A stretch of footage that is not used: which stage dropped it, why, and the numbers it looked at."""

    source: Source
    stage: str
    reason: str
    numbers: dict[str, float] = {}


class Turn(BaseModel):
    """Speech of one voice: its number in the file, and seconds of the footage."""

    speaker: int
    start: float
    end: float


@dataclass(frozen=True)
class Face:
    """A person who is visible throughout a piece.

    Attributes:
        boxes: float32 (T, 4), left, top, right, bottom in pixels of the footage, one a frame.
        speaking: (start, end) in seconds of the footage in which this person speaks.
        voice: number of the voice in the file; None for one who is silent.
        sync_confidence: how well lips and voice agree.
        agreement: the same for all that this person says in the shot.
    """

    boxes: np.ndarray
    speaking: tuple[Span, ...] = ()
    voice: int | None = None
    sync_confidence: float | None = None
    agreement: SyncJudgement | None = None


@dataclass(frozen=True)
class Piece:
    """A stretch of one shot on its way through the stages.

    Attributes:
        footage: the file.
        start, end: frames of the footage, the end exclusive.
        sound: the whole file's sound at 16 kHz.
        turns: all turns of the file's voices.
        doubts: who else may speak when, while another does.
        faces: who is visible, left to right; empty before they were looked for.
        delay: how many frames the sound comes late; curated clips are corrected by it.
        crop: (left, top, right, bottom) in pixels without black bars; None: all of the frame.
        numbers: what the stages measured, by "stage.name".
        pictures: its frames, kept for all stages.
        motion: of mouths, eyes and heads, where it was looked at.
    """

    footage: Footage
    start: int
    end: int
    sound: Samples
    turns: tuple[Turn, ...] = ()
    doubts: tuple[Turn, ...] = ()
    faces: tuple[Face, ...] = ()
    delay: int = 0
    crop: tuple[int, int, int, int] | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    pictures: Pictures | None = None
    motion: FaceMotion | None = None

    @property
    def seconds(self) -> float:
        """Length."""
        return (self.end - self.start) / FPS

    @property
    def source(self) -> Source:
        """Where the piece comes from."""
        return Source(path=str(self.footage.path), start=self.start / FPS, end=self.end / FPS)

    def frames(self, every: int = 1) -> Iterator[np.ndarray]:
        """Its frames, or every n-th, uint8 RGB (H, W, 3)."""
        if self.pictures is not None:
            yield from self.pictures.frames(self.start, self.end, every)
            return
        yield from self.footage.frames(self.start, self.end, every=every)

    def heard(self, start: float | None = None, end: float | None = None, delay: int | None = None) -> np.ndarray:
        """The sound that belongs to the pictures between two moments in seconds of the footage, float32 (samples,)."""
        late = (self.delay if delay is None else delay) / FPS
        begin = self.start / FPS if start is None else start
        stop = self.end / FPS if end is None else end
        first, last = round((begin + late) * SAMPLE_RATE), round((stop + late) * SAMPLE_RATE)
        part = self.sound[max(0, first) : max(0, last)]
        return np.pad(part, (max(0, -first), 0))[: last - first] if first < 0 else part

    def drop(self, stage: str, reason: str, **numbers: float) -> Dropped:
        """This piece as dropped, with what was measured so far."""
        return Dropped(source=self.source, stage=stage, reason=reason, numbers=rounded(self.numbers | numbers))

    def measured(self, **numbers: float) -> Piece:
        """The same piece with more numbers."""
        return replace(self, numbers=self.numbers | numbers)

    def part(self, start: int, end: int) -> Piece:
        """A part of it, by frames of the footage."""
        inner = slice(start - self.start, end - self.start)
        faces = tuple(replace(face, boxes=face.boxes[inner]) for face in self.faces)
        motion = None
        if self.motion is not None:
            motion = FaceMotion(**{name: values[inner] for name, values in vars(self.motion).items()})
        return replace(self, start=start, end=end, faces=faces, motion=motion)

    def followed(self) -> tuple[Piece, FaceMotion]:
        """The same piece with the motion of its faces, and that."""
        if self.motion is not None:
            return self, self.motion
        motion = follow_faces(self.frames(), np.stack([face.boxes for face in self.faces], axis=1))
        return replace(self, motion=motion), motion


class Pictures:
    """Frames of a stretch of footage, kept in memory if they are few enough, else decoded whenever they are wanted."""

    def __init__(self, footage: Footage, start: int, end: int) -> None:
        self._footage, self._start, self._end = footage, start, end
        self._kept: list[np.ndarray] = []
        self._every: int | None = None

    def frames(self, start: int, end: int, every: int = 1) -> Iterator[np.ndarray]:
        """Frames of the footage, or every n-th of them, uint8 RGB (H, W, 3)."""
        if self._every is None:
            self._read()
        step = self._every
        if step and every % step == 0 and (start - self._start) % step == 0:
            yield from self._kept[(start - self._start) // step : -(-(end - self._start) // step) : every // step]
        else:
            yield from self._footage.frames(start, end, every=every)

    def _read(self) -> None:
        """Keep all frames, or every fifth, or none."""
        self._every = 0
        for number, frame in enumerate(self._footage.frames(self._start, self._end)):
            if number == 0:
                share = frame.nbytes * (self._end - self._start) / _CACHED_BYTES
                self._every = 1 if share <= 1 else _THIN if share <= _THIN else 0
            if not self._every:
                return
            if number % self._every == 0:
                self._kept.append(frame)


class Stage(Protocol):
    """One step of curation. It may be replaced by any other that keeps to this."""

    name: str

    def __call__(self, piece: Piece) -> Iterable[Piece | Dropped]:
        """What becomes of a piece: itself with more known, parts of it, or a reason why it is dropped."""


def run_stages(piece: Piece, stages: Iterable[Stage]) -> tuple[list[Piece], list[Dropped]]:
    """A piece through all stages: what is left of it, and what was dropped on the way."""
    left, dropped = [piece], []
    for stage in stages:
        passed: list[Piece] = []
        for one in left:
            for result in stage(one):
                if isinstance(result, Dropped):
                    dropped.append(result)
                else:
                    passed.append(result)
        left = passed
    return left, dropped


def rounded(numbers: dict[str, Any]) -> dict[str, float]:
    """Numbers with five digits behind the point, as they are written down."""
    return {name: round(float(value), 5) for name, value in sorted(numbers.items())}
