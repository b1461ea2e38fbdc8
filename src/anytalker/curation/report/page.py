"""The report of a curation: one page beside the dataset's files, on what was kept, what was dropped, and why."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from anytalker.curation.config import CurationConfig
from anytalker.curation.export import KeptClip
from anytalker.curation.footage import FPS
from anytalker.curation.measures import judgement, measure_of, passes, read_config, threshold
from anytalker.curation.piece import Dropped
from anytalker.curation.report.charts import bar, histogram, share, spoken
from anytalker.curation.report.pictures import Pictures
from anytalker.curation.report.style import STYLE
from anytalker.curation.report.tally import (
    Step,
    footage_seconds,
    funnel,
    kept_seconds,
    measured,
    people,
    seconds_of,
    spread,
)
from anytalker.files import atomic_path

if TYPE_CHECKING:
    from anytalker.curation.dataset import Dataset

FOLDER, PAGE, PICTURES = "report", "index.html", "previews"
_CLIPS, _A_REASON, _PREVIEWS, _PEOPLE, _FILES, _PROBLEMS = 24, 4, 36, 60, 100, 50
"""How many are shown: clips, previews of a reason and of all reasons, people, files, problems."""


def write_report(dataset: Dataset, folder: Path) -> Path:
    """Write a dataset's page and the pictures that it shows; its path.

    The page loads nothing but the dataset's own files. What it shows of clips and stretches is bounded, whatever their
    number; its counts and hours are those of all.

    Args:
        dataset: what a curation made.
        folder: the dataset's, with its clips; the page goes to report/index.html in it.
    """
    target = folder / FOLDER / PAGE
    pictures = Pictures(folder / FOLDER / PICTURES, PICTURES)
    config = read_config(folder)
    total, kept = footage_seconds(dataset), kept_seconds(dataset)
    steps = funnel(total, dataset.dropped)
    parts = [
        "<h1>What was kept, and why</h1>",
        _summary(dataset, total, kept),
        _problems(dataset.failed),
        _funnel(steps, total, kept.get("all", 0.0)),
        _numbers(dataset, config),
        _kept_sheet(dataset, folder, pictures),
        _dropped_sheets(steps, pictures, config),
        _people_table(dataset, folder, pictures),
        _files(dataset),
        _settings(config),
    ]
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Curated dataset</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )
    with atomic_path(target) as partial:
        partial.write_text(text, encoding="utf-8")
    pictures.tidy()
    return target


def _summary(dataset: Dataset, total: float, kept: dict[str, float]) -> str:
    seconds = kept.get("all", 0.0)
    tiles = [
        (spoken(seconds), f"kept of {spoken(total)} ({share(seconds, total)})"),
        (str(len(dataset.kept)), "clips"),
        (str(len(people(dataset))), "people"),
        (str(len(dataset.surveys)), "files"),
    ]
    shown = "".join(f"<div><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>" for value, name in tiles)
    order = ("one person", "several people", "train", "validation", "test", "not divided")
    split = " · ".join(f"{name} {spoken(kept[name])}" for name in order if name in kept)
    return f'<div class="tiles">{shown}</div><p class="soft">{html.escape(split)}</p>'


def _problems(failed: Sequence[str]) -> str:
    if not failed:
        return ""
    lines = "".join(f"<li>{html.escape(reason)}</li>" for reason in failed[:_PROBLEMS])
    return f'<h2>What could not be used</h2><ul class="bad">{lines}</ul>{_more(len(failed), _PROBLEMS, "problems")}'


def _funnel(steps: Sequence[Step], total: float, kept: float) -> str:
    if total <= 0:
        return ""
    rows = [bar("footage", spoken(total), ("kept", 1.0))]
    largest = max((reason.seconds for step in steps for reason in step.reasons), default=0.0) or 1.0
    for step in steps:
        said = f"− {spoken(step.seconds)} ({share(step.seconds, total)})"
        rows.append(bar(step.stage, said, ("kept", step.left / total), ("dropped", step.seconds / total)))
        rows.append(_reasons(step, largest))
    lost = (steps[-1].left if steps else total) - kept
    if lost > 0.05:
        rows.append(bar("margins", f"− {spoken(lost)}", ("kept", kept / total), ("dropped", lost / total)))
    elif lost < -0.05:
        rows.append(bar("dropped twice", f"+ {spoken(-lost)}", ("kept", kept / total)))
    rows.append(bar("kept", f"{spoken(kept)} ({share(kept, total)})", ("kept", kept / total)))
    return (
        f'<h2>From footage to clips</h2><p class="soft">What each stage left, and what it dropped.</p>{"".join(rows)}'
    )


def _reasons(step: Step, largest: float) -> str:
    rows = "".join(
        bar(
            reason.text,
            f"{spoken(reason.seconds)} · {len(reason.dropped)}×",
            ("dropped", reason.seconds / largest),
        )
        for reason in step.reasons
    )
    return f'<div class="reasons">{rows}</div>'


def _numbers(dataset: Dataset, config: CurationConfig) -> str:
    drawn = []
    for name, (kept, dropped) in measured(dataset).items():
        limit = threshold(name, config)
        measure, stage = measure_of(name), name.partition(".")[0]
        title = f"{stage}: {measure.label}{f' ({measure.unit.strip()})' if measure.unit else ''}"
        drawn.append(histogram(title, kept, dropped, limit if isinstance(limit, (int, float)) else None))
    if not drawn:
        return ""
    legend = '<span class="key kept">kept</span> <span class="key dropped">dropped</span>, each in shares of its own'
    return (
        f'<h2>What was measured</h2><p class="soft">{legend}; the line is the threshold.</p>'
        f'<div class="plots">{"".join(drawn)}</div>'
    )


def _kept_sheet(dataset: Dataset, folder: Path, pictures: Pictures) -> str:
    ordered = sorted(dataset.kept, key=lambda clip: clip.name)
    cards = []
    for index in spread(len(ordered), _CLIPS):
        clip = ordered[index]
        record = dataset.records.get(clip.name)
        about = f"{spoken(clip.n_frames / FPS)}, {_heads(len(clip.persons))}" + (
            f", {record.split}" if record and record.split else ""
        )
        video = f"../{quote(clip.video_path)}"
        cards.append(_card(video, pictures.poster(clip, folder), clip.name, about, _place(clip)))
    shown = f'<div class="sheet">{"".join(cards)}</div>' if cards else '<p class="soft">Nothing was kept.</p>'
    return f"<h2>Kept</h2>{shown}{_more(len(ordered), _CLIPS, 'clips')}"


def _dropped_sheets(steps: Sequence[Step], pictures: Pictures, config: CurationConfig) -> str:
    reasons = [(step, reason) for step in steps for reason in step.reasons if reason.seconds > 0]
    each = max(1, min(_A_REASON, _PREVIEWS // max(1, len(reasons))))
    sheets: list[str] = []
    for step, reason in reasons:
        ordered = sorted(
            (one for one in reason.dropped if seconds_of(one) > 0), key=lambda one: (one.source.path, one.source.start)
        )
        cards = []
        for index in spread(len(ordered), each):
            one = ordered[index]
            cut = pictures.preview(one.source) if len(sheets) < _PREVIEWS else None
            why = one.reason if one.reason != reason.text else ""
            title = f"{Path(one.source.path).name}, {one.source.start:.1f}–{one.source.end:.1f} s"
            cards.append(_card(cut and cut[0], cut and cut[1], title, why, *_decisive(one, config)))
        sheets.append(
            f"<h3>{html.escape(step.stage)}: {html.escape(reason.text)} "
            f'<span class="soft">{spoken(reason.seconds)} · {len(ordered)}×</span></h3>'
            f'<div class="sheet">{"".join(cards)}</div>'
        )
    note = "What else was measured:  anytalker curate explain FILE@SECONDS"
    return f'<h2>Dropped</h2><p class="soft">{note}</p>{"".join(sheets)}' if sheets else ""


def _decisive(one: Dropped, config: CurationConfig) -> list[str]:
    """The numbers of the stage that dropped a stretch: those that are beyond their thresholds, or else all."""
    own = {name: value for name, value in one.numbers.items() if name.startswith(f"{one.stage}.")}
    beyond = {name: value for name, value in own.items() if passes(name, value, config) is False}
    return [f"{measure_of(name).label}: {judgement(name, value, config)}" for name, value in (beyond or own).items()]


def _card(video: str | None, poster: str | None, title: str, *about: str) -> str:
    picture = f' poster="{html.escape(poster)}"' if poster else ""
    shown = (
        f'<video preload="none" controls playsinline{picture} src="{html.escape(video)}"></video>'
        if video
        else '<div class="none">no preview</div>'
    )
    lines = "".join(f'<span class="soft">{html.escape(line)}</span>' for line in about if line)
    return f'<div class="card">{shown}<b>{html.escape(title)}</b>{lines}</div>'


def _place(clip: KeptClip) -> str:
    return f"{Path(clip.source.path).name}, {clip.source.start:.1f}–{clip.source.end:.1f} s"


def _heads(count: int) -> str:
    return "one person" if count == 1 else f"{count} people"


def _people_table(dataset: Dataset, folder: Path, pictures: Pictures) -> str:
    everybody = people(dataset)
    if not everybody:
        return ""
    clips = {clip.name: clip for clip in dataset.kept}
    rows = []
    for one in everybody[:_PEOPLE]:
        name, index = one.face
        face = pictures.face(clips[name], index, folder)
        picture = f'<img src="{html.escape(face)}" alt="" width="48" height="48">' if face else ""
        rows.append(
            f'<tr><td class="who">{picture}<code>{html.escape(one.identity)}</code></td>'
            f"<td>{html.escape(one.split)}</td><td>{spoken(one.seconds)}</td><td>{spoken(one.speaking)}</td>"
            f"<td>{one.clips}</td><td>{len(one.files)}</td></tr>"
        )
    head = "<tr><th>person</th><th>part</th><th>seen</th><th>speaks</th><th>clips</th><th>files</th></tr>"
    return (
        f'<h2>People</h2><div class="wide"><table>{head}{"".join(rows)}</table></div>'
        f"{_more(len(everybody), _PEOPLE, 'people')}"
    )


def _files(dataset: Dataset) -> str:
    seconds: dict[str, float] = {}
    for clip in dataset.kept:
        seconds[clip.source.path] = seconds.get(clip.source.path, 0.0) + clip.n_frames / FPS
    rows = []
    for found in dataset.surveys[:_FILES]:
        problem = f'<br><span class="bad">{html.escape(found.problem)}</span>' if found.problem else ""
        size = f"{found.width}×{found.height}" if found.width else ""
        rows.append(
            f"<tr><td>{html.escape(os.path.basename(found.path))}{problem}</td><td>{size}</td>"
            f"<td>{spoken(found.frames / FPS)}</td><td>{len(found.shots)}</td><td>{len(found.voices)}</td>"
            f"<td>{spoken(seconds.get(found.path, 0.0))}</td></tr>"
        )
    head = "<tr><th>file</th><th>size</th><th>length</th><th>shots</th><th>voices</th><th>kept</th></tr>"
    return (
        f'<h2>Files</h2><div class="wide"><table>{head}{"".join(rows)}</table></div>'
        f"{_more(len(dataset.surveys), _FILES, 'files')}"
    )


def _settings(config: CurationConfig) -> str:
    default = CurationConfig().model_dump(mode="json")
    rows = []
    for section, values in config.model_dump(mode="json").items():
        entries = values.items() if isinstance(values, dict) else [("", values)]
        for key, value in entries:
            usual = default[section][key] if key else default[section]
            name = f"{section}.{key}" if key else section
            said, before = (html.escape("–" if one is None else str(one)) for one in (value, usual))
            said = said if value == usual else f"<b>{said}</b>"
            rows.append(f"<tr><td>{html.escape(name)}</td><td>{said}</td><td>{before}</td></tr>")
    head = "<tr><th>setting</th><th>value</th><th>default</th></tr>"
    return f'<h2>Settings</h2><div class="wide"><table>{head}{"".join(rows)}</table></div>'


def _more(count: int, shown: int, what: str) -> str:
    return f'<p class="soft">{shown} of {count} {what} are shown.</p>' if count > shown else ""
