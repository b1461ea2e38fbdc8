"""What a job of the queue asks for: a model, options, and people with voices, a timeline or a script."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from anytalker.errors import InputError
from anytalker.pipelines.options import GenerationOptions
from anytalker.timeline.model import MAX_PEOPLE, Name, Timeline

LONGEST_SCRIPT = 100_000
"""Characters."""
_VOICE_FILE = re.compile(r"voice-([1-9][0-9]{0,2})\.wav")
_SPOKEN_VOICE = re.compile(r"[A-Za-z0-9]{1,20}(-[A-Za-z0-9]{1,20}){0,4}(\+[A-Za-z0-9]{1,20})?")
_Side = Annotated[float, Field(ge=0, le=2**20, allow_inf_nan=False)]


class PersonRequest(BaseModel):
    """Somebody in the picture.

    Attributes:
        voice: number of their recording among those of the job, from 1; None: listens.
        box: of the face (x, y, width, height), in pixels of the picture.
        point: (x, y) on the face instead.
        order: number from the left instead, from 1. None of the three: the next from the left.
        name: of the person, for the record; with a script, who this is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    voice: int | None = Field(default=None, ge=1, le=MAX_PEOPLE)
    box: tuple[_Side, _Side, _Side, _Side] | None = None
    point: tuple[_Side, _Side] | None = None
    order: int | None = Field(default=None, ge=1, le=1000)
    name: Name | None = None

    @property
    def face(self) -> Any:
        """The choice of the face as `bind_faces` takes it; None: the next from the left."""
        if self.box is not None:
            x, y, width, height = map(round, self.box)
            return x, y, width, height
        return self.point or self.order

    @model_validator(mode="after")
    def _one_face(self) -> PersonRequest:
        if sum(choice is not None for choice in (self.box, self.point, self.order)) > 1:
            raise InputError("A person has a box, a point or an order, one of the three at most.")
        return self


class VideoRequest(GenerationOptions):
    """One video, its picture and recordings apart, which are files of the job.

    Attributes:
        model: name or path of the model.
        seed: of the noise.
        people: in their order; empty: one a recording, from the left.
        timeline: who says what when, instead; its sounds are files of the job ("voice-1.wav").
        script: what is spoken, instead, see `anytalker.timeline.script`.
    """

    model: str = Field(default="tiny", min_length=1, max_length=500)
    seed: int = Field(default=0, ge=0, lt=2**63)
    people: tuple[PersonRequest, ...] = Field(default=(), max_length=MAX_PEOPLE)
    timeline: Timeline | None = None
    script: str | None = Field(default=None, max_length=LONGEST_SCRIPT)

    @property
    def options(self) -> GenerationOptions:
        """What is asked of the video besides its people and voices."""
        return GenerationOptions(**{name: getattr(self, name) for name in GenerationOptions.model_fields})

    def with_people(self, voices: int) -> VideoRequest:
        """The same with its people, for so many recordings; checks that they go together.

        Raises:
            InputError: if nobody has a voice, or a recording is named that isn't there.
        """
        if self.timeline is not None and self.script is not None:
            raise InputError("A timeline and a script can't go together. Give one of them.")
        if self.timeline is not None:
            self._check_sounds(self.timeline, voices)
            return self
        if self.script is not None:
            _check_script(self.script, [person.name for person in self.people])
            return self
        people = self.people or tuple(PersonRequest(voice=number + 1) for number in range(voices))
        used = [person.voice for person in people if person.voice is not None]
        if not used:
            raise InputError("Nobody has a voice; give at least one recording, a timeline or a script.")
        if max(used) > voices:
            raise InputError(f"Recording {max(used)} is named, but there are {voices}.")
        unused = sorted(set(range(1, voices + 1)) - set(used))
        if unused:
            raise InputError(f"Recording {unused[0]} belongs to nobody; name it in people, or leave it out.")
        return self.model_copy(update={"people": people})

    def _check_sounds(self, timeline: Timeline, voices: int) -> None:
        for number, turn in enumerate(timeline.turns, start=1):
            found = _VOICE_FILE.fullmatch(turn.sound.file) if turn.sound is not None else None
            if turn.sound is not None and (found is None or int(found[1]) > voices):
                raise InputError(f"Turn {number} names a recording that isn't there; there are {voices}.")
            if turn.sound is None and turn.text is None:
                raise InputError(f"Turn {number} has neither text nor sound; give one of them.")
        for person in timeline.people:
            if isinstance(person.face, str):
                raise InputError(f"The face of {person.name} is a file; give a box, a point or a number.")
            voice = person.voice.name if person.voice is not None else None
            if voice is not None and not _SPOKEN_VOICE.fullmatch(voice):
                raise InputError(f"{voice[:40]!r} isn't the name of a spoken voice; give one such as 'en-us+f2'.")


def _check_script(script: str, names: list[str | None]) -> None:
    from anytalker.timeline.model import same_name
    from anytalker.timeline.script import parse_script

    speakers = parse_script(script).people
    known = set(map(same_name, speakers))
    for name in names:
        if name is None or same_name(name) not in known:
            raise InputError(f"With a script every person has the name of a speaker: {', '.join(speakers)}.")
