"""The page as it was when a video was asked for: from a job of the queue, or from the settings inside of an MP4."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import ValidationError

from anytalker.conventions import SAMPLE_RATE, PixelBox
from anytalker.errors import InputError
from anytalker.hashing import file_digest
from anytalker.media.marks import read_settings
from anytalker.media.recordings import load_audio, write_wave
from anytalker.media.video import PersonRecord, RunRecord
from anytalker.pipelines.options import GenerationOptions
from anytalker.queue.decoding import PICTURE, decode, voice_name
from anytalker.queue.record import LOCAL, QueuedJob, UnknownJob
from anytalker.queue.request import PersonRequest, VideoRequest
from anytalker.queue.video_queue import VIDEO, VideoQueue
from anytalker.studio import words
from anytalker.studio.cast import Cast, Desk, Member
from anytalker.studio.rows import OTHERS, Choices, choices_of, model_settings, models_here, with_steps
from anytalker.timeline.model import MAX_PEOPLE, MAX_SECONDS

_LOOKED_AT = 1000
"""Videos among which a file is sought."""


def again(desk: Desk, job: QueuedJob) -> tuple[Cast, Choices]:
    """The picture with its people and the choices that a job was made from.

    Raises:
        InputError: if its files are gone.
    """
    picture, voices = desk.queue.inputs_of(job)
    request = job.request
    with desk.place() as folder:
        try:
            shutil.copyfile(picture, folder / PICTURE)
            for voice in voices:
                shutil.copyfile(voice, folder / voice.name)
        except OSError as error:
            raise InputError(words.GONE) from error
        if request.timeline is not None or request.script is not None:
            return _of_timeline(folder, request)
        members = []
        for number, person in enumerate(_people_of(request, folder), start=1):
            path = None if person.voice is None else str(folder / voices[person.voice - 1].name)
            members.append(_member(person.box, person.name, number, path))
    return Cast(str(folder / PICTURE), tuple(members)), choices_of(request)


def again_of_file(desk: Desk, upload: Path) -> tuple[Cast, Choices, bool] | None:
    """The same for a video that was dropped on the page, and whether it is one of those that are there.

    Of another one, the picture is the first frame, and everybody's voice is what is heard while they speak.

    Returns:
        None if it isn't a video of ours, or its settings can't be used.

    Raises:
        InputError: if it can't be read.
    """
    job = _job_of(desk.queue, upload)
    if job is not None:
        return *again(desk, job), True
    record = _record_in(upload)
    if record is None:
        return None
    with desk.place() as folder:
        decode(folder, upload, [upload], None, desk.queue.settings.decoding)
        path = folder / PICTURE
        with Image.open(path) as image:
            size = image.size
        try:
            boxes = _checked_boxes(record, size)
            choices = _choices_in(record)
        except (InputError, ValidationError):
            shutil.rmtree(folder)
            return None
        voices = _voices_in(record, load_audio(folder / voice_name(1)), folder)
        names = _names_in(record)
        members = [
            _member(box, name, number, voice)
            for number, (box, name, voice) in enumerate(zip(boxes, names, voices, strict=True), start=1)
        ]
    return Cast(str(path), tuple(members)), choices, False


def _member(box: Sequence[float] | None, name: str | None, number: int, voice: str | None) -> Member:
    assert box is not None
    x, y, width, height = map(round, box)
    return Member((x, y, width, height), name or words.PERSON.format(number=number), voice, voice is None)


def _of_timeline(folder: Path, request: VideoRequest) -> tuple[Cast, Choices]:
    """The people of a timeline or a script, each with a recording of all they say, and everybody else."""
    from anytalker.pipelines.talk import cast_people, strengths_of
    from anytalker.queue.making import timeline_of_request
    from anytalker.timeline.streams import streams

    timeline, choices, path = timeline_of_request(request), choices_of(request), folder / PICTURE
    assert timeline is not None
    boxes = cast_people(path, Cast(str(path)).opened(), timeline)
    members = []
    for number, (person, heard) in enumerate(zip(timeline.people, streams(timeline, folder), strict=True), start=1):
        spoken = folder / f"person-{number}.wav"
        if timeline.turns_of(person.name):
            write_wave(spoken, heard[:])
        members.append(_member(boxes[number - 1], person.name, number, str(spoken) if spoken.exists() else None))
    listeners = enumerate(boxes[len(members) :], start=len(members) + 1)
    members += [_member(box, None, number, None) for number, box in listeners]
    given = choices.rest.get("voice_strengths") or strengths_of(timeline) or ()
    strengths = (*given, *[1.0] * (len(members) - len(given)))
    order = sorted(range(len(members)), key=lambda place: members[place].box[0] + members[place].box[2] / 2)
    if given:
        rest = {**choices.rest, "voice_strengths": tuple(strengths[place] for place in order)}
        choices = replace(choices, rest=rest)
    return Cast(str(path), tuple(members[place] for place in order)), choices


def _people_of(request: VideoRequest, folder: Path) -> list[PersonRequest]:
    """The people of a job with their boxes; those that the service was told otherwise are found again."""
    if request.people and all(person.box is not None for person in request.people):
        return list(request.people)
    from anytalker.pipelines.talk import cast_choices

    wanted = list(request.people)
    path = folder / PICTURE
    cast = Cast(str(path))
    boxes = cast_choices(path, cast.opened(), [person.face for person in wanted] or [None])
    wanted += [PersonRequest()] * (len(boxes) - len(wanted))
    return [
        PersonRequest(voice=person.voice, name=person.name, box=box) for person, box in zip(wanted, boxes, strict=True)
    ]


def _job_of(queue: VideoQueue, upload: Path) -> QueuedJob | None:
    """The job whose video a file is, to the byte."""
    size, digest = upload.stat().st_size, None
    for job in queue.list(LOCAL, limit=_LOOKED_AT):
        with suppress(UnknownJob, OSError):  # deleted meanwhile
            path = queue.file(job.id, VIDEO, LOCAL)
            if path is not None and path.stat().st_size == size:
                digest = digest or file_digest(upload)
                if file_digest(path) == digest:
                    return job
    return None


def _record_in(upload: Path) -> RunRecord | None:
    """The record inside of a video; whoever wrote it."""
    text = read_settings(upload)
    try:
        return None if text is None else RunRecord.model_validate_json(text)
    except ValidationError:
        return None


def _checked_boxes(record: RunRecord, size: tuple[int, int]) -> list[PixelBox]:
    from anytalker.conditioning.faces import check_boxes

    spans = [span for person in record.persons for span in person.speaking]
    sound = all(len(span) == 2 and all(0 <= moment <= MAX_SECONDS for moment in span) for span in spans)
    if (record.width, record.height) != size or not 1 <= len(record.persons) <= MAX_PEOPLE or not sound:
        raise InputError(words.BROKEN)
    return check_boxes([person.box_xywh for person in record.persons], size)


def _choices_in(record: RunRecord) -> Choices:
    """The settings of a record, as far as they are not the model's own."""
    model = record.model if record.model in models_here() else "tiny"
    settings = model_settings(model)
    if settings.window is not None and record.settings.get("window", 0) is None:
        record.settings["window"] = "none"
    known: dict[str, Any] = {name: record.settings[name] for name in OTHERS if record.settings.get(name) is not None}
    asked = VideoRequest(**known, prompt=record.settings.get("prompt", ""), seed=record.seed or 0, fps=record.fps)
    usual = GenerationOptions().settled(settings).model_dump() | {"window": settings.window}
    rest = {name: getattr(asked, name) for name in (*known, "fps") if getattr(asked, name) != usual.get(name)}
    rest.pop("mode", None)  # the voices lie where they are heard
    rest["size"] = (record.width, record.height)
    steps = VideoRequest(num_inference_steps=record.settings.get("num_inference_steps")).num_inference_steps
    choices = Choices(model=model, seed=asked.seed, prompt=asked.prompt, rest=rest)
    return with_steps(choices, steps or settings.num_inference_steps)


