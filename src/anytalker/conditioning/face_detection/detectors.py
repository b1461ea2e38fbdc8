"""Face detectors: the network that comes with the package, YuNet where it has been downloaded, OpenCV's cascades.

To add one, write a class as `FaceDetector` describes. `default_detector` in `conditioning/faces.py` chooses the
detector for making videos, `Tools.detector` in `evaluation/scoring.py` the one for evaluation.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from anytalker.conditioning.face_detection.boxes import box_overlap, rounded_box
from anytalker.conventions import PixelBox
from anytalker.cores import one_thread
from anytalker.errors import InputError

_LARGEST_SEARCH_SIDE = 720
_YUNET_SIDES = (720, 2880)
"""Longer sides, in pixels, that pictures are searched with; YuNet knows faces of about 10 to 300 pixels."""
_SAME_FACE = 0.3
"""Overlap, intersection over union, from which two boxes are one face."""
_SIDES = (1024, 724, 512, 362, 256, 181, 128)
"""Longer sides, in pixels, of the pictures that the network sees: it knows faces of 10 to 150 pixels best."""
SURE, LENIENT = 0.65, 0.4
"""Confidence of a face from the network that comes with the package, and of one taken if none are more certain."""
_LEAST_SCORE = 0.2
_LOWER, _LARGER = 0.052, 1.018
"""What turns MediaPipe's boxes into ours (brows to chin): a shift in box heights and a factor, from drawn faces."""


class FaceDetector(Protocol):
    """What every detector is: called with a picture, it returns the faces in it."""

    def __call__(self, image: Image.Image) -> list[tuple[PixelBox, float]]:
        """Boxes (x, y, width, height) in pixels with their confidence, in any order."""


class Candidate(NamedTuple):
    """One cascade's opinion: `box` float (x, y, width, height) and confidence from 0 to about 1."""

    box: np.ndarray
    confidence: float


