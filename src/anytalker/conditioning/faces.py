"""Faces in a picture: finding them, checking given boxes, crops, and the pixels that CLIP sees."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from anytalker.conditioning.face_detection.boxes import box_overlap, rounded_box
from anytalker.conditioning.face_detection.detectors import (
    LENIENT,
    SURE,
    CascadeFaceDetector,
    FaceDetector,
    FullRangeFaceDetector,
    YuNetFaceDetector,
    yunet_path,
)
from anytalker.conventions import PixelBox
from anytalker.errors import InputError

if TYPE_CHECKING:
    import torch

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
SAME_PERSON_OVERLAP = 0.5


def detect_faces(image: Image.Image, count: int | None = None, detector: FaceDetector | None = None) -> list[PixelBox]:
    """Find people in a picture.

    Args:
        image: the picture.
        count: how many to return at most; None: all that are sure.
        detector: None: `default_detector`.

    Returns:
        Face boxes (x, y, width, height) from left to right; the `count` with most area and confidence.
    """
    everybody, prominent = detect_people(image, count or 0, detector)
    return everybody if count is None else prominent


def detect_people(
    image: Image.Image, count: int, detector: FaceDetector | None = None
) -> tuple[list[PixelBox], list[PixelBox]]:
    """All faces that are sure, and the `count` most prominent, for which the search is more lenient if need be.

    Arguments and form of the boxes as for `detect_faces`.
    """
    given = detector is not None
    detector = detector or default_detector()
    found = detector(image)
    least = SURE if isinstance(detector, FullRangeFaceDetector) and not given else None
    everybody = _best_faces(found, None, image.size, least)
    prominent = _best_faces(found, count, image.size, least)
    if len(prominent) < count and not given:
        if isinstance(detector, CascadeFaceDetector):
            found = CascadeFaceDetector(scale_factor=1.04, supporters=1)(image)
            prominent = _best_faces(found, count, image.size, 0.05 * max((score for _, score in found), default=0.0))
        elif least is not None:
            prominent = _best_faces(found, count, image.size, LENIENT)
    return everybody, prominent


def default_detector() -> FaceDetector:
    """YuNet where it has been downloaded, else the network of the package; cascades if its weights are missing."""
    if yunet_path().is_file():
        return YuNetFaceDetector(yunet_path())
    if FullRangeFaceDetector.WEIGHTS.is_file():
        return FullRangeFaceDetector(LENIENT)
    warnings.warn(
        "The weights of the face detector are missing, so OpenCV's cascades look for faces, which find fewer; install "
        "anytalker again.",
        stacklevel=2,
    )
    return CascadeFaceDetector()


def _best_faces(
    found: list[tuple[PixelBox, float]], count: int | None, image_size: tuple[int, int], least: float | None = None
) -> list[PixelBox]:
    """The faces with most area and confidence, without doubles, from left to right.

    `least`: the confidence of a sure face; None: a third of the highest there is.
    """
    if least is None:
        least = 0.35 * max((score for _, score in found), default=0.0)
    sure = [(box, score) for box, score in found if score >= least]
    if not sure:
        return []
    largest = max(box[2] * box[3] for box, _ in sure)
    ranked = sorted(sure, key=lambda pair: -pair[1] * min(1.0, pair[0][2] * pair[0][3] / (0.25 * largest)))
    kept: list[PixelBox] = []
    for box, _ in ranked:
        if count is not None and len(kept) == count:
            break
        if all(box_overlap(box, other) < 0.2 and not _inside(box, other) for other in kept):
            kept.append(_clip(box, image_size))
    return sorted(kept, key=lambda box: box[0] + box[2] / 2)


def parse_box(text: str) -> PixelBox:
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


def check_boxes(boxes: Sequence[Sequence[float]], image_size: tuple[int, int]) -> list[PixelBox]:
    """Check given face boxes against a picture of `image_size` (width, height).

    Raises:
        InputError: for a malformed or empty box, one outside the picture, or two boxes of the same person.
    """
    checked: list[PixelBox] = []
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


def _checked_box(values: Sequence[float], text: str) -> PixelBox:
    if not all(math.isfinite(value) for value in values):
        raise InputError(f"The face {text} holds a value that is not a number; give X,Y,WIDTH,HEIGHT in pixels.")
    if values[2] < 4 or values[3] < 4:
        raise InputError(f"The face {text} has no size; its width and height must be at least 4 pixels.")
    return rounded_box(values)


def square_box(box: PixelBox, image_size: tuple[int, int]) -> PixelBox:
    """The square about a box's centre with the longer side, moved (and if need be shrunk) to lie inside the picture."""
    x, y, width, height = box
    side = min(max(width, height), *image_size)
    left = min(max(0, round(x + (width - side) / 2)), image_size[0] - side)
    top = min(max(0, round(y + (height - side) / 2)), image_size[1] - side)
    return left, top, side, side


def square_face(box: Sequence[float], image_size: tuple[int, int]) -> PixelBox:
    """The square about a box's centre with the longer side, moved into the picture, and cut off if larger (release).

    Args:
        box: (x, y, width, height) in pixels.
        image_size: width and height of the picture.
    """
    side = max(box[2], box[3])
    sides = []
    for start, length, limit in ((box[0], box[2], image_size[0]), (box[1], box[3], image_size[1])):
        first = max(0, start + length / 2 - side / 2)
        last = first + side
        if last > limit:
            first, last = max(0, limit - side), limit
        sides.append((int(first), int(last)))
    (left, right), (top, bottom) = sides
    return left, top, right - left, bottom - top


def scale_box(box: PixelBox, from_size: tuple[int, int], to_size: tuple[int, int]) -> PixelBox:
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


def _inside(box: PixelBox, other: PixelBox) -> bool:
    center_x, center_y = box[0] + box[2] / 2, box[1] + box[3] / 2
    return other[0] <= center_x <= other[0] + other[2] and other[1] <= center_y <= other[1] + other[3]


def _clip(box: PixelBox, image_size: tuple[int, int]) -> PixelBox:
    left, top = max(0, box[0]), max(0, box[1])
    right, bottom = min(image_size[0], box[0] + box[2]), min(image_size[1], box[1] + box[3])
    return left, top, max(1, right - left), max(1, bottom - top)
