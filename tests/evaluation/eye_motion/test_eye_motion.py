"""Interactivity against the release's scores, and what it must not depend on."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from safetensors.numpy import load_file

from anytalker.errors import InputError, NoScoreError
from anytalker.evaluation import interactivity
from anytalker.evaluation.eye_motion.scores import bootstrap_interval, is_silent
from tests.conftest import GOLDENS

CASES = {case["name"]: case for case in json.loads((GOLDENS / "interactivity.json").read_text())}
TRACKS = load_file(GOLDENS / "interactivity.safetensors")


def score(case: dict, order=(0, 1), **changes):
    speaking = [case["speaking"]["left"], case["speaking"]["right"]]
    landmarks, boxes = TRACKS[f"{case['name']}.landmarks"].copy(), TRACKS[f"{case['name']}.boxes"].copy()
    for frame, person in case["missing"]:
        landmarks[frame, person] = boxes[frame, person] = np.nan
    arguments = {
        "landmarks": landmarks[:, list(order)],
        "boxes": boxes[:, list(order)],
        "frame_size": (case["width"], case["height"]),
        "fps": case["fps"],
        "speaking": [speaking[i] for i in order],
    }
    return interactivity(**(arguments | changes))


@pytest.mark.parametrize("name", CASES)
def test_equals_the_release(name: str) -> None:
    case = CASES[name]
    if case["overall"] == -1:
        with pytest.raises(NoScoreError):
            score(case)
        return
    found = score(case)
    assert found.overall == pytest.approx(case["overall"], rel=1e-6)
    for value, side in zip(found.per_person, ("left", "right"), strict=True):
        assert value == pytest.approx(case["per_person"][side], rel=1e-6)


def test_the_reason_for_no_score_is_said() -> None:
    with pytest.raises(NoScoreError, match="Person 2 is missing in 1 of 30 frames, first in frame 12"):
        score(CASES["lost_face"])
    with pytest.raises(NoScoreError, match="Nobody ever listens"):
        score(CASES["always_speaking"])


@pytest.mark.parametrize("protocol", ["release", "paper"])
def test_the_order_of_people_does_not_matter(protocol: str) -> None:
    case = CASES["outliers"]
    there, back = score(case, protocol=protocol), score(case, order=(1, 0), protocol=protocol)
    assert there.overall == pytest.approx(back.overall, rel=1e-12)
    assert there.per_person == back.per_person[::-1]


def walking_tracks(people: int = 3, frames: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Faces far from the borders whose points tremble."""
    rng = np.random.default_rng(seed)
    centers = np.stack([200 + 220 * np.arange(people), np.full(people, 300.0)], axis=1)
    drift = np.cumsum(rng.normal(0, 0.4, (frames, people, 2)), axis=0)
    shape = rng.uniform(-60, 60, (people, 106, 2))
    points = centers[None, :, None] + drift[:, :, None] + shape + rng.normal(0, 0.5, (frames, people, 106, 2))
    middle = centers[None] + drift
    return points, np.concatenate([middle - 70, middle + 70], axis=2)


@pytest.mark.parametrize("protocol", ["release", "paper"])
def test_a_still_crop_by_a_camera_changes_nothing(protocol: str) -> None:
    points, boxes = walking_tracks()
    whole = interactivity(points, boxes, (900, 600), protocol=protocol)
    cut = interactivity(points - [40, 80], boxes - [40, 80, 40, 80], (850, 510), protocol=protocol)
    assert cut.overall == pytest.approx(whole.overall, rel=1e-4)


@pytest.mark.parametrize(("people", "protocol"), [(1, "paper"), (2, "release"), (5, "release")])
def test_any_number_of_people(people: int, protocol: str) -> None:
    points, boxes = walking_tracks(people)
    speaking = [[(0.0, 1.0)], *[[]] * (people - 1)]
    found = interactivity(points, boxes, (1400, 600), 25.0, speaking, protocol)
    assert len(found.per_person) == len(found.spans) == people
    assert found.listening_seconds[0] == pytest.approx((60 - 26) / 25)
    assert found.spans[0][0].start == pytest.approx(26 / 25)
    seconds = np.array(found.listening_seconds)
    assert found.overall == pytest.approx(np.dot(seconds, found.per_person) / seconds.sum())
    assert found.interval[0] < found.overall < found.interval[1]


def test_the_release_has_no_score_of_one_person() -> None:
    with pytest.raises(NoScoreError, match="one person in this clip; the release's protocol needs 2"):
        interactivity(*walking_tracks(1), (900, 600))


def test_frozen_eyes_score_nothing_and_livelier_ones_more() -> None:
    points, boxes = walking_tracks()
    still = np.broadcast_to(points[:1], points.shape)
    held = np.broadcast_to(boxes[:1], boxes.shape)
    assert interactivity(still, held, (900, 600)).overall == 0
    livelier = points + np.random.default_rng(1).normal(0, 1.0, points.shape)
    assert interactivity(livelier, boxes, (900, 600)).overall > interactivity(points, boxes, (900, 600)).overall


def test_a_person_who_never_listens_has_no_score_of_its_own() -> None:
    points, boxes = walking_tracks(2)
    found = interactivity(points, boxes, (900, 600), speaking=[[(0, 99)], []])
    assert math.isnan(found.per_person[0])
    assert found.overall == pytest.approx(found.per_person[1])


def test_the_papers_protocol_bears_short_losses() -> None:
    points, boxes = walking_tracks(2)
    points[20:25, 1] = boxes[20:25, 1] = np.nan
    with pytest.raises(NoScoreError, match="Person 2"):
        interactivity(points, boxes, (900, 600))
    whole = interactivity(*walking_tracks(2), (900, 600), protocol="paper")
    assert interactivity(points, boxes, (900, 600), protocol="paper").overall == pytest.approx(whole.overall, rel=0.2)
    points[5:30, 1] = np.nan
    with pytest.raises(NoScoreError, match="missing in 25 of 60"):
        interactivity(points, boxes, (900, 600), protocol="paper")


@pytest.mark.parametrize(
    ("changes", "culprit"),
    [
        ({"landmarks": np.zeros((4, 2, 68, 2))}, "landmarks"),
        ({"boxes": np.zeros((4, 2, 4))}, "boxes"),
        ({"fps": 0.0}, "fps"),
        ({"frame_size": (0, 10)}, "frame_size"),
        ({"protocol": "mine"}, "protocol"),
        ({"speaking": [[]]}, "speaking names 1 people"),
        ({"speaking": [[(2.0, 1.0)], []]}, "speaking span"),
    ],
)
def test_bad_input_is_named(changes: dict, culprit: str) -> None:
    with pytest.raises(InputError, match=culprit):
        score(CASES["smooth"], **changes)


def test_silence_is_what_lies_outside_all_spans() -> None:
    assert is_silent([(0.2, 0.4), (0.8, 0.8)], 11, 10.0).tolist() == [True] * 2 + [False] * 3 + [True] * 3 + [
        False,
        True,
        True,
    ]


def test_the_bootstrap_covers_the_mean() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(40):
        low, high = bootstrap_interval([rng.normal(1.0, 0.5, 200)], block=10, seed=seed)
        covered += low < 1.0 < high
    assert covered >= 34
    assert bootstrap_interval([np.full(30, 2.0)], block=10) == (2.0, 2.0)
