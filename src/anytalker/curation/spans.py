"""Arithmetic of spans, (start, end) in seconds."""

from __future__ import annotations

from collections.abc import Iterable

Span = tuple[float, float]


def joined(spans: Iterable[Span], gap: float = 0.0) -> list[Span]:
    """The union, in order; spans that are at most `gap` apart become one."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1] + gap:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def clipped(spans: Iterable[Span], start: float, end: float, least: float = 0.0) -> list[Span]:
    """What lies between two moments, without what is shorter than `least`."""
    inner = [(max(a, start), min(b, end)) for a, b in spans]
    return [(a, b) for a, b in inner if b - a > least]


def left_over(start: float, end: float, taken: Iterable[Span], margin: float = 0.0) -> list[Span]:
    """What is left between two moments without `taken`, and `margin` around each of it."""
    left, begin = [], start
    for a, b in joined((a - margin, b + margin) for a, b in taken):
        if a > begin:
            left.append((begin, min(a, end)))
        begin = max(begin, b)
    if begin < end:
        left.append((begin, end))
    return [(a, b) for a, b in left if b > a]


def common(first: Iterable[Span], second: Iterable[Span]) -> list[Span]:
    """Where a span of the first and one of the second overlap."""
    others = joined(second)
    return [part for a, b in joined(first) for part in clipped(others, a, b)]


def total(spans: Iterable[Span]) -> float:
    """Seconds in all, of spans that don't overlap."""
    return sum(end - start for start, end in spans)
