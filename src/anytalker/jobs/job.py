"""A job: one video as a file of jobs describes it."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, ConfigDict, Field, ValidationError, model_validator

from anytalker.errors import InputError
from anytalker.hashing import short_digest
from anytalker.jobs.peers import from_peers, peers_jobs
from anytalker.loading.components import find_model
from anytalker.media.channels import split_channel
from anytalker.pipelines.loading_options import LoadingOptions
from anytalker.pipelines.options import GenerationOptions

_RELEASE_NAMES = ("image_path", "audio_list", "enhance_caption", "caption", "steps")
"""Other names of keys, those of the release's batch file among them."""


class Job(GenerationOptions):
    """One video. The names of the release's batch file are understood, too.

    Attributes:
        image: the picture ("image_path" in the release), or a video.
        audio: a recording a person, "talk.wav:left" for one channel, None or "none" for one who listens ("audio_list").
        at: of a video as the picture, the second of the frame.
        faces: whose voices they are: boxes [x, y, width, height], points [x, y], numbers from the left, paths of
            pictures that are white where the person is, or {"in": [x, y, width, height]} for the largest face there.
        prompt: what happens ("enhance_caption", "caption").
        seed: of the noise.
    """

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    image: Path = Field(validation_alias=AliasChoices("image", "image_path"))
    audio: list[Path | None] = Field(min_length=1, validation_alias=AliasChoices("audio", "audio_list"))
    at: float | None = None
    faces: list[list[float] | int | str | dict[str, list[float]]] | None = None
    prompt: str = Field(default="", validation_alias=AliasChoices("prompt", "enhance_caption", "caption"))
    num_inference_steps: int | None = Field(default=None, validation_alias=AliasChoices("num_inference_steps", "steps"))
    seed: int = Field(default=0, ge=0, lt=2**63)

    @property
    def options(self) -> GenerationOptions:
        """What is asked of the video besides its picture, people and voices."""
        return GenerationOptions(**{name: getattr(self, name) for name in GenerationOptions.model_fields})

    @model_validator(mode="before")
    @classmethod
    def _no_slips(cls, values: Any) -> Any:
        """Every name must be known; jobs of the release's files may have more, which don't look like one of these."""
        if not isinstance(values, dict):
            return values
        known = [*cls.model_fields, *_RELEASE_NAMES]
        release = "image_path" in values or "audio_list" in values
        for name in map(str, values):
            if name in known:
                continue
            near = difflib.get_close_matches(name.lower(), known, 1, 0.75)
            if near or not release:
                guess = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"{name!r} is not known.{guess} A job's keys are {', '.join(job_keys())}.")
        return values

    def within(self, folder: Path) -> Job:
        """The same with relative paths taken from a folder."""
        voices = [None if path is None or str(path).lower() == "none" else folder / path for path in self.audio]
        faces = self.faces and [str(folder / face) if isinstance(face, str) else face for face in self.faces]
        return self.model_copy(update={"image": folder / self.image, "audio": voices, "faces": faces})

    def files(self) -> list[Path]:
        """What the video is made from: "talk.wav" for "talk.wav:left"."""
        masks = [Path(face) for face in self.faces or () if isinstance(face, str)]
        return [self.image, *(split_channel(path)[0] for path in self.audio if path is not None), *masks]

    def fingerprint(self, model: str, loading: LoadingOptions = LoadingOptions()) -> str:
        """What the video depends on, in short: settings, and sizes and times of the files, the model's, too."""
        states = []
        for path in (*self.files(), *model_files(model)):
            with suppress(OSError):
                states.append([path.stat().st_size, path.stat().st_mtime_ns])
        text = json.dumps([model, loading.changes, self.model_dump(mode="json"), states], sort_keys=True)
        return short_digest(text)


def job_keys() -> list[str]:
    """All keys of a job, those that it must have first."""
    return sorted(Job.model_fields, key=lambda name: not Job.model_fields[name].is_required())


def model_files(model: str) -> list[Path]:
    """Weights and settings of a model; none if it is not here."""
    try:
        return find_model(model).files()
    except InputError:
        return []


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The names and values of an object in JSON, of which Python would keep the last where a name comes twice."""
    names = Counter(name for name, _ in pairs)
    for name, times in names.items():
        if times > 1:
            raise InputError(f"the name {name!r} is there {times} times. Give each its own.")
    return dict(pairs)


def _is_file_name(name: str) -> bool:
    """Whether videos can be called so; suffixes of five characters follow."""
    try:
        return 0 < len(name.encode()) <= 250 and Path(name).name == name and name[0] != "." and "\0" not in name
    except UnicodeEncodeError:
        return False


def read_jobs(path: Path) -> dict[str, Job]:
    """Jobs by name from a JSON file, name → job; relative paths are taken from the file's folder.

    Files of other projects are read, too, see `anytalker.jobs.peers`; a single job is called like its file.

    Raises:
        InputError: if it can't be read, or a job is of another form, naming it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors of Windows mark what they write
        values = json.loads(text, object_pairs_hook=_distinct)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    theirs = dict(peers_jobs(values, path.stem))
    values = theirs or values
    if not isinstance(values, dict) or not values:
        raise InputError(f"{path} must map names of videos to jobs, and hold one at least.")
    jobs = {}
    for name, value in values.items():
        if not _is_file_name(name):
            raise InputError(f"{path}: {name!r} can't be the name of a video file.")
        try:
            job = from_peers(value, path.absolute().parent) if name in theirs else value
            jobs[name] = Job.model_validate(job).within(path.absolute().parent)
        except InputError as error:
            raise InputError(f"{path}: job {name!r}: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            plain = isinstance(first.get("ctx", {}).get("error"), InputError)  # it names what is wrong itself
            place = ", ".join([f"job {name!r}", *([] if plain else map(str, first["loc"]))])
            said = first["msg"].removeprefix("Value error, ")
            keys = "" if first["type"] == "value_error" else f" A job's keys are {', '.join(job_keys())}."
            raise InputError(f"{path}: {place}: {said}{'' if said.endswith('.') else '.'}{keys}") from error
    return jobs
