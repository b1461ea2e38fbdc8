"""Jobs of other projects for talking people, as jobs of ours: MultiTalk's, InfiniteTalk's and LongCat-Video-Avatar's.

A file of theirs is one job:

    prompt                   what happens
    cond_image, cond_video   the picture, or a video as the picture
    cond_audio               {"person1": recording, "person2": …}; "None" listens
    audio_type               "para": all at once; "add": one after another, in the people's order
    bbox                     {"person1": [top, left, bottom, right], …}, where each person is in the picture, in pixels;
                             "others" (LongCat): the same of people who listen, one after another in one list

Without boxes, people are taken from the left, as theirs are. Their paths begin where their programs are started.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from anytalker.errors import InputError

_AUDIO, _PICTURES = "cond_audio", ("cond_image", "cond_video")
_MODES = {"para": "pad", "add": "concat"}
_OTHERS = "others"


def is_peers(value: Any) -> bool:
    """Whether a value of a JSON file is such a job."""
    return isinstance(value, Mapping) and (_AUDIO in value or "tts_audio" in value)


def from_peers(value: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A job of ours, as it would stand in a file.

    Args:
        value: theirs.
        folder: of their file; paths are looked for there, in the folders around it, and in the working folder.

    Raises:
        InputError: if something is missing, or is not as described above.
    """
    if "tts_audio" in value:
        raise InputError(
            "the job has text in place of recordings (tts_audio); make the recordings first, or give the words to "
            "`anytalker generate --script`."
        )
    picture = next((value[name] for name in _PICTURES if isinstance(value.get(name), str)), None)
    if picture is None:
        raise InputError("the job has no picture: cond_image or cond_video is a path.")
    voices = value[_AUDIO]
    if not isinstance(voices, Mapping) or not voices or not all(isinstance(path, str) for path in voices.values()):
        raise InputError("cond_audio must hold recordings by person, such as {'person1': 'anna.wav'}.")
    mode = value.get("audio_type", "para")
    if mode not in _MODES:
        raise InputError(f"audio_type is {mode!r}; it must be one of {', '.join(_MODES)}.")
    people = sorted(voices, key=_in_order)
    silent = [voices[person].strip().lower() in ("", "none") for person in people]
    audio = [None if quiet else str(_found(voices[name], folder)) for name, quiet in zip(people, silent, strict=True)]
    boxes = value.get("bbox") or {}
    if not isinstance(boxes, Mapping):
        raise InputError("bbox must hold boxes by person, such as {'person1': [top, left, bottom, right]}.")
    faces, listeners = _faces(boxes, people)
    job: dict[str, Any] = {"image": str(_found(picture, folder)), "audio": audio + [None] * listeners}
    if faces:
        job["faces"] = faces
    if len(people) > 1 and mode == "add":
        job["mode"] = _MODES[mode]
    texts = {name: value[name] for name in ("prompt", "negative_prompt") if isinstance(value.get(name), str)}
    return job | texts


def _in_order(person: str) -> list[str | int]:
    """What people are sorted by: "person2" goes before "person10"."""
    return [int(part) if part.isdecimal() else part for part in re.split("([0-9]+)", person)]


def peers_jobs(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Names and jobs of a file that holds one such job, a list of them, or several by name; nothing of other files."""
    if is_peers(value):
        yield name, value
    elif isinstance(value, list) and value and all(map(is_peers, value)):
        yield from ((f"{name}-{number}", one) for number, one in enumerate(value, start=1))
    elif isinstance(value, Mapping) and value and all(map(is_peers, value.values())):
        yield from value.items()


def _faces(boxes: Mapping[str, Any], people: Sequence[str]) -> tuple[list[Any], int]:
    """Regions of all people with boxes, and how many of them only listen."""
    if not boxes:
        return [], 0
    missing = [person for person in people if person not in boxes]
    if missing:
        raise InputError(f"bbox has no box for {missing[0]}; there is one for everybody with a recording, or none.")
    flat = boxes.get(_OTHERS) or []
    others = [one for box in flat for one in (box if isinstance(box, list) else [box])]
    if len(others) % 4:
        raise InputError(f"bbox.others holds {len(others)} numbers; there are four for each person.")
    listeners = [others[start : start + 4] for start in range(0, len(others), 4)]
    listeners += [box for name, box in boxes.items() if name not in (*people, _OTHERS)]
    return [_region(box) for box in [*(boxes[person] for person in people), *listeners]], len(listeners)


def _region(box: Any) -> dict[str, list[float]]:
    numbers = isinstance(box, list) and len(box) == 4 and all(isinstance(one, (int, float)) for one in box)
    if not numbers or not (box[0] < box[2] and box[1] < box[3]):
        raise InputError(f"the box {json.dumps(box)} must be [top, left, bottom, right] in pixels of the picture.")
    top, left, bottom, right = box
    return {"in": [left, top, right - left, bottom - top]}


def _found(path: str, folder: Path) -> Path:
    """Where a file of theirs is; if nowhere, where it would be beside the job."""
    places = [folder, *folder.parents, Path.cwd()]
    return next((place / path for place in places if (place / path).is_file()), folder / path)
