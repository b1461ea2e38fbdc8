"""The units of work of a curation, files and shots, whose results lie on disk: whatever is done is done once."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from anytalker.curation.captioner import caption_picture
from anytalker.curation.cleaning import write_voices
from anytalker.curation.config import CurationConfig
from anytalker.curation.export import KeptClip, export_clip
from anytalker.curation.footage import FPS, Footage, StoredSound
from anytalker.curation.piece import Dropped, Pictures, Piece, Source, run_stages
from anytalker.curation.stages import default_stages
from anytalker.curation.survey import Survey, survey
from anytalker.errors import InputError
from anytalker.failures import explain
from anytalker.files import atomic_path
from anytalker.hashing import short_digest

FOLDER = ".curation"
"""Below the dataset's folder: what is known of files and shots so far."""
SOUND = "sound.s16"
"""The sound of a file, while its shots are examined."""
_FORMAT = 2
"""Of what lies there; another number, and everything is looked at again."""


class ShotResult(BaseModel):
    """What became of a shot."""

    kept: list[KeptClip] = []
    dropped: list[Dropped] = []


@dataclass(frozen=True)
class FileWork:
    """A file of footage in a dataset, and where its results lie.

    Attributes:
        path: the file.
        dataset: the dataset's folder.
        config: the settings.
        limit: frames of it that are used; None: all.
        folder: of its results, another one whenever the file or a setting has changed. A file that still grows keeps
            the one that it had at first.
    """

    path: Path
    dataset: Path
    config: CurationConfig
    limit: int | None = None
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        try:
            state = self.path.stat()
            seen = f"{state.st_size} {state.st_mtime_ns}"
        except OSError:
            seen = "missing"
        settings = short_digest(f"{_FORMAT} {seen} {self.config.model_dump_json()}")[:8]
        object.__setattr__(self, "folder", self.dataset / FOLDER / f"{self.prefix}-{settings}")

    @property
    def prefix(self) -> str:
        """Beginning of its clips' names: the file's name and some digits of its path."""
        name = re.sub(r"[^A-Za-z0-9]+", "-", self.path.stem).strip("-")[:40] or "footage"
        return f"{name}-{short_digest(str(self.path.resolve()))[:8]}"

    def survey_path(self) -> Path:
        """The file's survey."""
        return self.folder / "survey.json"

    def shot_path(self, part: tuple[int, int]) -> Path:
        """The result of a part of a shot, by its frames."""
        return self.folder / f"shot-{part[0]:08d}-{part[1]:08d}.json"

    def read_survey(self) -> Survey:
        """The file's survey, which must be there."""
        return Survey.model_validate_json(self.survey_path().read_text(encoding="utf-8"))

    def parts(self, found: Survey) -> list[tuple[int, int]]:
        """(first frame, end) of the stretches to examine: shots, long ones in equal parts."""
        longest = round(self.config.shots.max_seconds * FPS)
        parts = []
        for start, end in found.shots:
            count = -(-(end - start) // longest)
            edges = [start + (end - start) * index // count for index in range(count + 1)]
            parts += list(itertools.pairwise(edges))
        return parts


def survey_file(work: FileWork) -> Survey:
    """Look through a file, unless that was done; what is wrong with it stands in the survey's `problem`."""
    path = work.survey_path()
    if path.is_file() and not (found := work.read_survey()).failed:
        return found
    work.folder.mkdir(parents=True, exist_ok=True)
    try:
        sound = _sound(work)
        found = survey(Footage(work.path, work.limit), sound, work.config.speech.speakers)
    except Exception as error:  # one bad file must not end the others
        found = Survey(path=str(work.path), problem=explain(error), failed=not isinstance(error, InputError))
    write_result(path, found)
    return found


def examine_shot(work: FileWork, part: tuple[int, int]) -> ShotResult:
    """Send a part of a shot through the stages and write its clips, unless that was done."""
    path = work.shot_path(part)
    if path.is_file():
        result = ShotResult.model_validate_json(path.read_text(encoding="utf-8"))
        if not any(one.numbers.get("failed") for one in result.dropped):
            return result
    try:
        result = _examined(work, part)
    except Exception as error:  # as above
        source = Source(path=str(work.path), start=part[0] / FPS, end=part[1] / FPS)
        result = ShotResult(dropped=[Dropped(source=source, stage="footage", reason=explain(error))])
        if not isinstance(error, InputError):
            result.dropped[0].numbers["failed"] = 1
    write_result(path, result)
    return result


def _examined(work: FileWork, part: tuple[int, int]) -> ShotResult:
    if not (work.folder / SOUND).is_file():
        _sound(work)
    found, sound = _opened(work.folder)
    footage = Footage(work.path, work.limit)
    piece = Piece(
        footage,
        *part,
        sound=sound,
        turns=tuple(found.turns),
        doubts=tuple(found.doubts),
        pictures=Pictures(footage, *part),
    )
    start, end = next(shot for shot in found.shots if shot[0] <= part[0] < shot[1])
    if (end - start) / FPS < work.config.shots.min_seconds:
        return ShotResult(dropped=[piece.drop("shots", f"shorter than {work.config.shots.min_seconds:g} s")])
    kept, dropped = run_stages(piece, default_stages(work.config))
    height, caption = work.config.clips.max_height, _captioner(work.config)
    clips = [export_clip(one, work.prefix, work.dataset, height, caption) for one in kept]
    return ShotResult(kept=clips, dropped=dropped)


def _captioner(config: CurationConfig) -> Callable[[np.ndarray], str] | None:
    model, prompt = config.captions.model, config.captions.prompt
    return (lambda picture: caption_picture(picture, model, prompt)) if model else None


@lru_cache(maxsize=2)
def _opened(folder: Path) -> tuple[Survey, StoredSound]:
    """A file's survey and sound, kept for its next shots."""
    found = Survey.model_validate_json((folder / "survey.json").read_text(encoding="utf-8"))
    return found, StoredSound(folder / SOUND)


def _sound(work: FileWork) -> StoredSound:
    """The file's sound, decoded unless that was done."""
    path, footage, separator = work.folder / SOUND, Footage(work.path, work.limit), work.config.sound.separator
    if path.is_file():
        return StoredSound(path)
    if separator is not None:
        return write_voices(path, footage, separator)
    return StoredSound.write(path, footage.sound())


def write_result(path: Path, value: BaseModel) -> None:
    """Write a result, whole or not at all."""
    with atomic_path(path) as partial:
        partial.write_text(value.model_dump_json(), encoding="utf-8")
