"""The timeline: who is there, and who says what when. Every way in makes one, and `generate --timeline` plays one."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from anytalker.errors import InputError
from anytalker.files import write_json_atomic

VERSION = 1
MAX_TURNS, MAX_PEOPLE, MAX_SECONDS = 5000, 50, 6 * 3600
_LARGEST = 2**25
_FORBIDDEN = re.compile(r"[:<>\[\]{}()=/\\\x00-\x1f]")
_KEPT = "\t\n\r\u200c\u200d"
_LONGEST_NAME, _LONGEST_TEXT = 60, 5000


def clean_text(text: str) -> str:
    """Text in one line, in composed letters, without marks that take no room, such as those of direction."""
    hidden = ("Cf", "Cc", "Cs", "Co", "Cn")
    shown = (one for one in text if one in _KEPT or unicodedata.category(one) not in hidden)
    return " ".join(unicodedata.normalize("NFC", "".join(shown)).split())


def same_name(name: str) -> str:
    """What spellings of one name have in common."""
    return clean_text(name).casefold()


def _name(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    name = clean_text(value)
    if not name or len(name) > _LONGEST_NAME or _FORBIDDEN.search(name):
        raise InputError(
            f"{value!r} can't be the name of a person; give 1 to {_LONGEST_NAME} characters, and none of "
            "these: : < > [ ] { } ( ) = / \\"
        )
    return name


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = clean_text(value)
    if not any(character.isalnum() for character in text):
        raise InputError(f"The text {value[:40]!r} has nothing that can be said; write words, or leave the turn out.")
    if len(text) > _LONGEST_TEXT:
        raise InputError(
            f"The text {text[:40]!r}… has {len(text)} characters; {_LONGEST_TEXT} are possible. Split the turn."
        )
    return text


def _milliseconds(value: Any) -> Any:
    return round(value, 3) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


Name = Annotated[str, BeforeValidator(_name)]
Text = Annotated[str, BeforeValidator(_text)]
Seconds = Annotated[float, BeforeValidator(_milliseconds), Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]
_Pixel = Annotated[int, Field(ge=0)]
_Side = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SpokenVoice(_Part):
    """How a person sounds where text is spoken.

    Attributes:
        name: what the engine calls the voice: a language ("de") or a language and a variant ("en-us+f2") for
            espeak-ng, "alloy" for some endpoints; None: chosen by the person's place.
        speed: 1 is usual, 0.5 to 2.
        pitch: 1 is usual, 0.5 to 2; endpoints have none.
    """

    name: str | None = None
    speed: float = Field(default=1.0, ge=0.5, le=2)
    pitch: float = Field(default=1.0, ge=0.5, le=2)


class Person(_Part):
    """Somebody in the picture.

    Attributes:
        name: by which turns name them.
        face: a box (x, y, width, height) or a point (x, y) in pixels of the picture, a number from the left, or the
            path of a black-and-white picture; None: the next from the left.
        voice: for text.
    """

    name: Name
    face: tuple[_Pixel, _Pixel, _Pixel, _Pixel] | tuple[_Side, _Side] | Annotated[int, Field(ge=1)] | str | None = None
    voice: SpokenVoice | None = None


class TurnSound(_Part):
    """Where a turn's sound lies: `file` ("talk.wav:left" is one channel), from `offset` seconds on."""

    file: str = Field(min_length=1)
    offset: Seconds = 0.0


class Turn(_Part):
    """What one person says at a time.

    Attributes:
        person: their name.
        start, end: seconds of the video, whole milliseconds.
        text: what is said; spoken, unless there is sound.
        sound: what is heard.
        language: of the text, if not that of the person's voice.
        direction: how it is said or what happens, such as "laughs".
        strength: how much the voice moves the face, 0 to 10; 1 is usual.
        look_at: the name of somebody who is looked at meanwhile.
    """

    person: Name
    start: Seconds
    end: Seconds
    text: Text | None = None
    sound: TurnSound | None = None
    language: str | None = Field(default=None, pattern=r"^[a-zA-Z]{2,3}(-[a-zA-Z0-9]+)*$")
    direction: str | None = None
    strength: float = Field(default=1.0, ge=0, le=10)
    look_at: Name | None = None

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return round(self.end - self.start, 3)


