"""The report's charts, as HTML and SVG whose colours follow the page: bars and histograms."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from anytalker.curation.measures import number

_WIDTH, _HEIGHT, _BASE = 300, 120, 100
_BINS = 24


def spoken(seconds: float) -> str:
    """A length as people say it: 8.4 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def share(part: float, whole: float) -> str:
    """A part in per cent."""
    return f"{100 * part / whole:.1f}%" if whole > 0 else "–"


def bar(label: str, said: str, *parts: tuple[str, float]) -> str:
    """A row: a name, parts of a bar as (kind, share of the whole bar), and what is said of it."""
    pieces = "".join(
        f'<span class="{kind}" style="width:{100 * min(max(size, 0.0), 1.0):.3f}%"></span>' for kind, size in parts
    )
    return (
        f'<div class="bar"><span class="name">{html.escape(label)}</span><span class="line">{pieces}</span>'
        f'<span class="said">{html.escape(said)}</span></div>'
    )


def histogram(title: str, kept: np.ndarray, dropped: np.ndarray, limit: float | None) -> str:
    """How often a number has which value, in what was kept and in what was dropped; SVG, "" if nobody measured it.

    Args:
        title: above it.
        kept, dropped: float (n,).
        limit: where the threshold is; None: there is none.
    """
    everything = np.concatenate([kept, dropped])
    if not len(everything):
        return ""
    low, high = (float(value) for value in np.quantile(everything, (0.005, 0.995)))
    if limit is not None:
        low, high = min(low, limit), max(high, limit)  # the threshold is seen, whatever the numbers are
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    shares = [np.histogram(np.clip(values, low, high), edges)[0] / max(1, len(values)) for values in (kept, dropped)]
    peak = max(float(one.max()) for one in shares) or 1.0
    marks = "".join(_columns(kind, one / peak) for kind, one in zip(("kept", "dropped"), shares, strict=True))
    if limit is not None:
        x = _WIDTH * (limit - low) / (high - low)
        marks += f'<path class="limit" d="M{x:.1f} 4V{_BASE}"/>'
    texts = "".join(
        f'<text x="{x}" y="{_HEIGHT - 4}" text-anchor="{anchor}">{html.escape(number(round(value, 4)))}</text>'
        for x, anchor, value in ((2, "start", low), (_WIDTH - 2, "end", high))
    )
    counts = f"{len(kept)} kept, {len(dropped)} dropped"
    return (
        f'<figure><figcaption>{html.escape(title)} <span class="soft">{counts}</span></figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(title)}: {counts}">'
        f'{marks}<path class="axis" d="M0 {_BASE}H{_WIDTH}"/>{texts}</svg></figure>'
    )


def _columns(kind: str, heights: Sequence[float] | np.ndarray) -> str:
    wide = _WIDTH / _BINS
    boxes = "".join(
        f"M{index * wide + 0.7:.1f} {_BASE}v{-(_BASE - 6) * height:.1f}h{wide - 1.4:.1f}V{_BASE}z"
        for index, height in enumerate(heights)
        if height > 0
    )
    return f'<path class="{kind}" d="{boxes}"/>'
