"""Faces in a picture: finding them, checking given boxes, crops, and the pixels that CLIP sees."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from PIL import Image

from anytalker.errors import InputError

if TYPE_CHECKING:
    import torch

Box = tuple[int, int, int, int]
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
SAME_PERSON_OVERLAP = 0.5
_LARGEST_SEARCH_SIDE = 720


class FaceDetector(Protocol):
    """Finds faces."""

    def __call__(self, image: Image.Image) -> list[tuple[Box, float]]:
        """Boxes (x, y, width, height) in pixels with their confidence, in any order."""


class Candidate(NamedTuple):
    """One cascade's opinion: `box` float (x, y, width, height) and confidence from 0 to about 1."""

    box: np.ndarray
    confidence: float


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

    def __call__(self, image: Image.Image) -> list[tuple[Box, float]]:
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
        merged = _merge(candidates)
        return [(_rounded(box / scale), score) for box, score in merged]

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

    def __call__(self, image: Image.Image) -> list[tuple[Box, float]]:
        """Boxes with YuNet's confidence."""
        import cv2

        pixels = np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])
        try:
            _, rows = cv2.FaceDetectorYN.create(self.weights, "", image.size, self.confidence).detect(pixels)
        except cv2.error as error:
            raise InputError(f"{self.weights} is no YuNet detector; download it again or delete it.") from error
        return [] if rows is None else [(_rounded(row[:4]), float(row[-1])) for row in rows]


