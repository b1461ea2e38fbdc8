"""Timelines as subtitles (SRT, WebVTT) and as RTTM, there and back.

Subtitles hold people, times and texts; RTTM holds people and times. Times are whole milliseconds.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

from anytalker.errors import InputError
from anytalker.files import atomic_path
from anytalker.timeline.model import MAX_TURNS, Timeline, Turn

_STAMP = r"(-?(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3})"
_TIMES = re.compile(rf"^\s*{_STAMP}\s*-->\s*{_STAMP}(\s.*)?$")
_SPEAKER = re.compile(r"^\s*(?:[-–—]\s*)?([^:]{1,60}):(?:\s+|$)(.*)$")
_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?\s+([^<>]*)>")
_MARKUP = re.compile(r"</?(?:b|i|u|font)(?:\s[^<>]*)?>|\{\\[^{}]*\}", re.IGNORECASE)
_VTT_MARKUP = re.compile(r"</?(?:v|b|i|u|c|lang|ruby|rt)(?:[\s.][^<>]*)?>|<\d[\d:.]*>", re.IGNORECASE)
_DASHES = ("-", "–", "—")
"""What a line may begin with where several speak in one cue."""
_LARGEST = 2**24
_EXAMPLE = "00:00:01,000 --> 00:00:02,000"
KINDS = (".json", ".srt", ".vtt", ".rttm")


def read_timeline(path: str | Path) -> Timeline:
    """Read a timeline from JSON, SRT, WebVTT or RTTM, by the file's ending.

    Raises:
        InputError: if the file can't be read or doesn't hold what its ending promises.
    """
    file = Path(path)
    kind = file.suffix.lower()
    if kind not in KINDS:
        raise InputError(f"The timeline {file} must end in {', '.join(KINDS[:-1])} or {KINDS[-1]}.")
    if kind == ".json":
        return Timeline.read(file)
    text = read_text(file)
    turns = list(_rttm_turns(text, file) if kind == ".rttm" else _subtitle_turns(text, file))
    if not turns:
        raise InputError(f"{file} holds no turns.")
    try:
        return Timeline.of(turns)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def write_timeline(timeline: Timeline, path: str | Path) -> None:
    """Write a timeline, whole or not at all, in the format of the file's ending.

    Raises:
        InputError: for another ending than `KINDS`.
    """
    writers = {".srt": to_srt, ".vtt": to_vtt, ".rttm": to_rttm}
    kind = Path(path).suffix.lower()
    if kind == ".json":
        timeline.write(path)
        return
    if kind not in writers:
        raise InputError(f"The output {path} must end in {', '.join(KINDS[:-1])} or {KINDS[-1]}.")
    with atomic_path(path) as partial:
        partial.write_text(writers[kind](timeline), encoding="utf-8")


def read_text(path: Path) -> str:
    """A text file in UTF-8.

    Raises:
        InputError: if it can't be read, is no text, or is larger than 16 MB.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path} has {path.stat().st_size} bytes; a text of at most {_LARGEST} can be read.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}. Check the path.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8 ({error.reason}). Save it as UTF-8.") from error
    if "\0" in text:
        raise InputError(f"{path} is no text. Give a text file in UTF-8.")
    return text


def to_srt(timeline: Timeline) -> str:
    """SubRip, a cue a turn: "Anna: Hello!"."""
    cues = (
        f"{number}\n{_stamp(turn.start, ',')} --> {_stamp(turn.end, ',')}\n"
        f"{'- ' if turn.person.startswith(_DASHES) else ''}{turn.person}: {turn.text or ''}".rstrip()
        for number, turn in enumerate(timeline.turns, start=1)
    )
    return "\n\n".join(cues) + "\n"


def to_vtt(timeline: Timeline) -> str:
    """WebVTT, a cue a turn with its voice: "<v Anna>Hello!"."""
    cues = (
        f"{_stamp(turn.start, '.')} --> {_stamp(turn.end, '.')}\n"
        f"<v {html.escape(turn.person, quote=False)}>{html.escape(turn.text or '', quote=False)}</v>"
        for turn in timeline.turns
    )
    return "\n\n".join(["WEBVTT", *cues]) + "\n"


def to_rttm(timeline: Timeline, recording: str = "anytalker") -> str:
    """RTTM (NIST), a SPEAKER line a turn; spaces in names are written as %20."""
    return "".join(
        f"SPEAKER {quote(recording, safe='')} 1 {turn.start:.3f} {turn.seconds:.3f} <NA> <NA> "
        f"{_rttm_name(turn.person)} <NA> <NA>\n"
        for turn in timeline.turns
    )


def _rttm_name(name: str) -> str:
    return re.sub(r"[\s%]", lambda found: quote(found.group()), name)


