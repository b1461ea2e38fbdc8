"""Scripts: plain text or Markdown with a name before what each one says, and Fountain."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from anytalker.errors import InputError
from anytalker.timeline.formats import read_text, reason_of
from anytalker.timeline.model import MAX_PEOPLE, MAX_TURNS, Person, Turn, clean_text, same_name

MAX_PAUSE = 60.0
_SPEAKER = re.compile(r"^([^\s:\[\](){}<>=/\\][^:\[\](){}<>=/\\]{0,59})((?:\s*\[[^\]]*\])*)\s*:(?:\s+|$)(.*)$")
_MARKS = re.compile(r"\*\*|__|(?<!\w)[*_](?=\S)|(?<=\S)[*_](?!\w)|`")
_BULLET = re.compile(r"^\s*(?:[-*+•]|\d+[.)]|>)\s+")
_TAG = re.compile(r"\[([^\[\]]*)\]|\(([^()]*)\)")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*")
_SCENE = re.compile(r"^(?:INT|EXT|EST|I/E|INT\.?/EXT)[. ]", re.IGNORECASE)
_CUE = re.compile(r"^@?([^()\[\]^]+)(?:\([^)]*\)\s*)*(\^)?$")
_TAGS = "[pause 0.5], [with NAME], [look at NAME], [strength 1.5] and languages such as [de]"


@dataclass(frozen=True)
class Line:
    """What one person says without a pause.

    Attributes:
        number: of the line in the script, from 1.
        person: who says it.
        text: the words alone.
        pause: seconds of silence before it, instead of the usual gap; None: the usual gap.
        alongside: somebody whose last turn starts at the same time.
        interrupted: whether the next turn begins before this one is over.
        language: of the text.
        direction: in brackets, such as "laughs".
        look_at: somebody who is looked at.
        strength: of the voice.
    """

    number: int
    person: str
    text: str
    pause: float | None = None
    alongside: str | None = None
    interrupted: bool = False
    language: str | None = None
    direction: str | None = None
    look_at: str | None = None
    strength: float = 1.0


@dataclass(frozen=True)
class Script:
    """People in the order of their first words (or as a line "People: Anna, Ben" has it), and what they say."""

    people: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


def read_script(path: str | Path) -> Script:
    """Read a script; a file that ends in .fountain is Fountain, any other plain text or Markdown.

    Raises:
        InputError: naming the line and what is wrong with it.
    """
    file = Path(path)
    return parse_script(read_text(file), str(file), fountain=file.suffix.lower() == ".fountain")


def parse_script(text: str, where: str = "The script", fountain: bool = False) -> Script:
    """Understand a script.

    Args:
        text: in plain text or Markdown, a paragraph "Anna: Hello! (laughs) [pause 0.5] How are you?" a turn; a
            paragraph without a name goes on with the last speaker. In Fountain, dialogue alone counts.
        where: what the script is called in messages.
        fountain: whether it is Fountain.

    Raises:
        InputError: see `read_script`.
    """
    speeches = _fountain(text, where) if fountain else _plain(text, where)
    declared: list[str] | None = None
    lines: list[Line] = []
    pause: float | None = None
    for number, name, tags, said in speeches:
        place = f"{where}, line {number}"
        if not lines and not fountain and same_name(name) in ("people", "cast"):
            declared = [_person(one, place) for one in said.split(",")]
            continue
        for line in _speech(number, _person(name, place), f"{tags} {said}", place):
            if line.text:
                waits = line.pause if line.pause is not None or line.alongside is not None else pause
                lines.append(replace(line, pause=waits))
            pause = None if line.text else line.pause
        if len(lines) > MAX_TURNS:
            raise InputError(f"{where} has more than {MAX_TURNS} turns. Cut it into parts.")
    if not lines:
        raise InputError(f"{where} has no line such as 'Anna: Hello!', so nobody says anything.")
    return _cast(lines, declared, where)


def _person(name: str, place: str) -> str:
    try:
        return Person(name=name).name
    except ValueError:
        raise InputError(f"{place}: {clean_text(name)[:60]!r} can't be a name.") from None


def _cast(lines: list[Line], declared: list[str] | None, where: str) -> Script:
    """Spell names as they are spelt first, and make sure that everybody who is named is there."""
    order = declared or [line.person for line in lines]
    names: dict[str, str] = {}
    for name in order:
        names.setdefault(same_name(name), name)
    if len(names) > MAX_PEOPLE:
        raise InputError(f"{where} has {len(names)} people; at most {MAX_PEOPLE} are possible.")

    def known(name: str | None, line: Line) -> str | None:
        if name is None or same_name(name) in names:
            return name and names[same_name(name)]
        raise InputError(f"{where}, line {line.number}: there is no {name}; there are {', '.join(names.values())}.")

    spelt: list[Line] = []
    for line in lines:
        person, alongside, look_at = (known(name, line) for name in (line.person, line.alongside, line.look_at))
        if alongside is not None and all(before.person != alongside for before in spelt):
            raise InputError(
                f"{where}, line {line.number}: [with {alongside}] stands before {alongside} says anything."
            )
        if alongside == person:
            raise InputError(f"{where}, line {line.number}: {person} can't speak with themselves.")
        spelt.append(replace(line, person=person or "", alongside=alongside, look_at=look_at))
    return Script(list(names.values()), spelt)


def _plain(text: str, where: str) -> Iterator[tuple[int, str, str, str]]:
    """(line, name, tags behind the name, what is said) of plain text or Markdown."""
    current: tuple[int, str, str, str] | None = None
    text = _without(text, "<!--", "-->", "\n")
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip().lstrip("\u200e\u200f\u061c")
        if line.startswith(("#", "<!--")) or re.fullmatch(r"[-*_=\s]*", line):
            continue
        line = _MARKS.sub("", _BULLET.sub("", line)).strip()
        found = _SPEAKER.match(line.removeprefix("\\"))
        if found and not line.startswith("\\"):
            if current:
                yield current
            current = (number, found[1].strip(), found[2], found[3])
        elif current:
            current = (*current[:3], f"{current[3]} {line.removeprefix(chr(92))}")
        elif line:
            raise InputError(f"{where}, line {number}: nobody says {line[:40]!r}; begin it with a name, 'Anna: …'.")
    if current:
        yield current


def _fountain(text: str, where: str) -> Iterator[tuple[int, str, str, str]]:
    """Dialogue of Fountain (fountain.io/syntax): a cue in capitals after an empty line, and what follows it."""
    text = _without(text.replace("\r\n", "\n"), "/*", "*/", "\n")
    lines = _without(text, "[[", "]]", "\n  ").splitlines()  # two spaces: dialogue goes on
    number = 0
    last: str | None = None
    while number < len(lines):
        line = lines[number].strip()
        cue = _CUE.match(line) if not lines[number - 1].strip() or number == 0 else None
        follows = number + 1 < len(lines) and bool(lines[number + 1].strip())
        if cue and follows and (line.startswith("@") or _shouted(cue[1])) and not _is_heading(line):
            start, said = number + 1, []
            number += 1
            while number < len(lines) and (lines[number].strip() or lines[number] == "  "):
                said.append(lines[number].strip().removeprefix("~"))
                number += 1
            name = cue[1].strip()
            tags = f"[with {last}]" if cue[2] and last else ""
            yield start, name, tags, _MARKS.sub("", " ".join(said))
            last = name
        number += 1


def _without(text: str, opening: str, closing: str, line: str) -> str:
    """A text without its comments, of whose lines `line` is left, so that those after them keep their numbers."""
    kept, position = [], 0
    while (start := text.find(opening, position)) >= 0:
        end = text.find(closing, start + len(opening))
        if end < 0:
            break
        kept += [text[position:start], line * text.count("\n", start, end)]
        position = end + len(closing)
    return "".join(kept) + text[position:]


def _shouted(name: str) -> bool:
    return name == name.upper() and any(character.isalpha() for character in name)


def _is_heading(line: str) -> bool:
    return bool(_SCENE.match(line)) or line.startswith((".", ">", "#", "=", "!")) or line.endswith("TO:")


def _speech(number: int, person: str, text: str, place: str) -> Iterator[Line]:
    """The lines of one speech, cut where pauses are; after a pause at its end one without text."""
    _check_balance(text, place)
    line = Line(number, person, "")
    words: list[str] = []
    directions: list[str] = []
    found_any = False
    position = 0
    for tag in [*_TAG.finditer(text), None]:
        words.append(text[position : tag.start() if tag else len(text)])
        if tag is None:
            break
        position = tag.end()
        if tag[1] is None:
            directions.append(clean_text(tag[2]))
            continue
        change = _tag(tag[1].strip(), place)
        if "pause" in change and _has_words(words):
            yield _finished(line, words, directions, place)
            found_any = True
            line = Line(number, person, "", language=line.language, strength=line.strength, look_at=line.look_at)
            words, directions = [], []
        line = replace(line, **change)
    if _has_words(words):
        yield _finished(line, words, directions, place)
    elif found_any:
        yield line
    else:
        raise InputError(f"{place}: {person} says nothing. Write words, or take the line out.")


def _has_words(words: list[str]) -> bool:
    return any(character.isalnum() for character in "".join(words))


def _finished(line: Line, words: list[str], directions: list[str], place: str) -> Line:
    text, interrupted = _without_dash(clean_text(" ".join(words)))
    try:
        Turn(person=line.person, start=0, end=1, text=text)
    except ValueError as error:
        raise InputError(f"{place}: {reason_of(error)}") from None
    return replace(line, text=text, interrupted=interrupted, direction="; ".join(filter(None, directions)) or None)


def _without_dash(text: str) -> tuple[str, bool]:
    """A text without the dash at its end, "—" or "--", after which another one breaks in; and whether there was one."""
    if text.endswith("—"):
        return text[:-1].rstrip(), True
    rest = text.rstrip("-")  # a regular expression would take a time that grows with the square of the dashes
    return (rest.rstrip(), True) if len(rest) < len(text) - 1 else (text, False)


def _check_balance(text: str, place: str) -> None:
    """Make sure that every bracket has its partner."""
    for opening, closing in ("[]", "()"):
        depth = 0
        for character in text:
            depth += (character == opening) - (character == closing)
            if not 0 <= depth <= 1:
                break
        if depth:
            raise InputError(f"{place}: the brackets {opening}{closing} are not in pairs in {clean_text(text)[:60]!r}.")


def _tag(tag: str, place: str) -> dict[str, Any]:
    """What a tag in square brackets changes."""
    words = tag.split(maxsplit=1)
    key, rest = (words[0].lower(), words[1] if len(words) > 1 else "") if words else ("", "")
    if key in ("pause", "strength"):
        least, most = (0.0, MAX_PAUSE) if key == "pause" else (0.0, 10.0)
        try:
            value = float(rest.removesuffix("s").strip() or ("0.5" if key == "pause" else "nan"))
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise InputError(
                f"{place}: [{tag}] can't be used; give a number from {least:g} to {most:g}, as in [{key} 0.5]."
            )
        return {key: value}
    if key == "with" and rest:
        return {"alongside": clean_text(rest)}
    if key == "look" and rest.lower().startswith("at "):
        return {"look_at": clean_text(rest[3:])}
    if _LANGUAGE.fullmatch(tag):
        return {"language": tag}
    raise InputError(f"{place}: there is no tag [{tag[:40]}]; there are {_TAGS}.")