class FullRangeFaceDetector:
    """MediaPipe's full-range network, which comes with the package, on the picture in up to seven sizes.

    A face is seen at several sizes, a false one mostly at one. So the confidence is the mean of the highest two.

    Args:
        confidence: least confidence of a face, 0 to 1.
        sides: longer sides in pixels of the pictures to search; fewer are faster, and miss smaller or larger faces.
    """

    WEIGHTS = Path(__file__).parent / "weights" / "full_range.safetensors"

    def __init__(self, confidence: float = SURE, sides: Sequence[int] = _SIDES) -> None:
        self.confidence, self.sides = confidence, tuple(sides)
        self._network = _full_range_network(str(self.WEIGHTS))

    def __call__(self, image: Image.Image) -> list[tuple[PixelBox, float]]:
        """Boxes with their confidence, 0 to 1."""
        picture, largest = image.convert("RGB"), max(image.size)
        sides = [side for side in self.sides if side <= max(384, 2.5 * largest)]
        found = []
        for box, group in _merge([self._search(picture, side / largest) for side in sides]):
            confidence = sum(sorted(dict(reversed(group)).values())[-2:]) / 2
            if confidence >= self.confidence:
                found.append((rounded_box(_ours(box)), confidence))
        return found

    def _search(self, picture: Image.Image, scale: float) -> list[Candidate]:
        import torch

        from anytalker.conditioning.face_detection.network import MULTIPLE, STRIDE

        width, height = (max(1, round(side * scale)) for side in picture.size)
        pixels = np.full((-(-height // MULTIPLE) * MULTIPLE, -(-width // MULTIPLE) * MULTIPLE, 3), -1, np.float32)
        resized = picture.resize((width, height), Image.Resampling.BILINEAR)
        pixels[:height, :width] = np.asarray(resized, np.float32) / 127.5 - 1
        # So many small layers are slower on several threads, on some machines by far.
        with torch.inference_mode(), one_thread():
            logits, boxes = self._network(torch.from_numpy(pixels).permute(2, 0, 1)[None])
        scores = logits[0, 0].sigmoid().numpy()
        rows, columns = np.nonzero(scores >= _LEAST_SCORE)
        found = []
        for row, column in zip(rows, columns, strict=True):
            x, y, wide, high = boxes[0, :4, row, column].numpy()
            corner = [(column + 0.5) * STRIDE + x - wide / 2, (row + 0.5) * STRIDE + y - high / 2]
            found.append(Candidate(np.array([*corner, wide, high]) / scale, float(scores[row, column])))
        return found


@lru_cache(maxsize=1)
def _full_range_network(weights: str) -> Any:
    import torch
    from safetensors.torch import load_file

    from anytalker.conditioning.face_detection.network import FaceNetwork

    network = FaceNetwork().eval().requires_grad_(False)
    # Assigned: copied, they would take the default type, which another thread may have changed for a while.
    network.load_state_dict({key: value.float() for key, value in load_file(weights).items()}, assign=True)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _ours(box: np.ndarray) -> np.ndarray:
    middle = box[:2] + box[2:] / 2 + np.array([0, _LOWER * box[3]])
    return np.concatenate([middle - _LARGER * box[2:] / 2, _LARGER * box[2:]])


class CascadeFaceDetector:
    """The face cascades that come with OpenCV, several merged: offline, from the front and the side.

    They search the picture as it is, equalised, and brightened, without which they miss dark skin in shade.

    Args:
        scale_factor: growth of the search window from scale to scale.
        min_share: smallest face as a share of the picture's shorter side.
        supporters: neighbouring windows that a face needs; fewer finds more, and more that is none.
    """

    CASCADES = (
        ("haarcascade_frontalface_default.xml", 1.0),
        ("haarcascade_frontalface_alt2.xml", 1.2),
        ("haarcascade_frontalface_alt.xml", 1.2),
        ("haarcascade_profileface.xml", 0.7),
    )

    def __init__(self, scale_factor: float = 1.08, min_share: float = 0.06, supporters: int = 3) -> None:
        import cv2

        self.scale_factor, self.min_share, self.supporters = scale_factor, min_share, supporters
        folder = Path(cv2.__file__).parent / "data"
        self._cascades = [(cv2.CascadeClassifier(str(folder / name)), weight) for name, weight in self.CASCADES]

    def __call__(self, image: Image.Image) -> list[tuple[PixelBox, float]]:
        """Boxes with the summed confidence of all cascades that agree on them."""
        import cv2

        scale = min(1.0, _LARGEST_SEARCH_SIDE / max(image.size))
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        gray = np.asarray(image.convert("L").resize(size, Image.Resampling.BILINEAR))
        least = max(20, int(self.min_share * min(size)))
        candidates: list[list[Candidate]] = []
        brightened = cv2.LUT(gray, np.round(255 * (np.arange(256) / 255) ** 0.45).astype(np.uint8))
        for cascade, weight in self._cascades:
            candidates.append(self._search(cascade, gray, least, weight, flip=False))
        profile, weight = self._cascades[-1]
        candidates.append(self._search(profile, gray, least, weight, flip=True))
        for view in (cv2.equalizeHist(gray), brightened):
            for cascade, weight in self._cascades[:2]:
                candidates.append(self._search(cascade, view, least, weight, flip=False))
        return [(rounded_box(box / scale), _summed(group)) for box, group in _merge(candidates)]

    def _search(self, cascade, gray: np.ndarray, least: int, weight: float, flip: bool) -> list[Candidate]:
        view = np.ascontiguousarray(gray[:, ::-1]) if flip else gray
        boxes, supporters = cascade.detectMultiScale2(view, self.scale_factor, self.supporters, minSize=(least, least))
        found = []
        for box, support in zip(boxes, np.ravel(supporters), strict=True):
            x, y, width, height = (float(value) for value in box)
            x = gray.shape[1] - x - width if flip else x
            confidence = weight * min(1.0, float(support) / 12)
            found.append(Candidate(np.array([x, y, width, height]), confidence))
        return found


class YuNetFaceDetector:
    """YuNet through OpenCV, better than cascades where its small weights file has been downloaded.

    Args:
        weights: path of the ONNX file.
        confidence: least confidence of a face, 0 to 1.
    """

    def __init__(self, weights: str | Path, confidence: float = 0.7) -> None:
        if not Path(weights).is_file():
            raise InputError(f"There is no face detector at {weights}; download YuNet's ONNX file or leave it out.")
        self.weights, self.confidence = str(weights), confidence

    def __call__(self, image: Image.Image) -> list[tuple[PixelBox, float]]:
        """Boxes with YuNet's confidence; large pictures are also searched small, where close faces are found."""
        found: list[tuple[np.ndarray, float]] = []
        for side in _YUNET_SIDES if max(image.size) > _YUNET_SIDES[0] else _YUNET_SIDES[:1]:
            for box, confidence in self._search(image, min(1.0, side / max(image.size))):
                if all(box_overlap(box, other) < _SAME_FACE for other, _ in found):
                    found.append((box, confidence))
        return [(rounded_box(box), confidence) for box, confidence in found]

    def _search(self, image: Image.Image, scale: float) -> list[tuple[np.ndarray, float]]:
        import cv2

        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        small = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
        pixels = np.ascontiguousarray(np.asarray(small)[..., ::-1])
        try:
            _, rows = cv2.FaceDetectorYN.create(self.weights, "", size, self.confidence).detect(pixels)
        except cv2.error as error:
            raise InputError(f"{self.weights} is no YuNet detector; download it again or delete it.") from error
        return [] if rows is None else [(row[:4] / scale, float(row[-1])) for row in rows]


def yunet_path() -> Path:
    """Where YuNet's file is looked for: in ANYTALKER_HOME, by default ~/.cache/anytalker."""
    home = os.environ.get("ANYTALKER_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "anytalker") / "face_detection_yunet_2023mar.onnx"


def _merge(
    searches: Sequence[Sequence[Candidate]], overlap: float = 0.3
) -> list[tuple[np.ndarray, list[tuple[int, float]]]]:
    """Groups of overlapping candidates, the surest first: weighted mean box, and (search, confidence) of each."""
    groups: list[list[tuple[int, Candidate]]] = []
    votes = [(index, candidate) for index, search in enumerate(searches) for candidate in search]
    for index, candidate in sorted(votes, key=lambda vote: -vote[1].confidence):
        for group in groups:
            if box_overlap(candidate.box, group[0][1].box) > overlap:
                group.append((index, candidate))
                break
        else:
            groups.append([(index, candidate)])
    merged = []
    for group in groups:
        weights = np.array([candidate.confidence for _, candidate in group])
        mean = np.average(np.stack([candidate.box for _, candidate in group]), axis=0, weights=weights)
        merged.append((mean, [(index, candidate.confidence) for index, candidate in group]))
    return merged


def _summed(group: list[tuple[int, float]]) -> float:
    """The confidence of all searches together, of each the highest."""
    return float(sum(dict(reversed(group)).values()))
