"""Faces: the same people throughout, large and sharp enough, each in their place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image

from anytalker.conditioning.face_detection.detectors import FaceDetector, FullRangeFaceDetector
from anytalker.curation.config import FacesConfig
from anytalker.curation.footage import FPS
from anytalker.curation.piece import Dropped, Face, Piece
from anytalker.evaluation.eye_motion.tracks import Detection, FaceLinker

_SIDES = (362, 181)
"""Longer sides in pixels of the searched pictures: faces of a tenth of the picture are found in one of them."""
_LARGEST_PICTURE = 720
"""Longer side in pixels of the pictures that faces are looked for in."""
_PASSING = 0.05
"""Share of the looks below which a face is a mistake of the detector."""
_SHARPNESS_WIDTH = 96


class FacesStage:
    """Finds and follows faces, and drops pieces whose people are too many, too few, too small, or change."""

    name = "faces"

    def __init__(self, config: FacesConfig, detector: FaceDetector | None = None) -> None:
        self._config, self._detector = config, detector

    def __call__(self, piece: Piece) -> Iterator[Piece | Dropped]:
        """The piece with its `faces`, left to right, or dropped."""
        linker, sharpness, size = self._follow(piece)
        if not linker.frames:
            yield piece.drop(self.name, "no frame of it can be decoded")
            return
        tracks = [track for track in linker.tracks if len(track.seen) >= max(2, _PASSING * linker.frames)]
        measured = piece.measured(**{"faces.people": len(tracks)})
        if not tracks:
            yield measured.drop(self.name, "no face is seen")
            return
        presence = min(len(track.seen) for track in tracks) / linker.frames
        measured = measured.measured(**{"faces.presence": presence})
        if presence < self._config.presence:
            yield measured.drop(self.name, "not everybody is seen throughout")
            return
        if len(tracks) not in self._config.people:
            wanted = " or ".join(map(str, self._config.people))
            yield measured.drop(self.name, f"{len(tracks)} people are seen, not {wanted}")
            return
        boxes = [_every_frame(track.seen, track.detections, self._config.every, piece) for track in tracks]
        order = np.argsort([box[:, 0].mean() for box in boxes])
        faces = tuple(Face(boxes[index]) for index in order)
        reason, numbers = self._quality(faces, size, min(np.median(sharpness[id(track)]) for track in tracks))
        measured = measured.measured(**numbers)
        yield measured.drop(self.name, reason) if reason else replace(measured, faces=faces)

    def _follow(self, piece: Piece) -> tuple[FaceLinker, dict[int, list[float]], tuple[int, int]]:
        detector = self._detector or _detector()
        linker, size = FaceLinker(longest_gap=round(FPS / self._config.every)), (0, 0)
        sharpness: dict[int, list[float]] = {}
        for frame in piece.frames(self._config.every):
            size = (frame.shape[1], frame.shape[0])
            scale = min(1.0, _LARGEST_PICTURE / max(size))
            small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else frame
            found = [np.array([x, y, x + wide, y + high]) / scale for (x, y, wide, high), _ in detector(_image(small))]
            linker.add([Detection(box.astype(np.float32)) for box in found], frame)
            for track in linker.tracks:
                if track.seen[-1] == linker.frames - 1:
                    sharpness.setdefault(id(track), []).append(_sharpness(frame, track.detections[-1].box))
        return linker, sharpness, size

    def _quality(
        self, faces: tuple[Face, ...], size: tuple[int, int], sharpness: float
    ) -> tuple[str | None, dict[str, float]]:
        """Why faces can't be used, if so, and what was measured."""
        heights = [float(np.median(face.boxes[:, 3] - face.boxes[:, 1])) for face in faces]
        numbers = {"faces.height": min(heights), "faces.share": min(heights) / size[1], "faces.sharpness": sharpness}
        if min(heights) < self._config.min_pixels or min(heights) < self._config.min_share * size[1]:
            return "a face is too small", numbers
        if sharpness < self._config.min_sharpness:
            return "a face is blurred", numbers
        middles = np.stack([(face.boxes[:, 0] + face.boxes[:, 2]) / 2 for face in faces])
        if (np.diff(middles, axis=0) <= 0).any():
            return "people change their places", numbers
        return None, numbers


@lru_cache(maxsize=1)
def _detector() -> FaceDetector:
    return FullRangeFaceDetector(sides=_SIDES)


def _image(frame: np.ndarray) -> Image.Image:
    return Image.fromarray(frame)


def _every_frame(seen: list[int], detections: list[Detection], every: int, piece: Piece) -> np.ndarray:
    """Boxes (T, 4) in every frame of the piece: smoothed and interpolated between the looks."""
    looked = np.array([detection.box for detection in detections], dtype=float)
    padded = np.concatenate([looked[:1], looked, looked[-1:]])
    smooth = np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)
    times, wanted = np.array(seen) * every, np.arange(piece.end - piece.start)
    return np.stack([np.interp(wanted, times, smooth[:, side]) for side in range(4)], axis=1).astype(np.float32)


def _sharpness(frame: np.ndarray, box: np.ndarray) -> float:
    left, top = np.maximum(box[:2], 0).astype(int)
    right, bottom = np.ceil(box[2:]).astype(int)
    face = frame[top:bottom, left:right]
    if face.size == 0:
        return 0.0
    width = min(_SHARPNESS_WIDTH, face.shape[1])
    grey = cv2.cvtColor(cv2.resize(face, (width, width), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    grey = grey.astype(np.float32)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var() / max(float(grey.var()), 1.0))
