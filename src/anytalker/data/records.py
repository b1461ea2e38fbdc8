"""One record a clip: what training and evaluation know about it. People are a list, left to right."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from anytalker.conventions import Box
from anytalker.errors import InputError

Split = Literal["train", "validation", "test"]


class ClipPerson(BaseModel):
    """One person of a clip.

    Attributes:
        audio_path: file with this person's voice alone, as long as the clip; None for one who is silent.
        face_boxes: (x, y, width, height) in pixels of the video, one a frame, or a single one for all frames.
        sync_confidence: how well lips and voice agree (Sync-C), None where it was not measured.
        identity: the same for the same person in other clips, None where it is not known.
    """

    model_config = ConfigDict(extra="forbid")

    audio_path: str | None = None
    face_boxes: list[Box] = Field(min_length=1)
    sync_confidence: float | None = None
    identity: str | None = None

    @property
    def union_box(self) -> Box:
        """The box around all of the face's boxes, so that a moving face never leaves it (paper, section 4)."""
        left, top = min(box[0] for box in self.face_boxes), min(box[1] for box in self.face_boxes)
        right = max(box[0] + box[2] for box in self.face_boxes)
        bottom = max(box[1] + box[3] for box in self.face_boxes)
        return (left, top, right - left, bottom - top)


class ClipSource(BaseModel):
    """Where a clip was cut from.

    Attributes:
        path: the file of footage.
        start, end: seconds of it.
        licence, consent: what is known of the right to use it, in the words of the footage's notes.
    """

    model_config = ConfigDict(extra="forbid")

    path: str
    start: float = Field(ge=0)
    end: float = Field(ge=0)
    licence: str | None = None
    consent: str | None = None


class ClipRecord(BaseModel):
    """A clip: the paper's record with a list of persons.

    Attributes:
        video_path: the video, absolute or relative to the record's file.
        n_frames: frames of the clip.
        width, height: of the video in pixels.
        fps: frames a second.
        caption: what the clip shows, for the text encoder.
        persons: left to right.
        source: where the clip was cut from.
        split: "train", "validation" or "test"; nobody's clips are in two of them. None: not divided.
    """

    model_config = ConfigDict(extra="forbid")

    video_path: str
    n_frames: int = Field(ge=5)
    width: int = Field(ge=16)
    height: int = Field(ge=16)
    fps: float = Field(gt=0, le=240)
    caption: str = ""
    persons: list[ClipPerson] = Field(min_length=1)
    source: ClipSource | None = None
    split: Split | None = None

    @model_validator(mode="after")
    def _boxes_fit(self) -> ClipRecord:
        for index, person in enumerate(self.persons):
            if len(person.face_boxes) not in (1, self.n_frames):
                raise ValueError(
                    f"person {index} has {len(person.face_boxes)} face boxes; give one, or one for each of the "
                    f"{self.n_frames} frames"
                )
            x, y, width, height = person.union_box
            if width < 4 or height < 4 or x < 0 or y < 0 or x + width > self.width or y + height > self.height:
                raise ValueError(f"the face of person {index} is not inside the {self.width}×{self.height} video")
        return self


def read_records(path: str | Path) -> Iterator[ClipRecord]:
    """Read a JSON lines file, one record a line; paths in it become relative to where the file lies.

    Raises:
        InputError: if the file is missing or a line is no record; it names the line.
    """
    source = Path(path)
    if not source.is_file():
        raise InputError(f"There is no file of records {source}.")
    for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = ClipRecord.model_validate(json.loads(line))
        except json.JSONDecodeError as error:
            raise InputError(f"{source}, line {number} is not JSON: {error.msg}.") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise InputError(f"{source}, line {number}: {place or 'record'}: {first['msg']}.") from error
        yield _beside(record, source.parent)


def of_split(records: Iterable[ClipRecord], split: str) -> list[ClipRecord]:
    """The records of one part of a dataset.

    Raises:
        InputError: if there is no such part, or no record belongs to it.
    """
    if split not in get_args(Split):
        raise InputError(f"The split is {split}; it must be one of {', '.join(get_args(Split))}.")
    all_records = list(records)
    chosen = [record for record in all_records if record.split == split]
    if not chosen:
        divided = sum(record.split is not None for record in all_records)
        known = f"{divided} of the {len(all_records)} records belong to another" if divided else "they name no split"
        raise InputError(f"No record has the split {split}: {known}. Choose another, or leave --split out.")
    return chosen


def _beside(record: ClipRecord, folder: Path) -> ClipRecord:
    persons = [
        person.model_copy(update={"audio_path": person.audio_path and str(folder / person.audio_path)})
        for person in record.persons
    ]
    return record.model_copy(update={"video_path": str(folder / record.video_path), "persons": persons})
