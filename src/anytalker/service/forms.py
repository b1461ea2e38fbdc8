"""From a form to a request: files are copied under names of our own, texts are checked."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.datastructures import FormData, UploadFile

from anytalker.errors import InputError
from anytalker.pipelines.options import checked
from anytalker.queue.request import LONGEST_SCRIPT, PersonRequest, VideoRequest
from anytalker.service.schemas import FIELDS, OPTIONS, TEXTS
from anytalker.service.settings import Limits
from anytalker.timeline.model import MAX_PEOPLE, Timeline

_NONE = "none"
_LONGEST_TEXT = 5000
"""Characters of a field."""
_ALIASES = {"steps": "num_inference_steps"}
_DEEPEST = 8
_LONGEST_NUMBERS = 1000
"""Characters of a number, or of a list of them."""


@dataclass(frozen=True)
class VideoForm:
    """A form, checked.

    Attributes:
        request: what is asked for.
        image: the picture's upload.
        voices: the recordings' uploads.
        at: of a video as the picture, the second of the frame.
        webhook: URL and secret; None: nobody is told.
        fields: all texts, for the digest.
    """

    request: VideoRequest
    image: UploadFile
    voices: list[UploadFile]
    at: float | None
    webhook: tuple[str, str] | None
    fields: dict[str, list[str]]


def read_form(form: FormData, models: Sequence[str], limits: Limits) -> VideoForm:
    """Check a form.

    Args:
        form: as it came.
        models: names that may be asked for, the default first.
        limits: what may be asked for.

    Raises:
        InputError: saying which field can't be used, and why.
    """
    texts: dict[str, list[str]] = {}
    uploads: dict[str, list[UploadFile | None]] = {"image": [], "audio": []}
    for name, value in form.multi_items():
        name = _ALIASES.get(name, name)
        if name in uploads:
            uploads[name].append(_upload(name, value))
        elif name not in FIELDS:
            known = ", ".join(sorted({"image", "audio", *FIELDS}))
            raise InputError(f"There is no field {name[:40]!r}; there are {known}.")
        elif isinstance(value, UploadFile):
            raise InputError(f"The field {name} is a text, not a file.")
        else:
            texts.setdefault(name, []).append(value)
    if len(uploads["image"]) != 1 or uploads["image"][0] is None:
        raise InputError("Give one image: a picture as a file.")
    if len(uploads["audio"]) > MAX_PEOPLE:
        raise InputError(f"There are {len(uploads['audio'])} audio parts; at most {MAX_PEOPLE} are possible.")
    values = {name: _single(name, given) for name, given in texts.items()}
    voices = [voice for voice in uploads["audio"] if voice is not None]
    request = _request(values, uploads["audio"], models)
    _check_limits(request, limits)
    return VideoForm(request, uploads["image"][0], voices, _moment(values), _webhook(values), texts)


def keep_uploads(form: VideoForm, folder: Path) -> tuple[Path, list[Path], str]:
    """Copy the files into a folder under names of our own; these, and a digest of the whole form."""
    digest = hashlib.sha256(json.dumps(sorted(form.fields.items())).encode())
    digest.update(form.request.model_dump_json().encode())
    kept = []
    for number, upload in enumerate([form.image, *form.voices]):
        path = folder / f"upload-{number}"
        upload.file.seek(0)
        with path.open("xb") as file:
            shutil.copyfileobj(upload.file, file, 2**20)
        with path.open("rb") as file:
            while piece := file.read(2**20):
                digest.update(piece)
        digest.update(b"|")
        kept.append(path)
    return kept[0], kept[1:], digest.hexdigest()


def _upload(name: str, value: str | UploadFile) -> UploadFile | None:
    if isinstance(value, UploadFile):
        if not value.size:
            raise InputError(f"The {name} part is empty. Give a file.")
        return value
    if name == "audio" and value.strip().lower() == _NONE:
        return None
    ending = ", or the text 'none' for one who listens" if name == "audio" else ""
    raise InputError(f"The {name} part is a text; it must be a file{ending}.")


def _single(name: str, given: list[str]) -> str:
    if len(given) > 1:
        raise InputError(f"The field {name} was given {len(given)} times; once is enough.")
    most = LONGEST_SCRIPT if name in ("script", "timeline", "people") else _LONGEST_TEXT
    if len(given[0]) > most:
        raise InputError(f"The field {name} has {len(given[0])} characters; at most {most} are possible.")
    if not _is_text(given[0]):
        raise InputError(f"The field {name} is no text. Send it as UTF-8.")
    if "\0" in given[0]:
        raise InputError(f"The field {name} holds a NUL character. Leave it out.")
    return given[0]


def _request(values: dict[str, str], audio: Sequence[UploadFile | None], models: Sequence[str]) -> VideoRequest:
    options = {name: text if name in TEXTS else _value(text) for name, text in values.items() if name in OPTIONS}
    model = options.setdefault("model", models[0])
    if model not in models:
        raise InputError(f"There is no model {str(model)[:40]!r} here; there are {', '.join(models)}.")
    if isinstance(options.get("voice_strengths"), (int, float)):
        options["voice_strengths"] = [options["voice_strengths"]]
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    voices = [voice for voice in audio if voice is not None]
    if "timeline" in values:
        if "people" in values:
            raise InputError("A timeline has people of its own; leave people out.")
        given["timeline"] = _timeline(_json("timeline", values["timeline"]), audio)
    elif "people" in values:
        given["people"] = _people(_json("people", values["people"]), audio, "script" in values)
    elif "script" not in values:
        numbers = iter(range(1, len(voices) + 1))
        given["people"] = [PersonRequest(voice=None if voice is None else next(numbers)) for voice in audio]
    if "script" in values:
        given["script"] = values["script"]
        if voices:
            raise InputError("A script is spoken, so it needs no audio. Leave one of the two out.")
    return checked(VideoRequest, given).with_people(len(voices))


def _people(data: Any, audio: Sequence[UploadFile | None], script: bool) -> list[PersonRequest]:
    if not isinstance(data, list) or not all(isinstance(one, dict) for one in data) or not data:
        raise InputError('people must be a JSON list of objects such as {"audio": 1, "order": 2}.')
    if len(data) > MAX_PEOPLE:
        raise InputError(f"people has {len(data)} entries; at most {MAX_PEOPLE} are possible.")
    numbers = _numbers(audio)
    following = iter([] if script else numbers)
    people = []
    for place, one in enumerate(data, start=1):
        rest = {name: value for name, value in one.items() if name != "audio"}
        voice = _voice(one["audio"], audio, numbers, place) if "audio" in one else next(following, None)
        if "audio" in one:
            next(following, None)
        if "voice" in rest:
            raise InputError(f"Person {place} has a 'voice'; it is called 'audio'.")
        try:
            people.append(checked(PersonRequest, rest | {"voice": voice}))
        except InputError as error:
            raise InputError(f"Person {place}: {error}") from None
    return people


def _numbers(audio: Sequence[UploadFile | None]) -> list[int | None]:
    """For each audio part the number of its recording among those that are there."""
    count = 0
    found: list[int | None] = []
    for part in audio:
        count += part is not None
        found.append(None if part is None else count)
    return found


def _voice(given: Any, audio: Sequence[UploadFile | None], numbers: list[int | None], place: int) -> int | None:
    """The recording that a person names: a number of an audio part, its file name, or none."""
    if given is None or (isinstance(given, str) and given.strip().lower() == _NONE):
        return None
    if isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= len(audio):
        return numbers[given - 1]
    same = [number for part, number in zip(audio, numbers, strict=True) if part is not None and part.filename == given]
    if isinstance(given, str) and len(same) == 1:
        return same[0]
    raise InputError(
        f"Person {place} has the audio {str(given)[:40]!r}; it must be the number of an audio part, 1 to {len(audio)}, "
        "the name of its file, or 'none'."
    )


def _timeline(data: Any, audio: Sequence[UploadFile | None]) -> Timeline:
    """A timeline whose sounds are numbers or file names of audio parts."""
    from anytalker.queue.decoding import voice_name

    if not isinstance(data, dict):
        raise InputError("timeline must be a JSON object with people and turns.")
    names, numbers = [part.filename if part else None for part in audio], _numbers(audio)
    turns = data.get("turns")
    for turn in turns if isinstance(turns, list) else ():
        sound = turn.get("sound") if isinstance(turn, dict) else None
        if isinstance(sound, (int, str)):
            turn["sound"] = sound = {"file": sound}
        if not isinstance(sound, dict):
            continue
        file = sound.get("file")
        number = names.index(file) + 1 if file is not None and names.count(file) == 1 else file
        if isinstance(number, str) and number.isdecimal() and len(number) < 4:
            number = int(number)
        if isinstance(number, int) and not isinstance(number, bool):
            recording = numbers[number - 1] if 1 <= number <= len(audio) else None
            if recording is None:
                raise InputError(f"A sound is {number}; there is no recording in that audio part, of {len(audio)}.")
            sound["file"] = voice_name(recording)
    return Timeline.checked(data)


def _json(name: str, text: str) -> Any:
    try:
        data = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise InputError(f"The field {name} isn't JSON.") from None
    if not _is_text(data):
        raise InputError(f"The JSON of {name} holds half of a character (a lone surrogate). Leave it out.")
    if _is_deep(data):
        raise InputError(f"The JSON of {name} is nested too deeply.")
    return data


def _is_text(data: Any) -> bool:
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


def _is_deep(data: Any, most: int = _DEEPEST) -> bool:
    """Whether more than so many lists and objects lie in each other; looks no deeper than that."""
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return most <= 0 or any(_is_deep(one, most - 1) for one in inner)


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _value(text: str) -> Any:
    """A number, a truth value, a list, or else the text itself."""
    if len(text) > _LONGEST_NUMBERS:
        raise InputError(f"{text[:40]}… is far too long for a number.")
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(found, dict) else found


def _moment(values: dict[str, str]) -> float | None:
    if "at" not in values:
        return None
    try:
        moment = float(values["at"])
    except ValueError:
        moment = math.nan
    if not 0 <= moment < 86400:
        raise InputError(f"at is {values['at'][:40]!r}; it must be a second of the video.")
    return moment


def _webhook(values: dict[str, str]) -> tuple[str, str] | None:
    if "webhook_url" not in values and "webhook_secret" not in values:
        return None
    if "webhook_url" not in values or "webhook_secret" not in values:
        raise InputError("webhook_url and webhook_secret belong together: what is told is signed.")
    return values["webhook_url"], values["webhook_secret"]


def _check_limits(request: VideoRequest, limits: Limits) -> None:
    steps = request.num_inference_steps or 0
    if steps > limits.steps:
        raise InputError(f"num_inference_steps is {steps}; this service makes at most {limits.steps}.")
    if request.size is not None and request.size[0] * request.size[1] > limits.sides:
        raise InputError(f"size is {request.size[0]}x{request.size[1]}, which is more than this service makes.")
    if request.scale is not None and request.scale > limits.scale:
        raise InputError(f"scale is {request.scale:g}; this service makes at most {limits.scale:g}.")
