"""The report's pictures, as SVG text to be put into a page: timelines, binding matrices, distributions."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_INK, _SOFT = "#1f2937", "#9ca3af"
_COLORS = ("#2563eb", "#ea580c", "#059669", "#9333ea", "#dc2626", "#0891b2", "#ca8a04", "#db2777")


def timeline(line: Mapping[str, Any]) -> str:
    """Who speaks, if that is known of everybody, over each person's mouth and eye motion, of one clip; SVG."""
    people, rate, spoken = line["people"], line["timeline"]["rate"], line.get("speaking") or []
    figure, rows = _figure(people, 1, width=9, height=1.25 * people + 0.5, sharex=True)
    for person, axes in enumerate(rows[:, 0]):
        for start, end in spoken[person] if len(spoken) == people else ():
            axes.axvspan(start, end, color=_COLORS[person % len(_COLORS)], alpha=0.15, linewidth=0)
        for name, style in (("mouth", "-"), ("eyes", ":")):
            values = line["timeline"].get(name)
            if values and any(value is not None for value in values[person]):
                series = np.array([np.nan if value is None else value for value in values[person]], dtype=float)
                peak = np.nanmax(series)
                times = np.arange(len(series)) / rate
                axes.plot(times, series / peak if peak > 0 else series, style, color=_COLORS[person % len(_COLORS)])
        axes.set(ylabel=f"person {person + 1}", yticks=[], ylim=(0, 1.05))
    rows[-1, 0].set_xlabel("seconds — shaded: speaks · solid: mouth motion · dotted: eye motion")
    return _svg(figure)


def binding_matrix(matrix: Sequence[Sequence[float | None]]) -> str:
    """How well every face (row) fits every voice (column); SVG."""
    values = np.array([[np.nan if value is None else value for value in row] for row in matrix], dtype=float)
    figure, rows = _figure(1, 1, width=2.2, height=2.2)
    axes = rows[0, 0]
    axes.imshow(values, cmap="Blues")
    middle = np.nanmean(values) if np.isfinite(values).any() else 0.0
    for (row, column), value in np.ndenumerate(values):
        color = "white" if value > middle else _INK
        axes.text(column, row, "" if np.isnan(value) else f"{value:.2f}", ha="center", va="center", color=color)
    names = [str(person + 1) for person in range(len(values))]
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="voice", ylabel="face")
    return _svg(figure)


def distributions(values: Mapping[str, Sequence[float]], real: Mapping[str, Sequence[float]]) -> str:
    """Histograms of scores over clips, with those of the real videos behind; SVG, "" if there is nothing to show."""
    shown = [name for name, scores in values.items() if len(scores) > 1]
    if not shown:
        return ""
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    figure, rows = _figure(lines, columns, width=3 * columns, height=1.9 * lines)
    for axes, name in zip(rows.flat, shown, strict=False):
        everything = [*values[name], *real.get(name, [])]
        edges = np.histogram_bin_edges(everything, bins=12)
        if real.get(name):
            axes.hist(real[name], edges, color=_SOFT, alpha=0.6, label="real")
        axes.hist(values[name], edges, color=_COLORS[0], alpha=0.7, label="generated")
        axes.set(title=name, yticks=[])
    for axes in rows.flat[len(shown) :]:
        axes.set_visible(False)
    if any(real.get(name) for name in shown):
        rows.flat[0].legend(fontsize=7, frameon=False)
    return _svg(figure)


def _figure(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple[Any, np.ndarray]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **options)
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=7, colors=_INK)
        axes.xaxis.label.set_size(8)
        axes.yaxis.label.set_size(8)
        axes.title.set_size(9)
    return figure, grid


def _svg(figure: Any) -> str:
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "anytalker", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = re.sub(r"<metadata>.*?</metadata>", "", text.getvalue(), flags=re.DOTALL)
    return svg[svg.index("<svg") :]
