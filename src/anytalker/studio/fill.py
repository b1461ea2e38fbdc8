"""Everybody's voice out of a script that is spoken, or out of one recording of all."""

from __future__ import annotations

from pathlib import Path

from anytalker.errors import InputError
from anytalker.queue.decoding import decode, voice_name
from anytalker.studio import words
from anytalker.studio.cast import Cast, Desk
from anytalker.timeline.model import Timeline, same_name


def from_script(desk: Desk, cast: Cast | None, script: str) -> Cast:
    """The people of a picture with what they say in a script; who is named in it has the name there, if anybody has.

    Raises:
        InputError: if there is no picture, the script can't be read or more people speak than are shown.
    """
    from anytalker.timeline.script import parse_script
    from anytalker.timeline.spoken import timeline_of_script

    known = _with_people(cast)
    return _filled(desk, known, timeline_of_script(parse_script(script)), Path("."))


def from_recording(desk: Desk, cast: Cast | None, upload: str) -> Cast:
    """The people of a picture with their voices out of one recording of all, from the left by their first words.

    Raises:
        InputError: if there is no picture, nobody speaks or more people do than are shown.
    """
    from anytalker.timeline.recording import timeline_of_recording

    known = _with_people(cast)
    with desk.queue.incoming() as folder:
        decode(folder, Path(known.picture), [desk.checked(upload)], None, desk.queue.settings.decoding)
        path = folder / voice_name(1)
        try:
            timeline = timeline_of_recording(path, faces=len(known.members))
        except InputError as error:  # the page has neither this file nor options of the command line
            said = str(error).partition(", or --speakers")[0].rstrip(".").replace(str(path), "the recording")
            raise InputError(f"{said[:1].upper()}{said[1:]}.") from error
        return _filled(desk, known, timeline, folder)


def _with_people(cast: Cast | None) -> Cast:
    if cast is None or not cast.members:
        raise InputError(words.NOBODY)
    return cast


def _filled(desk: Desk, cast: Cast, timeline: Timeline, folder: Path) -> Cast:
    from anytalker.media.recordings import write_wave
    from anytalker.timeline.streams import streams

    speakers = [person.name for person in timeline.people]
    if len(speakers) > len(cast.members):
        raise InputError(
            f"{len(speakers)} people speak ({', '.join(speakers)[:200]}), but the picture shows "
            f"{len(cast.members)}. Click on the other faces, or give another picture."
        )
    heard = streams(timeline, folder)
    names = [member.name for member in cast.members]
    voices: list[str | None] = [None] * len(names)
    with desk.place() as place:
        for number, seat in enumerate(_seats(names, speakers)):
            path = place / voice_name(number + 1)
            write_wave(path, heard[number][:])
            names[seat], voices[seat] = speakers[number], str(path)
    return cast.with_voices(names, voices)


def _seats(names: list[str], speakers: list[str]) -> list[int]:
    """Where each speaker is: where somebody has that name, the others from the left."""
    known = {same_name(name): place for place, name in enumerate(names)}
    seats = [known.get(same_name(speaker)) for speaker in speakers]
    free = iter([place for place in range(len(names)) if place not in seats])
    return [next(free) if seat is None else seat for seat in seats]
