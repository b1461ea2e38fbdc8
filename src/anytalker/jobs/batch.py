"""Many videos from one file of jobs: spread over devices, each on its own, gone on with after an interruption."""

from __future__ import annotations

import difflib
import hashlib
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from anytalker.errors import AnyTalkerError, InputError
from anytalker.hardware.placement import Placement
from anytalker.jobs.workers import worker_for
from anytalker.loading.components import find_model
from anytalker.media.channels import split_channel
from anytalker.media.destination import check_batch_destinations

RESULTS = "batch.jsonl"
_RELEASE_NAMES = ("image_path", "audio_list", "enhance_caption", "caption", "steps")
"""Other names of keys, those of the release's batch file among them."""


class Job(BaseModel):
    """One video. The names of the release's batch file are understood, too.

    Attributes:
        image: the picture ("image_path" in the release).
        audio: a recording a person, "talk.wav:left" for one channel, None or "none" for one who listens ("audio_list").
        prompt: what happens ("enhance_caption", "caption").
        faces: whose voices they are, as for `AnyTalkerPipeline.prepare`.
        negative_prompt, mode, fps, max_frames, num_inference_steps, guidance_scale, audio_guidance_scale,
            voice_strengths, guidance_interval, batch_guidance, window, size, scale, rounding, separate: as for
            `AnyTalkerPipeline.prepare`.
        seed: of the noise.
    """

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    image: Path = Field(validation_alias=AliasChoices("image", "image_path"))
    audio: list[Path | None] = Field(min_length=1, validation_alias=AliasChoices("audio", "audio_list"))
    prompt: str = Field(default="", validation_alias=AliasChoices("prompt", "enhance_caption", "caption"))
    faces: list[list[float]] | None = None
    negative_prompt: str | None = None
    mode: str = "pad"
    fps: float | None = None
    max_frames: int | None = None
    num_inference_steps: int | None = Field(default=None, validation_alias=AliasChoices("num_inference_steps", "steps"))
    guidance_scale: float | None = None
    audio_guidance_scale: float | None = None
    voice_strengths: list[float] | None = None
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    batch_guidance: bool = False
    window: int | Literal["none"] | None = None
    size: tuple[int, int] | None = None
    scale: float | None = None
    rounding: Literal["up", "release"] = "up"
    separate: bool = True
    seed: int = Field(default=0, ge=0, lt=2**63)

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
                raise ValueError(f"{name!r} is not known.{guess} A job's keys are {', '.join(cls.model_fields)}.")
        return values

    def within(self, folder: Path) -> Job:
        """The same with relative paths taken from a folder."""
        voices = [None if path is None or str(path).lower() == "none" else folder / path for path in self.audio]
        return self.model_copy(update={"image": folder / self.image, "audio": voices})

    def files(self) -> list[Path]:
        """What the video is made from: "talk.wav" for "talk.wav:left"."""
        return [self.image, *(split_channel(path)[0] for path in self.audio if path is not None)]

    def fingerprint(self, model: str, weights: str = "full") -> str:
        """What the video depends on, in short: settings, and sizes and times of the files, the model's, too."""
        states = []
        for path in (*self.files(), *model_files(model)):
            with suppress(OSError):
                states.append([path.stat().st_size, path.stat().st_mtime_ns])
        text = json.dumps([model, weights, self.model_dump(mode="json"), states], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class JobResult:
    """How a job ended: `reason` is None if its video is there; `seconds` it took, 0 if it was there before."""

    name: str
    reason: str | None
    seconds: float


def model_files(model: str) -> list[Path]:
    """Weights and settings of a model; none if it is not here."""
    try:
        return find_model(model).files()
    except InputError:
        return []


def read_jobs(path: Path) -> dict[str, Job]:
    """Jobs by name from a JSON file, name → job; relative paths are taken from the file's folder.

    Raises:
        InputError: if it can't be read, or a job is of another form, naming it.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict) or not values:
        raise InputError(f"{path} must map names of videos to jobs, and hold one at least.")
    jobs = {}
    for name, value in values.items():
        if not name or Path(name).name != name or name.startswith("."):
            raise InputError(f"{path}: {name!r} can't be the name of a video file.")
        try:
            jobs[name] = Job.model_validate(value).within(path.absolute().parent)
        except ValidationError as error:
            first = error.errors()[0]
            place = ", ".join([f"job {name!r}", *map(str, first["loc"])])
            said = first["msg"].removeprefix("Value error, ")
            keys = "" if first["type"] == "value_error" else f" A job's keys are {', '.join(Job.model_fields)}."
            raise InputError(f"{path}: {place}: {said}{'' if said.endswith('.') else '.'}{keys}") from error
    return jobs


def run_batch(
    jobs: dict[str, Job],
    model: str,
    output: Path,
    devices: Sequence[str],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    placement: Placement = Placement(),
    jobs_file: Path | None = None,
) -> list[JobResult]:
    """Make all videos that are not there yet.

    Every device has a process of its own that keeps the model. A job that fails, or takes its process down, is named
    and the others go on; run again, failed and missing jobs are made.

    Args:
        jobs: by name.
        model: name or folder.
        output: folder for NAME.mp4, NAME.json, and batch.jsonl with a line a job.
        devices: such as "cuda:0", see `workers.worker_for`; one several times: so many processes.
        on_progress: called as (jobs done, jobs in all).
        placement: what is on a device at a time.
        jobs_file: where the jobs were read from.

    Returns:
        One result a job, in their order.

    Raises:
        InputError: if a video, its record or the results would overwrite the jobs file or an input of any job.
        AnyTalkerError: if the results can't be written down, for example on a full disk; videos that are there stay.
    """
    given = {path for job in jobs.values() for path in (*job.files(), jobs_file) if path is not None}
    check_batch_destinations([output / f"{name}.mp4" for name in jobs], output / RESULTS, sorted(given))
    output.mkdir(parents=True, exist_ok=True)
    prints = {name: job.fingerprint(model, placement.weights) for name, job in jobs.items()}
    done = finished_jobs(output, prints)
    results = {name: JobResult(name, None, 0.0) for name in done}
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in jobs:
        if name not in done:
            waiting.put(name)
    lock = threading.Lock()
    on_progress(len(results), len(jobs))

    def tell(result: JobResult) -> None:
        with lock, (output / RESULTS).open("a", encoding="utf-8") as file:
            results[result.name] = result
            file.write(json.dumps(vars(result) | {"fingerprint": prints[result.name]}) + "\n")
            on_progress(len(results), len(jobs))

    settled = (model, placement, jobs, output, waiting, tell)
    failures: list[BaseException] = []

    def serve(device: str) -> None:
        try:
            _serve(device, *settled)
        except BaseException as error:  # raised below, by the thread that can say it
            failures.append(error)
            for _ in _taken(waiting):
                pass

    threads = [threading.Thread(target=serve, args=(device,)) for device in devices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures and isinstance(failures[0], OSError):
        raise AnyTalkerError(f"{output / RESULTS} can't be written: {failures[0].strerror}.") from failures[0]
    if failures:
        raise failures[0]
    return [results[name] for name in jobs]


def finished_jobs(output: Path, prints: dict[str, str]) -> set[str]:
    """Names of the jobs whose videos are there, made from the same files and settings."""
    known: dict[str, bool] = {}
    path = output / RESULTS
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        with suppress(ValueError, KeyError, TypeError):
            line = json.loads(text)
            known[line["name"]] = line["reason"] is None and prints.get(line["name"]) == line["fingerprint"]
    return {name for name, good in known.items() if good and (output / f"{name}.mp4").is_file()}


def _serve(
    device: str,
    model: str,
    placement: Placement,
    jobs: dict[str, Job],
    output: Path,
    waiting: queue.SimpleQueue[str],
    tell: Callable[[JobResult], None],
) -> None:
    """Give a device one job after another."""
    worker = worker_for(device)
    try:
        for name in _taken(waiting):
            started = time.monotonic()
            reason = worker.make(model, placement, jobs[name], output / f"{name}.mp4")
            tell(JobResult(name, reason, round(time.monotonic() - started, 2)))
    finally:
        worker.close()


def _taken(waiting: queue.SimpleQueue[str]) -> Iterator[str]:
    while True:
        try:
            yield waiting.get_nowait()
        except queue.Empty:
            return