def _stamp(seconds: float, point: str) -> str:
    total = round(seconds * 1000)
    hours, rest = divmod(total, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def _seconds(stamp: str, where: str) -> float:
    if stamp.startswith("-"):
        raise InputError(f"{where}: the time {stamp} is negative.")
    clock, _, fraction = stamp.replace(",", ".").partition(".")
    total = 0
    for part in clock.split(":"):
        total = 60 * total + int(part)
    return total + int(fraction.ljust(3, "0")) / 1000


def _subtitle_turns(text: str, file: Path) -> Iterator[Turn]:
    """Turns of SRT or WebVTT: both are blocks between empty lines, with one line that has an arrow."""
    web = file.suffix.lower() == ".vtt"
    if web and not text.startswith("WEBVTT"):
        raise InputError(f"{file} doesn't begin with WEBVTT, so it is no WebVTT.")
    cues = 0
    for block in re.split(r"\n[ \t]*\n+", text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")):
        lines = block.split("\n")
        arrow = next((number for number, line in enumerate(lines[:2]) if "-->" in line), None)
        if arrow is None:
            if not web and block.strip():
                raise InputError(
                    f"{file}: {lines[0][:40]!r} is no cue; it needs a line such as 00:00:01,000 --> 00:00:02,000."
                )
            continue
        cues += 1
        where = f"{file}, cue {cues}"
        if cues > MAX_TURNS:
            raise InputError(f"{file} has more than {MAX_TURNS} cues. Split it.")
        found = _TIMES.match(lines[arrow])
        if not found:
            raise InputError(
                f"{where}: {lines[arrow].strip()[:60]!r} are no times such as 00:00:01,000 --> 00:00:02,000."
            )
        start, end = (_seconds(stamp, where) for stamp in found.groups()[:2])
        for name, said in (_voices if web else _spoken)(lines[arrow + 1 :], where):
            try:
                yield Turn(person=name, start=start, end=end, text=said or None)
            except ValueError as error:
                raise InputError(f"{where}: {reason_of(error)}") from None


def _voices(lines: list[str], where: str) -> list[tuple[str, str]]:
    """(name, text) of everybody who speaks in a cue of WebVTT."""
    whole = "\n".join(lines)
    voices = list(_VOICE.finditer(whole))
    if voices:
        ends = [*(voice.start() for voice in voices[1:]), len(whole)]
        return [
            (html.unescape(voice[1]), html.unescape(_VTT_MARKUP.sub("", whole[voice.end() : end])))
            for voice, end in zip(voices, ends, strict=True)
        ]
    return _spoken([html.unescape(_VTT_MARKUP.sub("", line)) for line in lines], where)


def _spoken(lines: list[str], where: str) -> list[tuple[str, str]]:
    """(name, text) of everybody who speaks in a cue that names them as "Anna: Hello!"."""
    found: list[tuple[str, str]] = []
    for line in (_MARKUP.sub("", one) for one in lines):
        speaker = _SPEAKER.match(line)
        if speaker and (not found or found[-1][0] != speaker[1]):
            found.append((speaker[1], speaker[2]))
        elif found:
            found[-1] = (found[-1][0], f"{found[-1][1]} {line}")
        elif line.strip():
            raise InputError(f"{where} says nobody's name; write 'Name: text', or <v Name>text in WebVTT.")
    if not found:
        raise InputError(f"{where} is empty; write 'Name: text', or leave it out.")
    return found


def _rttm_turns(text: str, file: Path) -> Iterator[Turn]:
    count, recording = 0, ""
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields or line.startswith(";;") or fields[0] != "SPEAKER":
            continue
        count += 1
        if count > MAX_TURNS:
            raise InputError(f"{file} has more than {MAX_TURNS} turns. Split it.")
        where = f"{file}, line {number}"
        try:
            start, seconds = float(fields[3]), float(fields[4])
            name = unquote(fields[7])
            recording = recording or fields[1]
        except (IndexError, ValueError):
            raise InputError(
                f"{where} is no RTTM: it must be SPEAKER file channel start duration <NA> <NA> name <NA> <NA>."
            ) from None
        if fields[1] != recording:
            raise InputError(f"{where} is of the recording {fields[1]}, the lines before are of {recording}. Split it.")
        if start < 0 or seconds < 0:
            raise InputError(f"{where}: the time {min(start, seconds):g} is negative.")
        try:
            yield Turn(person=name, start=start, end=round(start + seconds, 3))
        except ValueError as error:
            raise InputError(f"{where}: {reason_of(error)}") from None


def reason_of(error: ValueError) -> str:
    """What is wrong with a turn, in a sentence."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return str(
            first.get("ctx", {}).get("error") or f"{first['loc'][0]}: {first['msg']}, not {str(first['input'])[:40]}."
        )
    return str(error)
