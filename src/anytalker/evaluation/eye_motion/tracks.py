"""Face tracks: where everybody's face is in every frame, each person under one index, through crossings and losses.

The linking is our own: ByteTrack has left `supervision` for `trackers`, which needs opencv-python where we have
opencv-python-headless (both install `cv2`), and it links by overlap alone, without looks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from anytalker.errors import InputError
from anytalker.files import atomic_path

SUFFIXES = (".tracks.safetensors", ".tracks.npz")


@dataclass(frozen=True)
class Detection:
    """A face in one frame.

    `box` (4,) left, top, right, bottom in pixels; `landmarks` (106, 2) in pixels or None; `embedding` (d,), alike for
    the same person, or None.
    """

    box: np.ndarray
    landmarks: np.ndarray | None = None
    embedding: np.ndarray | None = None


class FrameDetector(Protocol):
    """Finds faces in frames of a video."""

    def __call__(self, frame: np.ndarray) -> list[Detection]:
        """Faces in a frame, uint8 RGB (H, W, 3)."""


@dataclass(frozen=True)
class FaceTracks:
    """Tracks of P people over T frames.

    Attributes:
        boxes: float32 (T, P, 4), left, top, right, bottom in pixels; NaN where a face is missing.
        landmarks: float32 (T, P, 106, 2) in pixels, NaN where missing; None: there are boxes only.
        frame_size: (width, height) in pixels.
        fps: frames a second.
    """

    boxes: np.ndarray
    landmarks: np.ndarray | None
    frame_size: tuple[int, int]
    fps: float

    def save(self, path: str | Path) -> None:
        """Write as safetensors, whole or not at all."""
        from safetensors.numpy import save_file

        tensors = {"boxes": np.ascontiguousarray(self.boxes, dtype=np.float32)}
        if self.landmarks is not None:
            tensors["landmarks"] = np.ascontiguousarray(self.landmarks, dtype=np.float32)
        about = {"frame_size": json.dumps(list(self.frame_size)), "fps": repr(float(self.fps))}
        with atomic_path(path) as partial:
            save_file(tensors, partial, metadata=about)

    @classmethod
    def load(cls, path: str | Path, frame_size: tuple[int, int] | None = None, fps: float | None = None) -> FaceTracks:
        """Read tracks from `.safetensors` or `.npz` (arrays "boxes" and "landmarks", perhaps "frame_size" and "fps").

        Args:
            path: the file.
            frame_size: of the video, where the file doesn't say.
            fps: of the video, where the file doesn't say.

        Raises:
            InputError: if it can't be read or doesn't hold tracks.
        """
        source = Path(path)
        try:
            arrays, about = _read_npz(source) if source.suffix == ".npz" else _read_safetensors(source)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{source} holds no face tracks that can be read: {error}") from error
        except Exception as error:
            raise InputError(f"{source} is damaged: {error}") from error
        size, rate = about.get("frame_size", frame_size), about.get("fps", fps)
        if "boxes" not in arrays or size is None or rate is None:
            raise InputError(f"{source} holds no face tracks: it needs boxes, frame_size and fps.")
        boxes, landmarks = arrays["boxes"], arrays.get("landmarks")
        if boxes.ndim != 3 or boxes.shape[2] != 4:
            raise InputError(f"{source}: boxes has the shape {boxes.shape}; it must be (frames, people, 4).")
        if landmarks is not None and landmarks.shape != (*boxes.shape[:2], 106, 2):
            raise InputError(
                f"{source}: landmarks has the shape {landmarks.shape}; it must be (frames, people, 106, 2)."
            )
        return cls(boxes, landmarks, (int(size[0]), int(size[1])), float(rate))


def find_tracks(video: Path, folder: Path | None = None) -> Path | None:
    """The file of tracks of a video: NAME.tracks.safetensors or .npz in `folder` or beside the video."""
    for place in (folder, video.parent):
        for suffix in SUFFIXES:
            if place is not None and (place / (video.stem + suffix)).is_file():
                return place / (video.stem + suffix)
    return None


class FaceLinker:
    """Gives every detection its person, frame by frame.

    A face continues the track whose predicted place (constant speed) and looks fit it best, all at once (Hungarian
    method), so crossing people keep their index; a face that was lost for a moment is taken up again.

    Args:
        longest_gap: frames for which a lost face is waited for.
        reach: farthest jump, in face sizes, from where a face is expected.
        looks_weight: how much a complete change of looks counts, in face sizes.
    """

    def __init__(self, longest_gap: int = 25, reach: float = 1.5, looks_weight: float = 1.5) -> None:
        self.longest_gap, self.reach, self.looks_weight = longest_gap, reach, looks_weight
        self.tracks: list[_Track] = []
        self.frames = 0

    def add(self, detections: Sequence[Detection], frame: np.ndarray | None = None) -> None:
        """Link the next frame's faces; with the `frame` (H, W, 3) itself, looks help where there is no embedding."""
        from scipy.optimize import linear_sum_assignment

        looks = [_looks(detection, frame) for detection in detections]
        alive = [track for track in self.tracks if self.frames - track.seen[-1] <= self.longest_gap]
        cost = np.full((len(alive), len(detections)), np.inf)
        for row, track in enumerate(alive):
            for column, detection in enumerate(detections):
                cost[row, column] = self._cost(track, detection, looks[column])
        rows, columns = linear_sum_assignment(np.where(np.isfinite(cost), cost, 1e6))
        taken = set()
        for row, column in zip(rows, columns, strict=True):
            if np.isfinite(cost[row, column]):
                alive[row].append(self.frames, detections[column], looks[column])
                taken.add(column)
        for column, detection in enumerate(detections):
            if column not in taken:
                self.tracks.append(_Track(self.frames, detection, looks[column]))
        self.frames += 1

    def _cost(self, track: _Track, detection: Detection, looks: np.ndarray | None) -> float:
        expected, size = track.expected(self.frames)
        middle, extent = _middle(detection.box), _extent(detection.box)
        distance = float(np.linalg.norm(middle - expected)) / max(size, 1.0)
        waited = self.frames - track.seen[-1]
        if distance > self.reach + 0.1 * (waited - 1) or not 0.5 < extent / max(size, 1.0) < 2.0:
            return float("inf")
        strange = 0.0
        if track.looks is not None and looks is not None:
            strange = self.looks_weight * float(np.clip(1 - track.looks @ looks, 0, 1))
        return distance + strange

    def result(self, frame_size: tuple[int, int], fps: float, people: int | None = None) -> FaceTracks:
        """The tracks, from left to right by where people are first seen.

        Args:
            frame_size: (width, height) of the video.
            fps: its frame rate.
            people: keep that many tracks, the longest; None: all that last for a third of the video.
        """
        kept = sorted(self.tracks, key=lambda track: -len(track.seen))
        kept = kept[:people] if people else [t for t in kept if len(t.seen) >= max(1, self.frames / 3)]
        kept.sort(key=lambda track: float(_middle(track.detections[0].box)[0]))
        boxes = np.full((self.frames, len(kept), 4), np.nan, dtype=np.float32)
        with_points = any(d.landmarks is not None for track in kept for d in track.detections)
        points = np.full((self.frames, len(kept), 106, 2), np.nan, dtype=np.float32) if with_points else None
        for person, track in enumerate(kept):
            for frame, detection in zip(track.seen, track.detections, strict=True):
                boxes[frame, person] = detection.box
                if points is not None and detection.landmarks is not None:
                    points[frame, person] = detection.landmarks
        return FaceTracks(boxes, points, frame_size, fps)


