"""The report of an evaluation: JSON lines, a CSV, and one page that stands on its own."""

from __future__ import annotations

import csv
import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anytalker.evaluation.report import plots
from anytalker.evaluation.report.reference import ReferenceRow
from anytalker.evaluation.report.summary import METRICS, MetricSummary, failures, summarize
from anytalker.files import atomic_path, write_json_atomic

LINES_FILE, TABLE_FILE, PAGE_FILE, SUMMARY_FILE = "scores.jsonl", "scores.csv", "report.html", "summary.json"
_SHOWN_CLIPS = 24
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2937; max-width: 1000px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; } h3 { font-size: 1rem; margin-bottom: .2rem; }
table { border-collapse: collapse; width: 100%; margin: .6rem 0; } svg { max-width: 100%; height: auto; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid #e5e7eb; }
th:first-child, td:first-child { text-align: left; } th { font-weight: 600; }
.soft { color: #6b7280; font-size: .88em; } .bad { color: #b91c1c; } .row { display: flex; gap: 1rem; flex-wrap: wrap; }
@media (prefers-color-scheme: dark) {
  body { background: #111827; color: #e5e7eb; } th, td { border-color: #374151; }
  svg { background: #f9fafb; border-radius: .4rem; }
}
"""


def write_report(
    folder: Path,
    lines: Sequence[Mapping[str, Any]],
    whole: Mapping[str, float] | None = None,
    reference: Sequence[ReferenceRow] = (),
    title: str = "AnyTalker evaluation",
) -> list[MetricSummary]:
    """Write CSV, summary and page of scored clips to a folder; the summaries.

    Args:
        folder: where to; made if missing.
        lines: one result a clip, as `score_clip` makes them.
        whole: scores of all clips together.
        reference: published rows to show beside them.
        title: of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ordered = sorted(lines, key=lambda line: line["clip"])
    summaries = summarize(ordered, whole)
    _write_table(folder / TABLE_FILE, ordered)
    about = [vars(summary) | {"name": METRICS[summary.metric][0]} for summary in summaries]
    write_json_atomic(folder / SUMMARY_FILE, _plain({"metrics": about, "failures": failures(ordered)}))
    page = render_page(ordered, summaries, reference, title)
    with atomic_path(folder / PAGE_FILE) as partial:
        partial.write_text(page, encoding="utf-8")
    return summaries


def _write_table(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    metrics = [metric for metric in METRICS if any(metric in line.get("scores", {}) for line in lines)]
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["clip", "people", "seconds", *metrics, "problem"])
        for line in lines:
            problem = line.get("failure") or "; ".join(f"{k}: {v}" for k, v in line.get("problems", {}).items())
            seconds = line["frames"] / line["fps"] if line.get("fps") else ""
            scores = [line.get("scores", {}).get(metric, "") for metric in metrics]
            writer.writerow([line["clip"], line.get("people", ""), seconds, *scores, problem])


def render_page(
    lines: Sequence[Mapping[str, Any]],
    summaries: Sequence[MetricSummary],
    reference: Sequence[ReferenceRow],
    title: str,
) -> str:
    """The whole page as HTML."""
    failed = failures(lines)
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{len(lines)} clips, {len(lines) - len(failed)} scored"
        + (f', <span class="bad">{len(failed)} failed</span>' if failed else "")
        + ".</p>",
        _summary_table(summaries),
        _reference_table(reference, summaries),
        "<h2>Distributions</h2>" + _distributions(lines),
        *(_clip_part(line) for line in lines[:_SHOWN_CLIPS]),
    ]
    if len(lines) > _SHOWN_CLIPS:
        parts.append(f'<p class="soft">The other {len(lines) - _SHOWN_CLIPS} clips are in {TABLE_FILE}.</p>')
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )


def _summary_table(summaries: Sequence[MetricSummary]) -> str:
    rows = []
    for one in summaries:
        name, meaning = METRICS[one.metric]
        interval = "" if math.isnan(one.low) else f"{one.low:.3f} … {one.high:.3f}"
        lacking = sum(one.missing.values())
        reasons = "".join(
            f'<br><span class="soft">{count} without: {html.escape(reason)}</span>'
            for reason, count in sorted(one.missing.items(), key=lambda item: -item[1])[:3]
        )
        rows.append(
            f'<tr><td><b>{name}</b> <span class="soft">{meaning}</span>{reasons}</td><td>{_number(one.mean)}</td>'
            f"<td>{interval}</td><td>{one.clips} of {one.clips + lacking}</td><td>{_number(one.real)}</td>"
            f"<td>{_number(one.distance)}</td></tr>"
        )
    head = (
        "<tr><th>score</th><th>mean</th><th>95% interval</th><th>clips</th><th>real</th><th>distance to real</th></tr>"
    )
    return f"<h2>Scores</h2><table>{head}{''.join(rows)}</table>"


def _reference_table(reference: Sequence[ReferenceRow], summaries: Sequence[MetricSummary]) -> str:
    if not reference:
        return ""
    metrics = [metric for metric in METRICS if any(metric in row.scores for row in reference)]
    own = {summary.metric: summary.mean for summary in summaries}
    rows = [
        "<tr><td><b>this evaluation</b></td>" + "".join(f"<td>{_number(own.get(m))}</td>" for m in metrics) + "</tr>"
    ]
    for row in reference:
        cells = "".join(f"<td>{_number(row.scores.get(metric))}</td>" for metric in metrics)
        rows.append(
            f'<tr><td>{html.escape(row.method)} <span class="soft">{html.escape(row.source)}</span></td>{cells}</tr>'
        )
    head = "<tr><th>method</th>" + "".join(f"<th>{METRICS[metric][0]}</th>" for metric in metrics) + "</tr>"
    note = (
        '<p class="soft">Published scores were made with other landmark and sync networks or clips unless this '
        "evaluation used the same; compare with care.</p>"
    )
    return f"<h2>Beside published results</h2><table>{head}{''.join(rows)}</table>{note}"


def _distributions(lines: Sequence[Mapping[str, Any]]) -> str:
    def collect(part: str) -> dict[str, list[float]]:
        return {
            METRICS[metric][0]: [line[part][metric] for line in lines if metric in line.get(part, {})]
            for metric in METRICS
        }

    drawn = plots.distributions(collect("scores"), collect("real"))
    return drawn or '<p class="soft">There is too little to draw.</p>'


def _clip_part(line: Mapping[str, Any]) -> str:
    head = f"<h3>{html.escape(line['clip'])}</h3>"
    if line.get("failure"):
        return f'{head}<p class="bad">{html.escape(line["failure"])}</p>'
    scores = " · ".join(f"{METRICS[m][0]} {_number(v)}" for m, v in line["scores"].items() if m in METRICS)
    reasons = "".join(f"<br>{METRICS[m][0]}: {html.escape(reason)}" for m, reason in line.get("problems", {}).items())
    reasons += "".join(f"<br>{html.escape(note)}" for note in line.get("notes", ()))
    drawn = plots.timeline(line) if line.get("timeline") and line.get("people") else ""
    matrix = plots.binding_matrix(line["binding_matrix"]) if line.get("binding_matrix") else ""
    return f'{head}<p>{scores}<span class="soft">{reasons}</span></p><div class="row">{drawn}{matrix}</div>'


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3f}"


def _plain(value: Any) -> Any:
    """The same with NaN as None, as JSON knows none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Results of an earlier, perhaps interrupted run; a last line that was cut off is left out."""
    lines = []
    if path.is_file():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                continue
    return lines
