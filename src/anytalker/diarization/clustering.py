"""From embeddings of short windows to speakers: hierarchical clustering, then Bayesian HMM clustering (VBx)."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

_MOST_AT_ONCE = 3000
"""Windows that are clustered hierarchically, which takes memory by their square; the others join the nearest."""
_INDEPENDENCE = 0.4
"""Share of what a window says that its overlapping neighbours don't, F_A of VBx."""
_REGULARIZATION = 3.5
"""F_B of VBx: the higher, the fewer speakers."""
_MOST_EVIDENCE = 250
"""Windows whose evidence says how many speakers there are, however long the recording is: voices change over time."""
_STAY = 0.9
"""Probability that the next window has the same speaker."""
_LEAST_SHARE = 1e-3
"""Share of all turns below which nothing needs a speaker."""
_ITERATIONS, _SETTLED = 30, 1e-3
_MIXED_SHARE, _MIXED_WITHIN, _MIXED_NEAR, _MIXED_RUN = 0.25, 0.2, 0.6, 10
"""Of a mixture of two speakers: most of its share of the windows, how far from both ends of the line between them its
mean is at least, how far off that line at most (see `_off_the_line`), and the run of windows that it stays below."""


def cluster_voices(
    points: np.ndarray, variances: np.ndarray, num_speakers: int | None = None, max_speakers: int = 10
) -> np.ndarray:
    """Whose window it is.

    Ward's method gives clusters; then VBx (Landini et al. 2022) lets them compete, with few changes from window to
    window, until those that nothing needs are gone. Where the number of speakers isn't known, it begins with each
    number of clusters, and the result of the highest evidence (ELBO) counts. Long recordings would always give evidence
    for more, since no voice is exactly as the model says; so theirs counts less (Miller and Dunson 2019).

    Args:
        points: (windows, d) in order of time, of mean 0, whose deviation within a speaker is 1 in every direction.
        variances: (d,) between speakers.
        num_speakers: how many there are; None: find out.
        max_speakers: how many there are at most, if that is to be found out.

    Returns:
        Probabilities (windows, speakers).
    """
    if num_speakers:
        return _vbx(points, variances, _one_hot(_ward(points, min(num_speakers, len(points)))), prune=False)[0]
    strength = min(1.0, _MOST_EVIDENCE / len(points))
    most = min(max_speakers, max(1, len(points) // 4))
    found = [_vbx(points, variances, _one_hot(_ward(points, count)), True, strength) for count in range(1, most + 1)]
    belief = _without_mixtures(points, max(found, key=lambda one: one[1])[0])
    return _vbx(points, variances, belief, prune=False)[0] if strength < 1 else belief


def _ward(points: np.ndarray, count: int) -> np.ndarray:
    if len(points) < 2:
        return np.zeros(len(points), dtype=int)
    some = points[np.linspace(0, len(points) - 1, min(len(points), _MOST_AT_ONCE)).astype(int)]
    labels = fcluster(linkage(some, "ward"), count, "maxclust") - 1
    if len(some) == len(points):
        return labels
    centres = np.stack([some[labels == label].mean(axis=0) for label in range(labels.max() + 1)])
    return ((points**2).sum(axis=1)[:, None] - 2 * points @ centres.T + (centres**2).sum(axis=1)).argmin(axis=1)


def _one_hot(labels: np.ndarray) -> np.ndarray:
    """Nearly sure probabilities (windows, clusters)."""
    belief = np.full((len(labels), labels.max() + 1), 0.05 / (labels.max() + 1))
    belief[np.arange(len(labels)), labels] += 0.95
    return belief


def _vbx(
    points: np.ndarray, variances: np.ndarray, belief: np.ndarray, prune: bool, strength: float = 1.0
) -> tuple[np.ndarray, float]:
    """Variational inference, eqs. 16 to 25 of Landini et al. 2022, from a first belief (windows, speakers).

    Args:
        points, variances: see `cluster_voices`.
        belief: probabilities to begin with.
        prune: take away speakers that nothing needs.
        strength: share of the evidence that counts, the power of the likelihood of all windows. It is of the voices
            alone: given these, each window is still whose it is.

    Returns:
        Probabilities (windows, speakers), and the evidence (ELBO).
    """
    shares = np.full(belief.shape[1], 1 / belief.shape[1])
    scaled = points * np.sqrt(variances)
    evidence = -np.inf
    for _ in range(_ITERATIONS):
        counted = strength * _INDEPENDENCE / _REGULARIZATION
        spread = 1 / (1 + counted * belief.sum(axis=0)[:, None] * variances)
        means = counted * spread * (belief.T @ scaled)
        likelihood = _INDEPENDENCE * (scaled @ means.T - 0.5 * (spread + means**2) @ variances)
        last = belief
        belief, entries, total = _forward_backward(likelihood, shares)
        evidence = strength * total + 0.5 * _REGULARIZATION * float((np.log(spread) - spread - means**2 + 1).sum())
        if prune:
            shares = entries / entries.sum()
            kept = shares > _LEAST_SHARE
            belief, last = belief[:, kept] / belief[:, kept].sum(axis=1, keepdims=True), last[:, kept]
            shares = shares[kept] / shares[kept].sum()
        if np.abs(belief - last).max() < _SETTLED:
            break
    return belief, evidence


def _without_mixtures(points: np.ndarray, belief: np.ndarray) -> np.ndarray:
    """Take away speakers who are only ever heard as two others at once, or one after the other in a window.

    Their mean lies between those of two others, near the line (drawn mixtures had 0.1 to 0.6 in the measure of
    `_off_the_line`, people 0.6 and more), they are rare, and never go on for long: somebody who speaks alone for five
    seconds is a person. Their windows are given back to these two.
    """
    while belief.shape[1] > 2:
        counts = belief.sum(axis=0)
        longest = _longest_runs(belief)
        centres = (belief.T @ points) / counts[:, None]
        candidates = [
            (_off_the_line(centres[[mixed, *pair]], counts[mixed]), int(mixed), pair)
            for mixed in np.flatnonzero((counts <= _MIXED_SHARE * len(points)) & (longest < _MIXED_RUN))
            for pair in combinations(np.delete(np.arange(len(counts)), mixed).tolist(), 2)
        ]
        off, mixed, pair = min(candidates, default=(np.inf, 0, (0, 0)))
        if off > _MIXED_NEAR:
            return belief
        first, second = pair
        nearer = ((points - centres[first]) ** 2).sum(axis=1) < ((points - centres[second]) ** 2).sum(axis=1)
        belief[:, first] += belief[:, mixed] * nearer
        belief[:, second] += belief[:, mixed] * ~nearer
        belief = np.delete(belief, mixed, axis=1)
    return belief


def _longest_runs(belief: np.ndarray) -> np.ndarray:
    """How many windows each speaker has in a row at most, by the most probable one of each."""
    winners = belief.argmax(axis=1)
    edges = np.flatnonzero(np.diff(winners, prepend=-1, append=-1))
    longest = np.zeros(belief.shape[1], dtype=int)
    np.maximum.at(longest, winners[edges[:-1]], np.diff(edges))
    return longest


def _off_the_line(centres: np.ndarray, count: float) -> float:
    """How far the first of three means (3, d) is from the line between the others, where half their distance is 1.

    What windows scatter is taken off; infinite, if the mean isn't clearly between.
    """
    offset, line = centres[0] - centres[1], centres[2] - centres[1]
    share = float(offset @ line / max(line @ line, 1e-9))
    if not _MIXED_WITHIN < share < 1 - _MIXED_WITHIN:
        return float("inf")
    scatter = len(line) / (_INDEPENDENCE * count)
    return float((((offset - share * line) ** 2).sum() - scatter) / (line @ line / 4))


def _forward_backward(likelihood: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """A chain that stays or goes to anyone: probabilities (windows, speakers), how often each is gone to, and evidence.

    Args:
        likelihood: logarithms (windows, speakers).
        shares: of the speakers in what is gone to.
    """
    top = likelihood.max(axis=1)
    emission = np.exp(likelihood - top[:, None]) + 1e-30
    transition = _STAY * np.eye(len(shares)) + (1 - _STAY) * shares
    forward, backward, sums = np.empty_like(emission), np.ones_like(emission), np.empty(len(emission))
    value = shares * emission[0]
    for t in range(len(emission)):
        value = forward[t - 1] @ transition * emission[t] if t else value
        sums[t] = value.sum()
        forward[t] = value / sums[t]
    for t in range(len(emission) - 2, -1, -1):
        value = transition @ (emission[t + 1] * backward[t + 1])
        backward[t] = value / value.sum()
    belief = forward * backward
    belief /= belief.sum(axis=1, keepdims=True)
    arrived = (1 - _STAY) * shares * emission[1:] * backward[1:]
    every = (forward[:-1] @ transition * emission[1:] * backward[1:]).sum(axis=1, keepdims=True)
    return belief, belief[0] + (arrived / every).sum(axis=0), float(top.sum() + np.log(sums).sum())
