"""From the scores of clips to a summary: means, confidence intervals, distance to the real videos."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

METRICS: dict[str, tuple[str, str]] = {
    "interactivity": ("Interactivity", "eye motion of listeners, px a frame"),
    "sync_c": ("Sync-C", "lip sync confidence, higher is better"),
    "sync_d": ("Sync-D", "lip sync distance, lower is better"),
    "sync_c_star": ("Sync-C*", "lip sync confidence while speaking"),
    "sync_offset": ("Offset", "frames that lips are ahead of (+) or behind the voice"),
    "binding": ("Binding", "share of speaking faces that fit their own voice best"),
    "silence": ("Silence", "mouth motion of people without a voice, relative to speakers"),
    "psnr": ("PSNR", "dB to the real video"),
    "ssim": ("SSIM", "likeness to the real video, 1 is the same"),
    "fid": ("FID", "distance of pictures from real ones, lower is better"),
    "fvd": ("FVD", "distance of videos from real ones, lower is better"),
}
"""Every score there is: its name, and what it says."""


@dataclass(frozen=True)
class MetricSummary:
    """One score over all clips.

    Attributes:
        metric: key in `METRICS`.
        mean: over the clips that have it.
        low, high: 95% bootstrap interval of the mean over clips; both NaN for fewer than two.
        clips: number of clips that have it.
        missing: reason → number of clips that lack it for that reason.
        real: mean of the real videos; None without.
        distance: mean absolute difference between a clip and its real video; None without.
    """

    metric: str
    mean: float
    low: float
    high: float
    clips: int
    missing: dict[str, int]
    real: float | None = None
    distance: float | None = None


def summarize(lines: Sequence[Mapping[str, Any]], whole: Mapping[str, float] | None = None) -> list[MetricSummary]:
    """Summaries of all scores that any clip has, or lacks for a reason.

    Args:
        lines: one result a clip, as `score_clip` makes them.
        whole: scores of all clips together, such as FVD.
    """
    found = []
    for metric in METRICS:
        values = [line["scores"][metric] for line in lines if metric in line.get("scores", {})]
        missing: dict[str, int] = {}
        for line in lines:
            reason = line.get("problems", {}).get(metric)
            if reason:
                missing[reason] = missing.get(reason, 0) + 1
        if whole and metric in whole:
            found.append(MetricSummary(metric, whole[metric], math.nan, math.nan, len(lines), {}))
        elif values or missing:
            pairs = [
                (line["scores"][metric], line["real"][metric])
                for line in lines
                if metric in line.get("scores", {}) and metric in line.get("real", {})
            ]
            low, high = mean_interval(values)
            found.append(
                MetricSummary(
                    metric,
                    float(np.mean(values)) if values else math.nan,
                    low,
                    high,
                    len(values),
                    missing,
                    float(np.mean([real for _, real in pairs])) if pairs else None,
                    float(np.mean([abs(made - real) for made, real in pairs])) if pairs else None,
                )
            )
    return found


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Bootstrap interval of the mean; the value itself twice where all are the same, NaN for fewer than two."""
    if len(values) < 2:
        return math.nan, math.nan
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    from scipy.stats import bootstrap

    result = bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        confidence_level=confidence,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def failures(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Clips that could not be scored at all, with the reason."""
    return [(line["clip"], line["failure"]) for line in lines if line.get("failure")]
