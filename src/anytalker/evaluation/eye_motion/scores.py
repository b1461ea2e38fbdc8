"""Interactivity: how much the eyes of those who listen move (paper section 5; protocol "release" is the authors' code).

A face is seen through a square canvas that follows it smoothly; motion is the mean displacement of its eye points from
one frame to the next on that canvas, in canvas pixels, over the time in which its person does not speak.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from anytalker.errors import InputError, NoScoreError

Protocol = Literal["release", "paper"]
Spans = Sequence[Sequence[float]]

_EYES = (35, 41, 42, 39, 37, 36, 89, 95, 96, 93, 91, 90)
_BROWS = (43, 48, 49, 51, 50, 102, 103, 104, 105, 101)
_POINTS = 106


@dataclass(frozen=True)
class ProtocolRules:
    """What a protocol fixes.

    Attributes:
        points: indices of the 106-point face model whose motion counts.
        canvas: side of the canvas in pixels.
        smallest_crop: smallest side in pixels of the square that is scaled to the canvas.
        lost_share: largest share of a person's frames that may lack a face.
        people: fewest people of whom there is a score.
    """

    points: tuple[int, ...]
    canvas: int
    smallest_crop: int
    lost_share: float
    people: int = 1


RULES: dict[Protocol, ProtocolRules] = {
    "release": ProtocolRules(_EYES + _BROWS, canvas=224, smallest_crop=224, lost_share=0.0, people=2),
    "paper": ProtocolRules(_EYES, canvas=256, smallest_crop=1, lost_share=0.2),
}
CENTER_GAIN = 0.7
"""Share of a new box centre in the smoothed one (release)."""
FREEZE_DISTANCE = 10.0
"""Larger jumps are errors: a box centre's in frame pixels, the landmarks' mean in canvas pixels (paper, release)."""


@dataclass(frozen=True)
class ListeningSpan:
    """A stretch in which a person does not speak: seconds from `start` to `end`, and its mean motion."""

    start: float
    end: float
    motion: float


@dataclass(frozen=True)
class Interactivity:
    """Eye motion of listeners, in canvas pixels a frame.

    Attributes:
        overall: mean over everybody's listening time.
        per_person: the same for each person; NaN for one who never listens.
        spans: each person's listening spans.
        interval: 95% bootstrap confidence interval of `overall`, over half seconds of listening.
        listening_seconds: each person's listening time that was measured.
        motion: (T, P) everybody's motion from the frame before, speaking or not; NaN where there is none.
    """

    overall: float
    per_person: list[float]
    spans: list[list[ListeningSpan]]
    interval: tuple[float, float]
    listening_seconds: list[float]
    motion: np.ndarray


def interactivity(
    landmarks: np.ndarray,
    boxes: np.ndarray,
    frame_size: tuple[int, int],
    fps: float = 25.0,
    speaking: Sequence[Spans] | None = None,
    protocol: str = "release",
) -> Interactivity:
    """Score the eye motion of people while they listen.

    Args:
        landmarks: (T, P, 106, 2) points in pixels, NaN where a face is missing; each person keeps its index.
        boxes: (T, P, 4) face boxes (left, top, right, bottom) in pixels, NaN where missing.
        frame_size: (width, height) of the video in pixels.
        fps: video frames a second.
        speaking: for each person the spans [start, end] in seconds in which it speaks; None: nobody ever speaks.
        protocol: "release" (224 canvas, eyes and brows, two people or more, every face in every frame) or "paper" (256
            canvas, eyes alone; up to a fifth of a person's frames may be lost, and one person will do).

    Raises:
        InputError: for arrays, spans or a protocol that can't be used.
        NoScoreError: if there is no score, saying why: faces missing, one person alone, or nobody ever listens.
    """
    points, places, rules = _checked(landmarks, boxes, frame_size, fps, protocol)
    people = points.shape[1]
    spoken = [[] for _ in range(people)] if speaking is None else [_checked_spans(spans) for spans in speaking]
    if len(spoken) != people:
        raise InputError(f"speaking names {len(spoken)} people, the tracks have {people}.")
    _check_faces(points, places, rules)
    steps = _all_motion(points, places, frame_size, rules)
    silent = np.stack([is_silent(spans, len(points), fps) for spans in spoken], axis=1)
    counted = silent & np.isfinite(steps)
    if not counted.any():
        raise NoScoreError("Nobody ever listens in this clip, so there is no eye motion of listeners to measure.")
    values = [steps[counted[:, person], person] for person in range(people)]
    return Interactivity(
        overall=float(np.concatenate(values).mean()),
        per_person=[float(own.mean()) if len(own) else math.nan for own in values],
        spans=[listening_spans(steps[:, person], counted[:, person], fps) for person in range(people)],
        interval=bootstrap_interval(values, block=max(1, round(fps / 2))),
        listening_seconds=[len(own) / fps for own in values],
        motion=steps,
    )


def eye_motion(
    landmarks: np.ndarray, boxes: np.ndarray, frame_size: tuple[int, int], protocol: str = "release"
) -> np.ndarray:
    """Everybody's eye motion from the frame before, (T, P) canvas pixels, NaN where there is none.

    Arguments and errors as for `interactivity`.
    """
    points, places, rules = _checked(landmarks, boxes, frame_size, 1.0, protocol)
    return _all_motion(points, places, frame_size, rules)


def _all_motion(
    points: np.ndarray, places: np.ndarray, frame_size: tuple[int, int], rules: ProtocolRules
) -> np.ndarray:
    crop = crop_side(places, frame_size, rules.smallest_crop)
    people = range(points.shape[1])
    return np.stack([person_motion(points[:, i], places[:, i], frame_size, crop, rules) for i in people], axis=1)


def is_silent(spans: Spans, frames: int, fps: float) -> np.ndarray:
    """For each of `frames` frames, (T,) bool, whether its time frame/fps lies in none of the spans (ends included)."""
    times = np.arange(frames) / fps
    silent = np.ones(frames, dtype=bool)
    for start, end in spans:
        silent &= ~((times >= start) & (times <= end))
    return silent


def square_corners(box: np.ndarray, frame_size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A face box as a square of its longer side, pushed into the frame and cut to it where it is larger (release)."""
    left, top, right, bottom = map(float, box)
    side = max(right - left, bottom - top)
    corners = []
    for middle, limit in (((left + right) / 2, frame_size[0]), ((top + bottom) / 2, frame_size[1])):
        low, high = middle - side / 2, middle + side / 2
        if low < 0:
            low, high = 0.0, side
        if high > limit:
            low, high = limit - side, float(limit)
        corners.append((max(0.0, low), min(float(limit), high)))
    return corners[0][0], corners[1][0], corners[0][1], corners[1][1]


def crop_side(boxes: np.ndarray, frame_size: tuple[int, int], smallest: int) -> int:
    """Side in pixels of everybody's crop: that of the clip's largest square box, of frames where all are seen."""
    whole = boxes[np.isfinite(boxes).all(axis=(1, 2))]
    squares = [square_corners(box, frame_size) for box in whole.reshape(-1, 4)]
    return max([smallest, *(int(right - left) for left, _, right, _ in squares)])


def person_motion(
    landmarks: np.ndarray, boxes: np.ndarray, frame_size: tuple[int, int], crop: int, rules: ProtocolRules
) -> np.ndarray:
    """Mean displacement of one face's points from the frame before, on the canvas.

    The crop follows the smoothed centre of the square box; jumps of the centre are ignored, jumps of the landmarks
    freeze them.

    Args:
        landmarks: (T, 106, 2), NaN where missing.
        boxes: (T, 4), NaN where missing.
        frame_size: (width, height).
        crop: side of the crop in pixels.
        rules: canvas and points.

    Returns:
        (T,) canvas pixels; NaN where there is no earlier face, or none now.
    """
    motion = np.full(len(landmarks), np.nan)
    center: np.ndarray | None = None
    steady_center: np.ndarray | None = None
    steady: np.ndarray | None = None
    last: np.ndarray | None = None
    scale, chosen = rules.canvas / crop, list(rules.points)
    found, boxed = np.isfinite(landmarks).all(axis=(1, 2)), np.isfinite(boxes).all(axis=1)
    for frame in np.flatnonzero(found):
        points = landmarks[frame]
        if boxed[frame]:
            left, top, right, bottom = square_corners(boxes[frame], frame_size)
            new = np.array([(left + right) / 2, (top + bottom) / 2])
            jumped = steady_center is not None and np.linalg.norm(new - steady_center) > FREEZE_DISTANCE
            if jumped and steady_center is not None:
                new = steady_center
            center = new if center is None else CENTER_GAIN * new + (1 - CENTER_GAIN) * center
            steady_center = steady_center if jumped else center
        if center is None:
            continue
        on_canvas = (points - (center - crop / 2).astype(points.dtype)) * points.dtype.type(scale)
        if steady is not None and _mean_distance(on_canvas, steady) > FREEZE_DISTANCE:
            on_canvas = steady
        if last is not None:
            motion[frame] = _mean_distance(on_canvas[chosen], last[chosen])
        last = steady = on_canvas
    return motion


def _mean_distance(points: np.ndarray, others: np.ndarray) -> float:
    return np.sqrt(np.square(points - others).sum(axis=-1)).mean()


def listening_spans(steps: np.ndarray, counted: np.ndarray, fps: float) -> list[ListeningSpan]:
    """Runs of counted steps as spans of seconds with their mean motion; both (T,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], counted, [False]]).astype(int)))
    return [
        ListeningSpan(float(start / fps), float(end / fps), float(steps[start:end].mean()))
        for start, end in edges.reshape(-1, 2)
    ]


def bootstrap_interval(
    values: Sequence[np.ndarray], block: int, confidence: float = 0.95, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Confidence interval of the mean of several series, drawn in blocks, as neighbouring values are alike.

    Args:
        values: series (n,), such as one a person.
        block: values that are drawn together.
        confidence: share of the draws inside.
        draws: how often the blocks are drawn with replacement.
        seed: of the draws.

    Returns:
        (low, high); the same value twice if there is only one block.
    """
    blocks = [part for series in values for part in np.array_split(series, max(1, len(series) // block)) if len(part)]
    sums = np.array([part.sum() for part in blocks])
    counts = np.array([len(part) for part in blocks])
    chosen = np.random.default_rng(seed).integers(len(blocks), size=(draws, len(blocks)))
    means = sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _checked(
    landmarks: np.ndarray, boxes: np.ndarray, frame_size: tuple[int, int], fps: float, protocol: str
) -> tuple[np.ndarray, np.ndarray, ProtocolRules]:
    points, places = np.asarray(landmarks, dtype=np.float32), np.asarray(boxes, dtype=np.float32)
    if points.ndim != 4 or points.shape[2:] != (_POINTS, 2) or points.shape[1] == 0:
        raise InputError(f"landmarks has the shape {points.shape}; it must be (frames, people, {_POINTS}, 2).")
    if places.shape != (*points.shape[:2], 4):
        raise InputError(
            f"boxes has the shape {places.shape}; for these landmarks it must be {(*points.shape[:2], 4)}."
        )
    if not (math.isfinite(fps) and fps > 0):
        raise InputError(f"fps is {fps}; it must be over 0.")
    if len(frame_size) != 2 or min(frame_size) < 1:
        raise InputError(f"frame_size is {frame_size}; it must be (width, height) in pixels.")
    for name, rules in RULES.items():
        if name == protocol:
            return points, places, rules
    raise InputError(f"The protocol {protocol!r} is unknown; it must be one of {', '.join(get_args(Protocol))}.")


def _checked_spans(spans: Spans) -> list[tuple[float, float]]:
    checked = [tuple(map(float, span)) for span in spans]
    for span in checked:
        if len(span) != 2 or not span[0] <= span[1]:
            raise InputError(f"The speaking span {list(span)} can't be used; it must be [start, end] in seconds.")
    return [(span[0], span[1]) for span in checked]


def _check_faces(points: np.ndarray, boxes: np.ndarray, rules: ProtocolRules) -> None:
    """Protocol "release": from the first frame with a face on every frame must show everybody (release)."""
    if points.shape[1] < rules.people:
        raise NoScoreError(
            f"There is one person in this clip; the release's protocol needs {rules.people}. Use --protocol paper."
        )
    seen = np.isfinite(points).all(axis=(2, 3))
    if not seen.any():
        raise NoScoreError("No face is seen in this clip.")
    started = int(seen.any(axis=1).argmax())
    lost = ~seen[started:]
    for person, share in enumerate(lost.mean(axis=0)):
        if share > rules.lost_share:
            first = started + int(lost[:, person].argmax())
            count = f"{lost[:, person].sum()} of {len(lost)} frames"
            raise NoScoreError(f"Person {person + 1} is missing in {count}, first in frame {first}.")
    if not np.isfinite(boxes).all(axis=2).any(axis=0).all():
        raise NoScoreError("There is a person without any face box.")