class _Track:
    """One person's faces so far."""

    def __init__(self, frame: int, detection: Detection, looks: np.ndarray | None) -> None:
        self.seen, self.detections, self.looks = [frame], [detection], looks
        self.speed = np.zeros(2)

    def append(self, frame: int, detection: Detection, looks: np.ndarray | None) -> None:
        step = (_middle(detection.box) - _middle(self.detections[-1].box)) / (frame - self.seen[-1])
        self.speed = step if len(self.seen) == 1 else 0.6 * self.speed + 0.4 * step
        self.seen.append(frame)
        self.detections.append(detection)
        if looks is not None:
            mixed = looks if self.looks is None else 0.9 * self.looks + 0.1 * looks
            self.looks = mixed / max(float(np.linalg.norm(mixed)), 1e-9)

    def expected(self, frame: int) -> tuple[np.ndarray, float]:
        """Where the face should be in a frame, and its size."""
        box = self.detections[-1].box
        return _middle(box) + self.speed * (frame - self.seen[-1]), _extent(box)


def track_faces(
    frames: Iterable[np.ndarray], detector: FrameDetector, fps: float, people: int | None = None
) -> FaceTracks:
    """Track everybody through a video whose frames (uint8 RGB (H, W, 3)) are seen once.

    Raises:
        InputError: if there are no frames.
    """
    linker, size = FaceLinker(longest_gap=round(fps)), (0, 0)
    for frame in frames:
        size = (frame.shape[1], frame.shape[0])
        linker.add(detector(frame), frame)
    if not linker.frames:
        raise InputError("A video without frames has no faces to track.")
    return linker.result(size, fps, people)


def _middle(box: np.ndarray) -> np.ndarray:
    return (np.asarray(box[:2], dtype=float) + np.asarray(box[2:], dtype=float)) / 2


def _extent(box: np.ndarray) -> float:
    return float(max(box[2] - box[0], box[3] - box[1]))


def _looks(detection: Detection, frame: np.ndarray | None) -> np.ndarray | None:
    """A unit vector that is alike for the same face: its embedding, or its small picture without the mean colour."""
    if detection.embedding is not None:
        values = np.asarray(detection.embedding, dtype=float).ravel()
    elif frame is not None:
        import cv2

        left, top = np.maximum(detection.box[:2], 0).astype(int)
        right, bottom = np.ceil(detection.box[2:]).astype(int)
        view = frame[top:bottom, left:right]
        if not view.size:
            return None
        small = cv2.resize(view, (6, 6), interpolation=cv2.INTER_AREA).astype(float)
        values = (small - frame[::16, ::16].mean(axis=(0, 1))).ravel()
    else:
        return None
    return values / max(float(np.linalg.norm(values)), 1e-9)


def _read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        about = file.metadata() or {}
        arrays = {key: file.get_tensor(key).astype(np.float32) for key in file.keys()}  # noqa: SIM118 (no mapping)
    return arrays, {key: json.loads(about[key]) for key in ("frame_size", "fps") if key in about}


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: np.asarray(file[key], dtype=np.float32) for key in ("boxes", "landmarks") if key in file}
        about: dict[str, Any] = {}
        if "frame_size" in file:
            about["frame_size"] = file["frame_size"].tolist()
        if "fps" in file:
            about["fps"] = float(file["fps"])
    return arrays, about
