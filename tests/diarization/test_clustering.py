"""Windows to speakers, on made-up points."""

import numpy as np
import pytest

from anytalker.diarization import clustering
from anytalker.diarization.clustering import cluster_voices

DIRECTIONS = 30
VARIANCES = np.full(DIRECTIONS, 4.0)


def windows(speakers: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points of turns of ten windows, one speaker after another, and whose they are."""
    rng = np.random.default_rng(seed)
    centres = 2 * rng.standard_normal((max(speakers) + 1, DIRECTIONS))
    labels = np.repeat(speakers, 10)
    points = centres[labels] + rng.standard_normal((len(labels), DIRECTIONS))
    return points - points.mean(axis=0), labels


def purity(belief: np.ndarray, labels: np.ndarray) -> float:
    table = np.zeros((labels.max() + 1, belief.shape[1]))
    np.add.at(table, (labels, belief.argmax(axis=1)), 1)
    return table.max(axis=0).sum() / len(labels)


@pytest.mark.parametrize("speakers", [[0] * 5, [0, 1, 0, 1, 1], [0, 1, 2, 0, 2, 1, 3, 0]])
def test_speakers_are_counted(speakers) -> None:
    points, labels = windows(speakers)
    belief = cluster_voices(points, VARIANCES)
    assert belief.shape == (len(labels), len(set(speakers)))
    assert purity(belief, labels) > 0.98
    assert belief.sum(axis=1) == pytest.approx(1)


def test_a_known_number_is_kept() -> None:
    points, _ = windows([0, 1, 2, 0, 1, 2])
    assert cluster_voices(points, VARIANCES, num_speakers=2).shape[1] == 2
    assert cluster_voices(points, VARIANCES, max_speakers=2).shape[1] == 2


def test_a_long_recording_has_no_more_speakers() -> None:
    """A voice changes a little from turn to turn, which evidence of any length must not take for other people."""
    rng = np.random.default_rng(3)
    points, labels = windows([0, 1, 2] * 40)
    points = points + np.repeat(0.9 * rng.standard_normal((len(points) // 10, DIRECTIONS)), 10, axis=0)
    belief = cluster_voices(points, VARIANCES, max_speakers=5)
    assert belief.shape[1] == 3
    assert purity(belief, labels) > 0.98


def test_a_long_recording_has_no_fewer_speakers() -> None:
    """Two whose voices are near each other, in short turns: however long it is, each window still has a say."""
    points, labels = windows([0, 1, 2, 3] * 60)
    first, second = points[labels == 0].mean(axis=0), points[labels == 1].mean(axis=0)
    points[labels == 1] += 0.5 * (first - second)
    belief = cluster_voices(points - points.mean(axis=0), VARIANCES)
    assert belief.shape[1] == 4
    assert purity(belief, labels) > 0.98


def test_two_at_once_are_no_third() -> None:
    points, labels = windows([0, 1, 0, 1, 0, 1, 0, 1])
    both = points[labels == 0].mean(axis=0) / 2 + points[labels == 1].mean(axis=0) / 2
    both = both + np.random.default_rng(1).standard_normal((8, DIRECTIONS))
    belief = cluster_voices(np.concatenate([points[:40], both, points[40:]]), VARIANCES)
    assert belief.shape[1] == 2


def test_somebody_beside_the_line_between_two_others_is_a_third() -> None:
    points, labels = windows([0, 1, 0, 1, 0, 1, 0, 1])
    one, other = (points[labels == label].mean(axis=0) for label in (0, 1))
    line = other - one
    aside = np.random.default_rng(2).standard_normal(DIRECTIONS)
    aside -= (aside @ line) / (line @ line) * line
    place = (one + other) / 2 + np.sqrt(0.8) * np.linalg.norm(line) / 2 * aside / np.linalg.norm(aside)
    third = place + np.random.default_rng(1).standard_normal((8, DIRECTIONS))
    belief = cluster_voices(np.concatenate([points[:40], third, points[40:]]), VARIANCES)
    assert belief.shape[1] == 3


def test_somebody_between_two_others_who_speaks_alone_is_a_third() -> None:
    points, labels = windows([0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1])
    between = points[labels == 0].mean(axis=0) / 2 + points[labels == 1].mean(axis=0) / 2
    between = between + np.random.default_rng(1).standard_normal((16, DIRECTIONS))
    belief = cluster_voices(np.concatenate([points[:40], between, points[40:]]), VARIANCES)
    assert belief.shape[1] == 3


def test_many_windows_are_clustered_by_some_of_them(monkeypatch) -> None:
    monkeypatch.setattr(clustering, "_MOST_AT_ONCE", 20)
    points, labels = windows([0, 1, 2, 0, 1, 2])
    assert purity(cluster_voices(points, VARIANCES, num_speakers=3), labels) > 0.98


def test_one_window_is_one_speaker() -> None:
    assert cluster_voices(np.zeros((1, DIRECTIONS)), VARIANCES, num_speakers=3).shape == (1, 1)