def _names_in(record: RunRecord) -> list[str | None]:
    """Names of a record's people, where they can be names on the page."""
    named: list[str | None] = []
    for number, person in enumerate(record.persons):
        name = _name_in(record, number, person)
        try:
            named.append(PersonRequest(name=name).name)
        except (InputError, ValidationError):
            named.append(None)
    return named


def _name_in(record: RunRecord, number: int, person: PersonRecord) -> str | None:
    people = record.timeline.get("people") if record.timeline else None
    said = person.audio
    if said is not None and (Path(said).suffix or said == "array"):  # the file of a voice that has no name
        said = None
    if said is None and isinstance(people, list) and number < len(people) and isinstance(people[number], dict):
        said = people[number].get("name")
    return said


def _voices_in(record: RunRecord, sound: np.ndarray, folder: Path) -> list[str | None]:
    """Everybody's voice out of the sound of a video: what is heard while they speak, all of it if nobody else does."""
    speakers = [person for person in record.persons if person.speaking]
    voices: list[str | None] = []
    for number, person in enumerate(record.persons, start=1):
        heard = sound if speakers == [person] else np.zeros_like(sound)
        for start, end in person.speaking if len(speakers) > 1 else ():
            part = slice(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE))
            heard[part] = sound[part]
        path = folder / f"person-{number}.wav"
        if person.speaking:
            write_wave(path, heard)
        voices.append(str(path) if person.speaking else None)
    return voices
