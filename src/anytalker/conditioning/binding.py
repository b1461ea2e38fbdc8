"""Which face belongs to which voice: people chosen by box, point, number or mask, or taken from left to right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anytalker.conditioning.faces import box_overlap, check_boxes, detect_people, parse_box
from anytalker.conventions import PixelBox
from anytalker.errors import InputError
from anytalker.media.pictures import load_image

_SAME = 0.3
"""Overlap from which two searches have found the same face."""
_LEAST_SHARE = 0.2
"""Faces with less than this share of the median area of the speakers, or of the most prominent, are people in the
background, or none at all."""
_MOST_BOXES = 3
"""People up to which `describe_people` says where they are."""


@dataclass(frozen=True)
class FaceMask:
    """A person chosen by a black-and-white picture: white where the person is (in a file, transparent is black)."""

    picture: Image.Image
    name: str = "mask"


class People(tuple[PixelBox, ...]):
    """Face boxes of everybody as `bind_faces` has settled them, so that nobody is sought twice."""


FaceChoice = PixelBox | tuple[float, float] | int | FaceMask


def parse_face(text: str) -> FaceChoice:
    """A choice from the command line: a box "X,Y,W,H", a point "X,Y", a number from the left "2", or a mask's path.

    Raises:
        InputError: if the text is none of these, or the mask can't be read.
    """
    if is_mask(text):
        return FaceMask(load_image(text, background="black"), text)
    parts = text.split(",")
    try:
        if len(parts) == 1:
            return int(parts[0])
        if len(parts) == 2:
            return float(parts[0]), float(parts[1])
    except ValueError:
        pass
    return parse_box(text)


def is_mask(choice: Any) -> bool:
    """Whether a choice is the path of a mask."""
    return isinstance(choice, str) and Path(choice).suffix.lower() in (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def bind_faces(
    picture: Image.Image,
    choices: Sequence[Any] | None,
    voices: int,
    say: Callable[[str], None] = lambda message: None,
    known: Sequence[PixelBox] | None = None,
) -> list[PixelBox]:
    """Face boxes of everybody: first the people with voices, in the order of these, then those who only listen.

    Args:
        picture: the picture.
        choices: one face a voice: a box (x, y, width, height), a point (x, y) on the face, a number from the left (from
            1), a `FaceMask`, or {"in": (x, y, width, height)} for the largest face in that part of the picture. Further
            choices, and everybody else who is found unless all choices are boxes, listen.
            None: the i-th person from the left for the i-th voice, not counting faces so small that they belong to the
            background. `People`: they stay as they are.
        voices: number of voices.
        say: told, in a sentence, if there was to be a face for every voice, and some are only a guess.
        known: the faces of everybody in the picture, from left to right; None: they are sought.

    Raises:
        InputError: if a choice fits nobody, two choices are the same person, or there are fewer faces than voices.
    """
    check_choices(choices, voices)
    if isinstance(choices, People):
        return list(choices)
    if choices is not None and all(is_box(choice) for choice in choices):
        return check_boxes(choices, picture.size)
    if known is not None:
        found = list(known)
        prominent = found[:voices]
    else:
        found, prominent = detect_people(picture, voices)
    if choices is None:
        speakers = _from_the_left(found, _enough(prominent, voices), known is not None)
        unsure = [box for box in speakers if all(box_overlap(box, sure) < _SAME for sure in found)]
        if unsure:
            say(
                f"{voices} audios were given, but not so many faces are sure: what is at "
                f"{' and '.join(','.join(map(str, box)) for box in unsure)} (X,Y,WIDTH,HEIGHT) may be none. Look at it "
                "with --preview, or say where the faces are with --face."
            )
    else:
        speakers = check_boxes([_chosen(choice, found, picture) for choice in choices], picture.size)
    near = found if known is not None else _near(found, speakers)
    return [*speakers, *(box for box in near if all(box_overlap(box, speaker) < 0.1 for speaker in speakers))]


def check_choices(choices: Sequence[Any] | None, voices: int) -> None:
    """Make sure that there is a choice for every voice.

    Raises:
        InputError: if there are fewer, or one is of no kind that there is.
    """
    if choices is not None and len(choices) < voices:
        raise InputError(
            f"{voices} audios were given for {len(choices)} faces; give one --face for each --audio, or fewer audios."
        )
    for choice in () if choices is None else choices:
        if not _can_choose(choice):
            raise InputError(
                f"The face {choice!r} can't be used; give a box (x, y, width, height), a point (x, y), a number from "
                "the left, a FaceMask or {'in': (x, y, width, height)}."
            )


def _can_choose(choice: Any) -> bool:
    if isinstance(choice, (Integral, FaceMask)):
        return True
    numbers = choice.get("in") if isinstance(choice, Mapping) else choice
    return isinstance(numbers, (list, tuple, np.ndarray)) and all(isinstance(one, Real) for one in numbers)


def describe_people(boxes: Sequence[PixelBox], voices: Sequence[str | None]) -> str:
    """Who speaks and who listens, in a line.

    Args:
        boxes: face boxes (x, y, width, height) of everybody.
        voices: names of the first people's voices; None, and whoever has none: listens.
    """
    order = sorted(range(len(boxes)), key=lambda index: boxes[index][0] + boxes[index][2] / 2)
    place = {index: number for number, index in enumerate(order, start=1)}
    speaking = [index for index, name in enumerate(voices) if name is not None]
    parts: list[str] = []
    for index in speaking:
        where = f" (at {','.join(map(str, boxes[index]))})" if len(boxes) <= _MOST_BOXES else ""
        parts.append(f"{voices[index]} → person {place[index]}{' from the left' if not parts else ''}{where}")
    silent = [str(number) for number, index in enumerate(order, start=1) if index not in speaking]
    line = ", ".join(parts)
    if len(silent) == 1:
        line += f"; person {silent[0]} listens"
    elif silent:
        line += f"; persons {', '.join(silent[:-1])} and {silent[-1]} listen"
    return f"{line}."


def _from_the_left(found: list[PixelBox], prominent: list[PixelBox], everybody: bool) -> list[PixelBox]:
    """As many people as are prominent, the leftmost of all who are sure; if these are too few, the prominent."""
    near = found if everybody else _near(found, prominent)
    return near[: len(prominent)] if len(near) >= len(prominent) else prominent


def _near(found: list[PixelBox], people: list[PixelBox]) -> list[PixelBox]:
    """The faces that are not far smaller than those of `people`."""
    area = float(np.median([box[2] * box[3] for box in people]))
    return [box for box in found if box[2] * box[3] >= _LEAST_SHARE * area]


def _enough(found: list[PixelBox], voices: int) -> list[PixelBox]:
    if len(found) < voices:
        count = "no face was" if not found else f"only {len(found)} face{'s were' if len(found) > 1 else ' was'}"
        raise InputError(
            f"{voices} audios were given but {count} found in the picture. Give fewer audios, or say where each "
            "face is with --face X,Y,WIDTH,HEIGHT, once for each --audio."
        )
    return found


def is_box(choice: Any) -> bool:
    """Whether a choice is a complete box, so that no face needs to be detected."""
    return not isinstance(choice, (Integral, FaceMask, Mapping)) and len(choice) != 2


def _chosen(choice: Any, found: list[PixelBox], picture: Image.Image) -> PixelBox:
    if isinstance(choice, FaceMask):
        return _masked(choice, found, picture)
    if isinstance(choice, Mapping):
        return _within(choice, found)
    if isinstance(choice, Integral):
        if not 1 <= int(choice) <= len(found):
            raise InputError(f"The face {choice} can't be chosen: {len(found)} were found, counted from 1 at the left.")
        return found[int(choice) - 1]
    if is_box(choice):
        return check_boxes([choice], picture.size)[0]
    x, y = choice
    under = [box for box in found if box[0] <= x <= box[0] + box[2] and box[1] <= y <= box[1] + box[3]]
    if not under:
        places = ", ".join(f"{box[0] + box[2] // 2},{box[1] + box[3] // 2}" for box in found) or "none"
        raise InputError(
            f"No face was found at the point {x:g},{y:g}; faces were found at {places}. Choose one of them, or give a "
            "box X,Y,WIDTH,HEIGHT."
        )
    return min(under, key=lambda box: abs(box[0] + box[2] / 2 - x) + abs(box[1] + box[3] / 2 - y))


def _within(choice: Mapping[str, Any], found: list[PixelBox]) -> PixelBox:
    """The largest face whose centre lies in a part of the picture."""
    part = choice.get("in", ())
    if set(choice) != {"in"} or len(part) != 4:
        raise InputError(f"The face {dict(choice)} can't be used; it must be {{'in': [x, y, width, height]}}.")
    x, y, width, height = part
    inside = [box for box in found if x <= box[0] + box[2] / 2 <= x + width and y <= box[1] + box[3] / 2 <= y + height]
    if not inside:
        raise InputError(
            f"No face was found in {x:g},{y:g},{width:g},{height:g} (X,Y,WIDTH,HEIGHT); give the face's own box."
        )
    return max(inside, key=lambda box: box[2] * box[3])


def _masked(mask: FaceMask, found: list[PixelBox], picture: Image.Image) -> PixelBox:
    """The face that lies in the mask; where none was found, the mask's own bounds."""
    if mask.picture.size != picture.size:
        raise InputError(
            f"The mask {mask.name} is {mask.picture.width}×{mask.picture.height} pixels, the picture "
            f"{picture.width}×{picture.height}; make them the same size."
        )
    white = np.asarray(mask.picture.convert("L")) > 127
    if not white.any():
        raise InputError(f"The mask {mask.name} is all black; paint the person white.")
    inside = [box for box in found if white[box[1] + box[3] // 2, box[0] + box[2] // 2]]
    if inside:
        return max(inside, key=lambda box: box[2] * box[3])
    rows, columns = np.flatnonzero(white.any(axis=1)), np.flatnonzero(white.any(axis=0))
    return int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1
