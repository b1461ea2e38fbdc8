"""Records of faces beside a picture: three.json for three.png, as `anytalker miniature picture` writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anytalker.conditioning.faces import check_boxes
from anytalker.conventions import PixelBox
from anytalker.errors import InputError

_LARGEST = 2**20
"""Bytes; the record of a picture is far smaller."""
_OF_VIDEOS = ("frames", "fps", "width", "height")
"""Keys of a video's record: its boxes are pixels of the video, whatever picture lies beside it."""


def recorded_faces(
    picture: str | Path, size: tuple[int, int], say: Callable[[str], None] = lambda message: None
) -> list[PixelBox] | None:
    """The face boxes (x, y, width, height) of the record beside a picture, from left to right; None without one.

    The record is {"persons": [{"box_xywh": [x, y, width, height]}]} in pixels of the picture. Any other file of that
    name is left alone, the record of a video among them.

    Args:
        picture: path of the picture.
        size: its width and height in pixels.
        say: told, in a sentence, that a record is used, or why one can't be.
    """
    path = Path(picture).with_suffix(".json")
    try:
        if path.stat().st_size > _LARGEST:
            return None
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    try:
        boxes = _boxes(text, size)
    except (InputError, ValueError) as error:
        reason = str(error) if isinstance(error, InputError) else "it is not JSON"
        if '"persons"' in text:
            say(f"{path} beside the picture is not used: {reason.rstrip('.')}. Faces are sought in the picture.")
        return None
    if boxes is not None:
        say(f"The faces are those that {path} beside the picture holds.")
    return boxes


def _boxes(text: str, size: tuple[int, int]) -> list[PixelBox] | None:
    values = json.loads(text)
    if not isinstance(values, dict) or "persons" not in values or any(key in values for key in _OF_VIDEOS):
        return None
    persons = values["persons"]
    if not isinstance(persons, list) or not persons:
        raise InputError('"persons" must be a list with one entry a person.')
    boxes = check_boxes([_numbers(person) for person in persons], size)
    return sorted(boxes, key=lambda box: box[0] + box[2] / 2)


def _numbers(person: Any) -> list[float]:
    box = person.get("box_xywh") if isinstance(person, dict) else None
    if not isinstance(box, list) or not all(isinstance(number, (int, float)) for number in box):
        raise InputError('each of "persons" must have a "box_xywh" of four numbers.')
    return box
