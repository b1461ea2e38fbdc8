"""The timeline of a video, and whose face the people of a timeline have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from anytalker.conditioning.binding import People, bind_faces, parse_face
from anytalker.conditioning.faces import box_overlap
from anytalker.conditioning.picture_record import recorded_faces
from anytalker.conditioning.timeline import speaking_spans
from anytalker.conventions import SAMPLE_RATE, PixelBox
from anytalker.errors import InputError
from anytalker.media.recordings import combine
from anytalker.media.sound import Sound
from anytalker.pipelines.inputs import Inputs, Scene, Voice, read_scene
from anytalker.timeline.model import MAX_TURNS, Person, Timeline, Turn, TurnSound

_SAME = 0.1


def timeline_of(inputs: Inputs, speaking: Sequence[Sequence[Sequence[float]]]) -> Timeline | None:
    """Who says what when in a video, with everybody's face, listeners' too; None if nobody speaks.

    Args:
        inputs: of the video; where they have no timeline, there is a turn for each span of speech.
        speaking: spans [start, end] in seconds, once a person.
    """
    seconds = inputs.frames / inputs.fps
    faces = inputs.faces or inputs.boxes
    if inputs.timeline is not None:
        timeline = inputs.timeline.until(seconds)
        if timeline is None:
            return None
        people = [
            person.model_copy(update={"face": face}) for person, face in zip(timeline.people, faces, strict=False)
        ]
        return timeline.model_copy(update={"people": tuple(people)})
    people = [Person(name=f"Person {number}", face=face) for number, face in enumerate(faces, start=1)]
    turns = [
        Turn(person=person.name, start=start, end=end, sound=_sound(voice, start))
        for person, voice, spans in zip(people, inputs.voices, speaking, strict=True)
        for start, end in spans
        if round(start, 3) < round(end, 3)
    ]
    return Timeline.checked({"people": people, "turns": turns}) if 0 < len(turns) <= MAX_TURNS else None


def lanes_of(scene: Scene, mode: str = "pad") -> tuple[list[tuple[str, list[tuple[float, float]]]], float]:
    """Name and spans [start, end) in seconds of everybody with a voice, and how long it all takes.

    Args:
        scene: where it has no timeline, the spans are those of speech.
        mode: how the recordings lie in time then, see `combine`.
    """
    timeline = scene.timeline
    if timeline is not None:
        spans = [[(turn.start, turn.end) for turn in timeline.turns_of(person.name)] for person in timeline.people]
        return list(zip((person.name for person in timeline.people), spans, strict=True)), timeline.seconds
    placed = combine([voice.waveform if voice else None for voice in scene.voices], mode)
    heard = [[(start, end) for start, end in speaking_spans(sound)] for sound in placed]
    names = [(voice and voice.name) or "listens" for voice in scene.voices]
    return list(zip(names, heard, strict=True)), len(placed[0]) / SAMPLE_RATE


def _sound(voice: Any, start: float) -> TurnSound | None:
    offset = start - voice.waveform.start / SAMPLE_RATE
    return TurnSound(file=voice.file, offset=max(0.0, offset)) if voice.file else None


def everybody(
    image: Image.Image | str | Path, picture: Image.Image, say: Callable[[str], None] = lambda message: None
) -> list[PixelBox]:
    """Face boxes (x, y, width, height) of everybody in the foreground of a picture, from left to right.

    Args:
        image: the picture or its path, beside which there may be a record of its faces.
        picture: the same, read.
        say: told what was found out from a record.

    Raises:
        InputError: if there is no face.
    """
    return bind_faces(picture, None, 1, lambda message: None, _known(image, picture, say))


def cast_people(
    image: Image.Image | str | Path,
    picture: Image.Image,
    timeline: Timeline,
    faces: Sequence[Any] | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> People:
    """Face boxes (x, y, width, height) for the people of a timeline, in their order, then of everybody who listens.

    Args:
        image, picture, say: see `everybody`.
        timeline: its people may name their faces; the others are the next from the left.
        faces: a choice for each of the first people instead, see `bind_faces`.

    Raises:
        InputError: if there are more people than faces, or a face can't be found.
    """
    count = len(timeline.people)
    given = [*(faces or ())][:count]
    choices = [*given, *(person.face for person in timeline.people[len(given) :])]
    return cast_choices(image, picture, choices, say, list(faces or ())[count:])


def cast_choices(
    image: Image.Image | str | Path,
    picture: Image.Image,
    choices: Sequence[Any],
    say: Callable[[str], None] = lambda message: None,
    extra: Sequence[Any] = (),
) -> People:
    """Face boxes (x, y, width, height) for people some of whom have chosen, then of everybody who listens.

    Args:
        image, picture, say: see `everybody`.
        choices: one a person, see `bind_faces`; None: the next from the left who is nobody else's choice.
        extra: further choices, of people who listen; taken where everybody has chosen.

    Raises:
        InputError: if there are more people than faces, or a face can't be found.
    """
    known = _known(image, picture, say)
    count = len(choices)
    chosen = [parse_face(choice) if isinstance(choice, str) else choice for choice in choices if choice is not None]
    if len(chosen) == count:
        return People(bind_faces(picture, [*chosen, *extra], count, say, known))
    if not chosen:
        return People(_from_the_left(picture, count, say, known))
    boxes = bind_faces(picture, chosen, len(chosen), say, known)[: len(chosen)]
    found = bind_faces(picture, None, 1, say, known)
    rest = [box for box in found if all(box_overlap(box, taken) < _SAME for taken in boxes)]
    if len(rest) < count - len(boxes):
        raise _too_few(count, len(rest) + len(boxes))
    order = iter(boxes)
    others = iter(rest)
    people = [next(others) if choice is None else next(order) for choice in choices]
    return People([*people, *others])


def scene_of(picture: Image.Image, people: People, timeline: Timeline, heard: Sequence[Sound]) -> Scene:
    """The scene of a timeline.

    Args:
        picture: what is shown.
        people: whose faces they are, see `cast_people`.
        timeline: who says what when.
        heard: one recording a person, see `anytalker.timeline.streams.streams`.
    """
    shown = [person.model_copy(update={"face": box}) for person, box in zip(timeline.people, people, strict=False)]
    voices = [Voice(person.name, stream) for person, stream in zip(timeline.people, heard, strict=True)]
    scene = read_scene(picture, voices, people)
    return replace(scene, timeline=timeline.model_copy(update={"people": tuple(shown)}))


def strengths_of(timeline: Timeline) -> tuple[float, ...] | None:
    """How much everybody's voice moves their face, from their turns; None: as usual.

    Raises:
        InputError: if the turns of one person have different strengths.
    """
    found = []
    for person in timeline.people:
        strengths = sorted({turn.strength for turn in timeline.turns_of(person.name)} or {1.0})
        if len(strengths) > 1:
            raise InputError(
                f"Turns of {person.name} have the strengths {strengths[0]:g} and {strengths[-1]:g}; in one video a "
                "voice has one. Make them the same."
            )
        found.append(strengths[0])
    return tuple(found) if any(strength != 1 for strength in found) else None


def _from_the_left(picture: Image.Image, count: int, say: Callable[[str], None], known: Any) -> list[PixelBox]:
    try:
        return bind_faces(picture, None, count, say, known)
    except InputError:
        found = bind_faces(picture, None, 1, lambda message: None, known)  # raises where there is none
        if len(found) >= count:
            raise
        raise _too_few(count, len(found)) from None


def _too_few(people: int, faces: int) -> InputError:
    return InputError(
        f"{people} people speak, but the picture shows {faces} {'faces' if faces != 1 else 'face'}. Give a picture of "
        f"{people}, or say where each face is with --face X,Y,WIDTH,HEIGHT, once a person."
    )


def _known(image: Any, picture: Image.Image, say: Callable[[str], None]) -> list[PixelBox] | None:
    return recorded_faces(image, picture.size, say) if isinstance(image, (str, Path)) else None
