"""Many videos from one file of jobs: spread over devices, each on its own, gone on with after an interruption."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from anytalker.errors import AnyTalkerError
from anytalker.files import make_folder
from anytalker.jobs.job import Job
from anytalker.jobs.workers import Worker, worker_for
from anytalker.media.destination import check_batch_destinations
from anytalker.pipelines.loading_options import LoadingOptions

RESULTS = "batch.jsonl"


@dataclass(frozen=True)
class JobResult:
    """How a job ended: `reason` is None if its video is there; `seconds` it took, 0 if it was there before."""

    name: str
    reason: str | None
    seconds: float


def run_batch(
    jobs: dict[str, Job],
    model: str,
    output: Path,
    devices: Sequence[str],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    loading: LoadingOptions = LoadingOptions(),
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
        loading: what the model is loaded with.
        jobs_file: where the jobs were read from.

    Returns:
        One result a job, in their order.

    Raises:
        InputError: if a video, its record or the results would overwrite the jobs file or an input of any job.
        AnyTalkerError: if the results can't be written down, for example on a full disk; videos that are there stay.
    """
    given = {path for job in jobs.values() for path in (*job.files(), jobs_file) if path is not None}
    check_batch_destinations([output / f"{name}.mp4" for name in jobs], output / RESULTS, sorted(given))
    make_folder(output)
    log = _Log(output / RESULTS, {name: job.fingerprint(model, loading) for name, job in jobs.items()})
    log.results.update({name: JobResult(name, None, 0.0) for name in finished_jobs(output, log.fingerprints)})
    missing = [name for name in jobs if name not in log.results]
    on_progress(len(log.results), len(jobs))

    def make(name: str) -> JobResult:
        worker, started = idle.get(), time.monotonic()
        try:
            reason = worker.make(model, loading, jobs[name], output / f"{name}.mp4")
        finally:
            idle.put(worker)
        return JobResult(name, reason, round(time.monotonic() - started, 2))

    with ExitStack() as workers, ThreadPoolExecutor(len(devices)) as threads:
        idle: SimpleQueue[Worker] = SimpleQueue()
        for device in devices:
            idle.put(workers.enter_context(closing(worker_for(device))))
        try:
            for made in as_completed([threads.submit(make, name) for name in missing]):
                on_progress(log.add(made.result()), len(jobs))
        finally:
            threads.shutdown(cancel_futures=True)  # after a failure no further job is begun
    return [log.results[name] for name in jobs]


class _Log:
    """How jobs ended, by name, in memory and as lines of a file."""

    def __init__(self, path: Path, fingerprints: Mapping[str, str]) -> None:
        self.path, self.fingerprints = path, fingerprints
        self.results: dict[str, JobResult] = {}

    def add(self, result: JobResult) -> int:
        """Write a result down; how many there are now.

        Raises:
            AnyTalkerError: if it can't be written.
        """
        line = json.dumps(vars(result) | {"fingerprint": self.fingerprints[result.name]}) + "\n"
        try:
            with self.path.open("a+b") as file:
                if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                    line = f"\n{line}"  # the last line is half of one: its writer was killed
                file.write(line.encode())
        except OSError as error:
            raise AnyTalkerError(f"{self.path} can't be written: {error.strerror}.") from error
        self.results[result.name] = result
        return len(self.results)


def finished_jobs(output: Path, prints: Mapping[str, str]) -> set[str]:
    """Names of the jobs whose videos are there, made from the same files and settings."""
    known: dict[str, bool] = {}
    path = output / RESULTS
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        with suppress(ValueError, KeyError, TypeError):
            line = json.loads(text)
            known[line["name"]] = line["reason"] is None and prints.get(line["name"]) == line["fingerprint"]
    return {name for name, good in known.items() if good and (output / f"{name}.mp4").is_file()}
