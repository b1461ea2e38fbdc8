"""An evaluation of many clips: in parallel, resumable, every clip's result on disk as soon as it is known."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anytalker.errors import AnyTalkerError, NoScoreError
from anytalker.evaluation.clips import ClipSource
from anytalker.evaluation.reference import ReferenceRow
from anytalker.evaluation.report import LINES_FILE, read_lines, write_report
from anytalker.evaluation.scoring import ScoringSettings, Tools, score_clip
from anytalker.evaluation.summary import MetricSummary

FEATURES_FOLDER = "features"


@dataclass(frozen=True)
class Outcome:
    """What an evaluation gave: one line a clip, summaries, and how many clips could not be scored."""

    lines: list[dict[str, Any]]
    summaries: list[MetricSummary]
    failed: int


def evaluate(
    clips: Sequence[ClipSource],
    settings: ScoringSettings,
    report: Path,
    workers: int = 1,
    reference: Sequence[ReferenceRow] = (),
    title: str = "AnyTalker evaluation",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Score clips and write the report; an interrupted evaluation goes on where it stopped.

    A clip is scored anew if its files or the settings have changed. A clip that can't be scored is named and counted,
    and the others go on.

    Args:
        clips: what to score.
        settings: how.
        report: folder for scores.jsonl, scores.csv, summary.json and report.html.
        workers: processes.
        reference: published rows for the report.
        title: of the report.
        on_progress: called as (clips done, clips in all).
    """
    report.mkdir(parents=True, exist_ok=True)
    wanted = {clip.name: fingerprint(clip, settings) for clip in clips}
    known = {
        line["clip"]: line
        for line in read_lines(report / LINES_FILE)
        if wanted.get(line["clip"]) == line.get("fingerprint")
    }
    missing = [clip for clip in clips if clip.name not in known]
    _rewrite(report / LINES_FILE, list(known.values()))
    features = report / FEATURES_FOLDER if settings.networks else None
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
    summaries = write_report(report, lines, whole, reference, title)
    return Outcome(lines, summaries, sum("failure" in line for line in lines))


def fingerprint(clip: ClipSource, settings: ScoringSettings) -> str:
    """What a clip's result depends on, in short: its files' sizes and times, what is known of it, and the settings."""
    files = [clip.video, clip.tracks, clip.real, clip.real_tracks, *(clip.voices or [])]
    states = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file is not None]
    text = json.dumps([states, clip.speaking, clip.boxes, asdict(settings)], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _scored(clips: Sequence[ClipSource], settings: ScoringSettings, features: Path | None, workers: int) -> Any:
    """Results as they come."""
    if workers <= 1 or len(clips) <= 1:
        tools = Tools(settings)
        for clip in clips:
            yield score_safely(clip, tools, features)
        return
    with ProcessPoolExecutor(workers, mp_context=_context(), initializer=_start, initargs=(settings, features)) as pool:
        tasks = [pool.submit(_work, clip) for clip in clips]
        for task in as_completed(tasks):
            yield task.result()


def _context() -> Any:
    """Fresh processes; where the system can, copies of one that has already imported what scoring needs."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["anytalker.evaluation.scoring", "anytalker.evaluation.small_syncnet"])
    return context


_TOOLS: Tools | None = None
_FEATURES: Path | None = None


def _start(settings: ScoringSettings, features: Path | None) -> None:
    """Load everything once a process, on one thread: clips are what runs in parallel."""
    global _TOOLS, _FEATURES
    import torch

    torch.set_num_threads(1)
    _TOOLS, _FEATURES = Tools(settings), features


def _work(clip: ClipSource) -> dict[str, Any]:
    assert _TOOLS is not None
    return score_safely(clip, _TOOLS, _FEATURES)


def score_safely(clip: ClipSource, tools: Tools, features: Path | None = None) -> dict[str, Any]:
    """The result of a clip, or why it has none."""
    try:
        return score_clip(clip, tools, features)
    except AnyTalkerError as error:
        return {"clip": clip.name, "failure": str(error), "scores": {}}
    except Exception as error:  # one broken clip must not end the others' evaluation
        return {"clip": clip.name, "failure": f"{type(error).__name__}: {error}", "scores": {}}


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
    from anytalker.files import atomic_path

    with atomic_path(path) as partial:
        partial.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
