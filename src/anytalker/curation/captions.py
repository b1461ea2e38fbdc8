"""Captions: what a clip shows, in words, by what is known of it."""

from __future__ import annotations

from anytalker.curation.export import KeptClip

_NUMBERS = ("Nobody", "One person", "Two people", "Three people", "Four people", "Five people", "Six people")
_CLOSE, _MEDIUM = 0.35, 0.18
"""Height of a face as a share of the picture's, from which a shot is a close-up, or a medium shot."""


def describe(clip: KeptClip, template: str | None = None) -> str:
    """A sentence on who is seen, how near, and who speaks, unless a model has said something.

    Args:
        clip: the clip.
        template: used instead; `{people}` in it becomes their number.
    """
    count = len(clip.persons)
    if template is not None:
        return template.replace("{people}", str(count))
    if clip.caption is not None:
        return clip.caption
    people = _NUMBERS[count] if count < len(_NUMBERS) else f"{count} people"
    height = max(person.face_boxes[0][3] for person in clip.persons) / clip.height
    framing = "close-up" if height >= _CLOSE else "medium shot" if height >= _MEDIUM else "wide shot"
    speaking = [index for index, person in enumerate(clip.persons) if person.speaking]
    if not speaking:
        action = "listening"
    elif count == 1:
        action = "talking to the camera"
    elif len(speaking) == count:
        action = "talking with each other"
    else:
        who = " and ".join(f"the {_place(index, count)}" for index in speaking)
        action = f"{who} talking, the {'other' if count - len(speaking) == 1 else 'others'} listening"
    camera = "moving" if clip.numbers.get("camera.moving") else "standing still"
    return f"{people} in a {framing}, {action}, the camera {camera}."


def _place(index: int, count: int) -> str:
    if count == 2:
        return ("left one", "right one")[index]
    return f"{('first', 'second', 'third')[index] if index < 3 else f'{index + 1}th'} from the left"
