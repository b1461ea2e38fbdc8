"""Evaluation of many clips: in parallel, resumable, each clip's result written as soon as it is there."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anytalker.errors import AnyTalkerError, InputError, NoScoreError
from anytalker.evaluation.clips import ClipSource
from anytalker.evaluation.report.page import LINES_FILE, read_lines, write_report
from anytalker.evaluation.report.reference import PUBLISHED
from anytalker.evaluation.report.summary import METRICS, MetricSummary
from anytalker.evaluation.scoring import ScoringSettings, Tools, score_clip
from anytalker.failures import explain
from anytalker.files import atomic_path, make_folder
from anytalker.hashing import short_digest

FEATURES_FOLDER = "features"


@dataclass(frozen=True)
class Outcome:
    """What an evaluation gave: one line a clip, summaries, and how many clips could not be scored."""

    lines: list[dict[str, Any]]
    summaries: list[MetricSummary]
    failed: int

    @property
    def means(self) -> list[tuple[str, float, int]]:
        """Name, mean and number of clips of every score that any clip has."""
        return [(METRICS[one.metric][0], one.mean, one.clips) for one in self.summaries if one.clips]


def evaluate(
    clips: Sequence[ClipSource],
    settings: ScoringSettings,
    report: Path,
    workers: int = 1,
    published: str | None = None,
    title: str = "AnyTalker evaluation",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Score clips and write the report; an interrupted evaluation continues where it stopped.

    A clip is scored anew if its files or the settings have changed, or if it could not be scored before. A clip that
    can't be scored is named and counted, and the others go on.

    Args:
        clips: what to score.
        settings: how.
        report: folder for scores.jsonl, scores.csv, summary.json and report.html.
        workers: processes.
        published: which published rows stand in the report: "all", "InteractiveEyes" or None.
        title: of the report.
        on_progress: called as (clips done, clips in all).

    Raises:
        InputError: if two clips have one name, such as a.mp4 and a.mov: everything known of a clip goes by its name.
    """
    _check_names(clips)
    make_folder(report)
    wanted = {clip.name: fingerprint(clip, settings) for clip in clips}
    known = {
        line["clip"]: line
        for line in read_lines(report / LINES_FILE)
        if wanted.get(line["clip"]) == line.get("fingerprint") and "failure" not in line
    }
    missing = [clip for clip in clips if clip.name not in known]
    _rewrite(report / LINES_FILE, list(known.values()))
    features = report / FEATURES_FOLDER if settings.networks else None
    if features:
        for clip in missing:  # those of an earlier state of its files must not count for it
            for metric, _ in settings.networks:
                (features / f"{clip.name}.{metric}.npz").unlink(missing_ok=True)
    on_progress(len(known), len(clips))
    with (report / LINES_FILE).open("a", encoding="utf-8") as file:
        for line in _scored(missing, settings, features, workers):
            line["fingerprint"] = wanted[line["clip"]]
            text = json.dumps(line)
            file.write(text + "\n")
            file.flush()
            known[line["clip"]] = json.loads(text)
            on_progress(len(known), len(clips))
    lines = [known[clip.name] for clip in clips]
    whole = frechet_distances(lines, features, settings) if features else {}
    summaries = write_report(report, lines, whole, PUBLISHED.get(published or "", ()), title)
    return Outcome(lines, summaries, sum("failure" in line for line in lines))


def _check_names(clips: Sequence[ClipSource]) -> None:
    videos: dict[str, Path] = {}
    for clip in clips:
        if clip.name in videos:
            raise InputError(
                f"{videos[clip.name]} and {clip.video} would both be the clip {clip.name!r}, and results, records and "
                "tracks go by a clip's name. Rename one of them, or move it out of the folder."
            )
        videos[clip.name] = clip.video


def fingerprint(clip: ClipSource, settings: ScoringSettings) -> str:
    """What a clip's result depends on, in short: its files' sizes and times, what is known of it, and the settings."""
    files = [clip.video, clip.tracks, clip.real, clip.real_tracks, *(clip.voices or [])]
    states = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file is not None]
    text = json.dumps([states, clip.speaking, clip.boxes, asdict(settings)], default=str)
    return short_digest(text)


def _scored(clips: Sequence[ClipSource], settings: ScoringSettings, features: Path | None, workers: int) -> Any:
    """Results in the order in which clips are done; this process scores clips, too."""
    if workers <= 1 or len(clips) <= 1:
        tools = Tools(settings)
        for clip in clips:
            yield score_safely(clip, tools, features)
        return
    helpers = workers - 1
    waiting, running = deque(clips), set[Future[dict[str, Any]]]()
    spawn = multiprocessing.get_context("spawn")
    with _one_thread_each(), ProcessPoolExecutor(helpers, spawn, _start, (settings, features)) as pool:
        tools = Tools(settings, alone=False)
        while waiting or running:
            while waiting and len(running) < 2 * helpers:
                running.add(pool.submit(_work, waiting.popleft()))
            if waiting:
                yield score_safely(waiting.popleft(), tools, features)
            done, running = wait(running, None if not waiting else 0, FIRST_COMPLETED)
            for task in done:
                yield _result(task)


def _result(task: Future[dict[str, Any]]) -> dict[str, Any]:
    try:
        return task.result()
    except BrokenProcessPool as error:
        raise AnyTalkerError(
            "A process that scores clips was ended from outside, perhaps for lack of memory. What is scored is kept: "
            "run it again, with fewer --workers."
        ) from error


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """This process, and those started meanwhile, compute on one thread: clips are what runs in parallel."""
    import torch

    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    threads = torch.get_num_threads()
    os.environ.update(dict.fromkeys(before, "1"))
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_TOOLS: Tools | None = None
_FEATURES: Path | None = None


def _start(settings: ScoringSettings, features: Path | None) -> None:
    """Load everything once a process."""
    global _TOOLS, _FEATURES
    _TOOLS, _FEATURES = Tools(settings, alone=False), features


def _work(clip: ClipSource) -> dict[str, Any]:
    assert _TOOLS is not None
    return score_safely(clip, _TOOLS, _FEATURES)


def score_safely(clip: ClipSource, tools: Tools, features: Path | None = None) -> dict[str, Any]:
    """The result of a clip, or why it has none."""
    try:
        return score_clip(clip, tools, features)
    except Exception as error:  # one broken clip must not end the others' evaluation
        return {"clip": clip.name, "failure": explain(error), "scores": {}}


def frechet_distances(lines: Sequence[dict[str, Any]], features: Path, settings: ScoringSettings) -> dict[str, float]:
    """FID and FVD from the features that scoring left on disk, one clip in memory at a time."""
    from anytalker.evaluation.fidelity import FrechetDistance

    found: dict[str, float] = {}
    for metric, _ in settings.networks:
        distance: FrechetDistance | None = None
        for line in lines:
            path = features / f"{line['clip']}.{metric}.npz"
            if path.is_file():
                with np.load(path, allow_pickle=False) as file:
                    distance = distance or FrechetDistance(file["made"].shape[1])
                    distance.add(file["made"], real=False)
                    distance.add(file["real"], real=True)
        with suppress(NoScoreError):
            if distance is not None:
                found[metric] = distance.compute()
    return found


def _rewrite(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    with atomic_path(path) as partial:
        partial.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
