"""Detectors for face tracks: `uniface` with its downloaded weights, or those that come with the package."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from anytalker.conditioning.faces import CascadeFaceDetector, FaceDetector, FullRangeFaceDetector
from anytalker.conventions import corners
from anytalker.errors import AnyTalkerError
from anytalker.evaluation.eye_motion.tracks import Detection


class UnifaceDetector:
    """Boxes, 106 points and identities by `uniface` (RetinaFace, 2d106det, ArcFace); downloads its weights once.

    Args:
        identities: also compute embeddings, which keep people apart where they cross, and measure identity.

    Raises:
        AnyTalkerError: if `uniface` is not installed, or its weights can't be loaded.
    """

    def __init__(self, identities: bool = True) -> None:
        try:
            import uniface
        except ImportError as error:
            raise AnyTalkerError(
                "Landmarks need uniface:  pip install 'anytalker[faces]' — or give tracks (NAME.tracks.safetensors)."
            ) from error
        try:
            self._detector = uniface.RetinaFace()
            self._landmarks = uniface.Landmark106()
            self._recognizer: Any = uniface.ArcFace() if identities else None
        except Exception as error:
            raise AnyTalkerError(
                f"uniface can't get its weights ({error}). Check the connection, or give tracks."
            ) from error

    def __call__(self, frame: np.ndarray) -> list[Detection]:
        """Faces in a frame, uint8 RGB (H, W, 3)."""
        image = np.ascontiguousarray(frame[..., ::-1])
        found = []
        for face in self._detector.detect(image):
            points = np.asarray(self._landmarks.get_landmarks(image, face.bbox), dtype=np.float32)
            embedding = None
            if self._recognizer is not None:
                embedding = np.asarray(self._recognizer.get_normalized_embedding(image, face.landmarks)).ravel()
            found.append(Detection(np.asarray(face.bbox[:4], dtype=np.float32), points, embedding))
        return found


class BoxFrameDetector:
    """Boxes alone, by a detector of pictures.

    Args:
        detector: finds the faces; None: the network that comes with the package.
        least_confidence: of a face.
    """

    def __init__(self, detector: FaceDetector | None = None, least_confidence: float = 0.0) -> None:
        self._detector, self.least_confidence = detector or FullRangeFaceDetector(), least_confidence

    def __call__(self, frame: np.ndarray) -> list[Detection]:
        """Faces in a frame, uint8 RGB (H, W, 3)."""
        return [
            Detection(corners(box).astype(np.float32))
            for box, confidence in self._detector(Image.fromarray(frame))
            if confidence >= self.least_confidence
        ]


class CascadeFrameDetector(BoxFrameDetector):
    """Boxes alone, by the cascades that come with OpenCV."""

    def __init__(self, least_confidence: float = 0.3) -> None:
        super().__init__(CascadeFaceDetector(), least_confidence)