def yunet_path() -> Path:
    """Where YuNet's file is looked for: in ANYTALKER_HOME, by default ~/.cache/anytalker."""
    home = os.environ.get("ANYTALKER_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "anytalker") / "face_detection_yunet_2023mar.onnx"


def _merge(searches: Sequence[Sequence[Candidate]], overlap: float = 0.3) -> list[tuple[np.ndarray, float]]:
    """Groups of overlapping candidates as (weighted mean box, confidence); each search counts once in a group."""
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
        best = {index: candidate.confidence for index, candidate in reversed(group)}
        merged.append((mean, float(sum(best.values()))))
    return merged


def detect_faces(image: Image.Image, count: int | None = None, detector: FaceDetector | None = None) -> list[Box]:
    """Find people in a picture.

    Args:
        image: the picture.
        count: how many to return at most; None: all that are sure.
        detector: None: YuNet where its weights are there (see `yunet_path`), else `CascadeFaceDetector`.

    Returns:
        Face boxes (x, y, width, height) from left to right; the `count` with most area and confidence.
    """
    everybody, prominent = detect_people(image, count or 0, detector)
    return everybody if count is None else prominent


def detect_people(image: Image.Image, count: int, detector: FaceDetector | None = None) -> tuple[list[Box], list[Box]]:
    """All faces that are sure, and the `count` most prominent, for which the search is more lenient if need be.

    Arguments and form of the boxes as for `detect_faces`.
    """
    lenient = detector is None and not yunet_path().is_file()
    if detector is None:
        detector = CascadeFaceDetector() if lenient else YuNetFaceDetector(yunet_path())
    found = detector(image)
    everybody, prominent = _best_faces(found, None, image.size), _best_faces(found, count, image.size)
    if lenient and len(prominent) < count:
        found = CascadeFaceDetector(scale_factor=1.04, supporters=1)(image)
        prominent = _best_faces(found, count, image.size, least_share=0.05)
    return everybody, prominent


def _best_faces(
    found: list[tuple[Box, float]], count: int | None, image_size: tuple[int, int], least_share: float = 0.35
) -> list[Box]:
    """The faces with most area and confidence, without doubles, from left to right."""
    if not found:
        return []
    best = max(score for _, score in found)
    sure = [(box, score) for box, score in found if score >= least_share * best]
    largest = max(box[2] * box[3] for box, _ in sure)
    ranked = sorted(sure, key=lambda pair: -pair[1] * min(1.0, pair[0][2] * pair[0][3] / (0.25 * largest)))
    kept: list[Box] = []
    for box, _ in ranked:
        if count is not None and len(kept) == count:
            break
        if all(box_overlap(box, other) < 0.2 and not _inside(box, other) for other in kept):
            kept.append(_clip(box, image_size))
    return sorted(kept, key=lambda box: box[0] + box[2] / 2)


def parse_box(text: str) -> Box:
    """A face box from "X,Y,W,H".

    Raises:
        InputError: if the text is anything else.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4:
        raise InputError(
            f"The face {text!r} is malformed; give four numbers X,Y,WIDTH,HEIGHT, for example 120,80,90,90."
        )
    return _checked_box(values, text)


def check_boxes(boxes: Sequence[Sequence[float]], image_size: tuple[int, int]) -> list[Box]:
    """Check given face boxes against a picture of `image_size` (width, height).

    Raises:
        InputError: for a malformed or empty box, one outside the picture, or two boxes of the same person.
    """
    checked: list[Box] = []
    for values in boxes:
        if len(values) != 4:
            raise InputError(f"The face {tuple(values)} is malformed; a face box is (x, y, width, height) in pixels.")
        box = _checked_box(values, ",".join(f"{value:g}" for value in values))
        x, y, width, height = box
        if x < -1 or y < -1 or x + width > image_size[0] + 1 or y + height > image_size[1] + 1:
            raise InputError(
                f"The face {','.join(map(str, box))} lies outside the picture, which is {image_size[0]} pixels "
                f"wide and {image_size[1]} high; boxes are X,Y,WIDTH,HEIGHT from the top left corner."
            )
        checked.append(_clip(box, image_size))
    for index, box in enumerate(checked):
        for other in checked[:index]:
            if box_overlap(box, other) > SAME_PERSON_OVERLAP:
                raise InputError(
                    f"The faces {','.join(map(str, other))} and {','.join(map(str, box))} overlap so much that they "
                    "are the same person; give one box a person."
                )
    return checked


def _checked_box(values: Sequence[float], text: str) -> Box:
    if not all(math.isfinite(value) for value in values):
        raise InputError(f"The face {text} holds a value that is not a number; give X,Y,WIDTH,HEIGHT in pixels.")
    if values[2] < 4 or values[3] < 4:
        raise InputError(f"The face {text} has no size; its width and height must be at least 4 pixels.")
    return _rounded(values)


def square_box(box: Box, image_size: tuple[int, int]) -> Box:
    """The square about a box's centre with the longer side, moved (and if need be shrunk) to lie inside the picture."""
    x, y, width, height = box
    side = min(max(width, height), *image_size)
    left = min(max(0, round(x + (width - side) / 2)), image_size[0] - side)
    top = min(max(0, round(y + (height - side) / 2)), image_size[1] - side)
    return left, top, side, side


def scale_box(box: Box, from_size: tuple[int, int], to_size: tuple[int, int]) -> Box:
    """A box in a picture of `from_size` (width, height), in pixels of the same picture at `to_size`."""
    horizontal, vertical = to_size[0] / from_size[0], to_size[1] / from_size[1]
    return (
        round(box[0] * horizontal),
        round(box[1] * vertical),
        max(1, round(box[2] * horizontal)),
        max(1, round(box[3] * vertical)),
    )


def crop_face(image: Image.Image, box: Sequence[float]) -> Image.Image:
    """The part of a picture in a face box (x, y, width, height), no margin, kept inside the picture."""
    x, y, width, height = (int(round(value)) for value in box)
    return image.crop((max(0, x), max(0, y), min(image.width, x + width), min(image.height, y + height)))


def clip_pixels(images: Sequence[Image.Image], size: int = 224) -> torch.Tensor:
    """Pictures squashed to (n, 3, size, size), bicubic without antialiasing, normalised for CLIP (release)."""
    import torch  # faces are sought, and wrong ones refused, before it is loaded

    rows = []
    for image in images:
        pixels = torch.from_numpy(np.array(image.convert("RGB"), dtype=np.float32)).permute(2, 0, 1)[None] / 255
        resized = torch.nn.functional.interpolate(pixels, (size, size), mode="bicubic", align_corners=False)
        rows.append(resized[0])
    mean, deviation = torch.tensor(CLIP_MEAN)[:, None, None], torch.tensor(CLIP_STD)[:, None, None]
    return (torch.stack(rows) - mean) / deviation


def box_overlap(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float:
    """Intersection over union of two boxes (x, y, width, height)."""
    one, other = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    sides = np.minimum(one[:2] + one[2:], other[:2] + other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    return shared / (float(np.prod(one[2:])) + float(np.prod(other[2:])) - shared)


def _inside(box: Box, other: Box) -> bool:
    center_x, center_y = box[0] + box[2] / 2, box[1] + box[3] / 2
    return other[0] <= center_x <= other[0] + other[2] and other[1] <= center_y <= other[1] + other[3]


def _rounded(values: Sequence[float] | np.ndarray) -> Box:
    x, y, width, height = (int(round(float(value))) for value in values)
    return x, y, width, height


def _clip(box: Box, image_size: tuple[int, int]) -> Box:
    left, top = max(0, box[0]), max(0, box[1])
    right, bottom = min(image_size[0], box[0] + box[2]), min(image_size[1], box[1] + box[3])
    return left, top, max(1, right - left), max(1, bottom - top)