class Timeline(_Part):
    """People, and their turns in order.

    Attributes:
        version: of this format.
        people: in the order in which they get faces from the left.
        turns: by start; one person's turns don't overlap.

    Raises:
        InputError: from `checked`, `read` and `of`, for anything that doesn't fit together.
    """

    version: int = Field(default=VERSION, ge=1, le=VERSION)
    people: tuple[Person, ...] = Field(min_length=1, max_length=MAX_PEOPLE)
    turns: tuple[Turn, ...] = Field(min_length=1, max_length=MAX_TURNS)

    @model_validator(mode="after")
    def _together(self) -> Timeline:
        known = {same_name(person.name): person.name for person in self.people}
        if len(known) < len(self.people):
            raise InputError(f"Two people have the same name; there are {', '.join(one.name for one in self.people)}.")
        order = {name: place for place, name in enumerate(known)}
        turns = []
        for number, turn in enumerate(self.turns, start=1):
            for name in filter(None, (turn.person, turn.look_at)):
                if same_name(name) not in known:
                    raise InputError(
                        f"Turn {number} names {name}, who isn't there; there are {', '.join(known.values())}."
                    )
            if turn.end <= turn.start:
                raise InputError(
                    f"Turn {number} ({turn.person}) starts at {turn.start:g} s and ends at {turn.end:g} s; "
                    "the end must be later."
                )
            look = turn.look_at and known[same_name(turn.look_at)]
            turns.append(turn.model_copy(update={"person": known[same_name(turn.person)], "look_at": look}))
        turns.sort(key=lambda turn: (turn.start, turn.end, order[same_name(turn.person)]))
        ends: dict[str, Turn] = {}
        for turn in turns:
            before = ends.get(turn.person)
            if before is not None and turn.start < before.end:
                raise InputError(
                    f"{turn.person} would speak twice at {turn.start:g} s: a turn from {before.start:g} to "
                    f"{before.end:g} s is not over. Shorten or move one of the two."
                )
            ends[turn.person] = turn
        object.__setattr__(self, "turns", tuple(turns))
        return self

    @classmethod
    def of(cls, turns: Iterable[Turn], people: Iterable[Person] = ()) -> Timeline:
        """A timeline of turns; who isn't among `people` comes after them, in the order of the first words."""
        given, spoken = list(people), sorted(turns, key=lambda turn: turn.start)
        known = {same_name(person.name) for person in given}
        for turn in spoken:
            if same_name(turn.person) not in known:
                known.add(same_name(turn.person))
                given.append(Person(name=turn.person))
        return cls.checked({"people": given, "turns": spoken})

    @classmethod
    def checked(cls, data: Any, where: str = "The timeline") -> Timeline:
        """A timeline from what JSON holds; `where` it is from, for messages."""
        if isinstance(data, dict):
            for key, most in (("turns", MAX_TURNS), ("people", MAX_PEOPLE)):
                count = len(data[key]) if isinstance(data.get(key), (list, tuple)) else None
                if count == 0:
                    raise InputError(f"{where} has no {key}; there must be at least one.")
                if count is not None and count > most:
                    raise InputError(f"{where} has {count} {key}; at most {most} are possible. Split it.")
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            said = first.get("ctx", {}).get("error")
            place = _place(first["loc"])
            if isinstance(said, InputError):
                raise InputError(f"{where}{place}: {said}") from None
            given = "" if first["type"] == "missing" else f", not {str(first['input'])[:60]!r}"
            message = first["msg"][:1].lower() + first["msg"][1:]
            raise InputError(f"{where}{place}: {message}{given}.") from None

    @classmethod
    def read(cls, path: str | Path) -> Timeline:
        """A timeline from its JSON, or from the record of a video, which holds one."""
        file = Path(path)
        try:
            if file.stat().st_size > _LARGEST:
                raise InputError(f"{file} is too large for a timeline ({file.stat().st_size} bytes).")
            data = json.loads(file.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise InputError(f"The timeline {file} can't be read: {error.strerror}. Check the path.") from error
        except InputError:
            raise
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{file} is no JSON that can be read ({error}). `anytalker timeline` writes one."
            ) from error
        if isinstance(data, dict) and "timeline" in data and "turns" not in data:
            data = data["timeline"]
        if not isinstance(data, dict):
            raise InputError(f"{file} holds no timeline; it must be an object with people and turns.")
        return cls.checked(data, str(file))

    def write(self, path: str | Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_json_atomic(path, self.as_json())

    def as_json(self) -> dict[str, Any]:
        """What `read` takes, without what is left at its default."""
        plain = self.model_dump(mode="json", exclude_defaults=True, exclude={"people", "turns"})
        people = [person.model_dump(mode="json", exclude_defaults=True) for person in self.people]
        turns = [turn.model_dump(mode="json", exclude_defaults=True) for turn in self.turns]
        return {"version": self.version, **plain, "people": people, "turns": turns}

    def person(self, name: str) -> Person:
        """A person by name, whatever its case.

        Raises:
            InputError: if there is nobody of that name.
        """
        for person in self.people:
            if same_name(person.name) == same_name(name):
                return person
        raise InputError(f"There is nobody called {name}; there are {', '.join(one.name for one in self.people)}.")

    def turns_of(self, name: str) -> list[Turn]:
        """One person's turns, in order."""
        return [turn for turn in self.turns if turn.person == name]

    @property
    def seconds(self) -> float:
        """When the last turn ends."""
        return max(turn.end for turn in self.turns)

    def relocated(self, before: str | Path, after: str | Path) -> Timeline:
        """The same, its sound files named from the folder `after` instead of `before`."""

        def moved(turn: Turn) -> Turn:
            if turn.sound is None:
                return turn
            file = _seen(turn.sound.file, before, after)
            return turn.model_copy(update={"sound": turn.sound.model_copy(update={"file": file})})

        turns = map(moved, self.turns)
        return self.model_copy(update={"turns": tuple(turns)})

    def until(self, seconds: float) -> Timeline | None:
        """What happens before a moment; None if nobody speaks before it."""
        turns = [turn for turn in self.turns if turn.start < round(seconds, 3)]
        cut = (turn.model_copy(update={"end": min(turn.end, round(seconds, 3))}) for turn in turns)
        return self.model_copy(update={"turns": tuple(cut)}) if turns else None

    @property
    def overlaps(self) -> list[tuple[float, float]]:
        """[start, end) in seconds where two or more people speak."""
        return self._where(lambda count: count > 1)

    @property
    def pauses(self) -> list[tuple[float, float]]:
        """[start, end) in seconds, up to the last turn's end, where nobody speaks."""
        return self._where(lambda count: count == 0)

    def _where(self, wanted: Any) -> list[tuple[float, float]]:
        changes = sorted([(turn.start, 1) for turn in self.turns] + [(turn.end, -1) for turn in self.turns])
        found: list[tuple[float, float]] = []
        count, last = 0, 0.0
        for moment, change in changes:
            if wanted(count) and moment > last:
                found[-1:] = (
                    [(found[-1][0], moment)] if found and found[-1][1] == last else [*found[-1:], (last, moment)]
                )
            count, last = count + change, moment
        return found


def _seen(file: str, before: str | Path, after: str | Path) -> str:
    """A file's name as it is from another folder, with / between its parts."""
    if str(before) == str(after):
        return file
    whole = os.path.abspath(Path(before) / file)
    try:
        return os.path.relpath(whole, after).replace(os.sep, "/")
    except ValueError:  # another drive
        return whole


def _place(location: tuple[int | str, ...]) -> str:
    """In words: ", turn 3, end" for ("turns", 2, "end")."""
    said = ""
    for part in location:
        if isinstance(part, int):
            said += f" {part + 1}"
        elif part in ("turns", "people"):
            said += ", turn" if part == "turns" else ", person"
        elif part not in ("int", "str") and "[" not in part:
            said += f", {part}"
    return said
