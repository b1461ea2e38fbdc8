"""What is known of the right to use footage: a licence and the consent of those in it, from notes beside the file."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import AliasChoices, BaseModel, Field, ValidationError

from anytalker.errors import InputError, first_line

NOTES = "footage.json"
"""In a folder: the notes for all files in it that have none of their own."""


class Rights(BaseModel):
    """Notes on footage, in anybody's words: `licence` (or "license") it is under, `consent` of the people in it."""

    licence: str | None = Field(default=None, validation_alias=AliasChoices("licence", "license"))
    consent: str | None = None


def read_rights(video: Path) -> Rights:
    """The notes of a file: "licence" and "consent" in NAME.json beside it, or in footage.json of its folder.

    Raises:
        InputError: if the notes are there and can't be read.
    """
    found = Rights()
    for path in (video.parent / NOTES, video.with_suffix(".json")):
        if not path.is_file():
            continue
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            notes = Rights.model_validate(values if isinstance(values, dict) else {})
        except ValidationError as error:
            names = ", ".join(str(one["loc"][0]) for one in error.errors())
            raise InputError(f"The notes {path} can't be used: {names} must be text.") from error
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"The notes {path} can't be read: {first_line(error)}") from error
        found = Rights(licence=notes.licence or found.licence, consent=notes.consent or found.consent)
    return found
