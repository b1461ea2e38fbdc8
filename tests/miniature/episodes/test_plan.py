"""Plans of episodes: everything that can go wrong with footage is in them, and half of it is fit for training."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from anytalker.miniature.episodes.draft import SHORTEST, SPOILS
from anytalker.miniature.episodes.plan import FPS, MARGIN, Plan, Shot
from anytalker.miniature.episodes.recipes import plan_episode
from anytalker.miniature.world.scenes import UNSEEN_SEED


@pytest.fixture(scope="module")
def plans() -> list[Plan]:
    return [plan_episode(UNSEEN_SEED + seed, 6) for seed in range(8)]


def shots_of(plans: list[Plan], *names: str) -> list[tuple[Plan, Shot]]:
    return [(plan, shot) for plan in plans for shot in plan.shots if set(names) & set(shot.trouble)]


def test_a_seed_is_a_plan() -> None:
    assert plan_episode(5, 1.0) == plan_episode(5, 1.0)
    assert plan_episode(5, 1.0) != plan_episode(6, 1.0)
    assert plan_episode(5, 1.0).cast != plan_episode(UNSEEN_SEED + 5, 1.0).cast


@pytest.mark.parametrize("minutes", [0.0001, 0.02, 0.05, 0.1, 0.37, 1.0])
def test_shots_follow_each_other_to_the_end(minutes: float) -> None:
    for seed in range(5):
        plan = plan_episode(seed, minutes)
        assert plan.frames == max(1, round(minutes * 60 * FPS))
        assert [shot.start for shot in plan.shots] == [0, *(shot.end for shot in plan.shots[:-1])]
        assert all(SHORTEST <= shot.frames <= 20 * FPS for shot in plan.shots[:-1])


def test_every_trouble_comes_and_half_of_the_time_is_good(plans: list[Plan]) -> None:
    counts = Counter(name for plan in plans for shot in plan.shots for name in shot.trouble)
    assert set(counts) == set(SPOILS)
    assert min(counts.values()) >= 4
    for plan in plans:
        good = sum(shot.frames for shot in plan.shots if shot.good)
        assert 0.42 < good / plan.frames < 0.62
    for shot in (shot for plan in plans for shot in plan.shots):
        assert shot.good == (not any(SPOILS[name] for name in shot.trouble))


def test_in_good_shots_one_or_two_people_talk_one_after_another(plans: list[Plan]) -> None:
    for shot in (shot for plan in plans for shot in plan.shots if shot.good):
        assert shot.move is None
        assert 1 <= len(shot.seats) <= 2
        assert not any(seat.path or seat.turn for seat in shot.seats)
        there = {seat.member for seat in shot.seats}
        assert all(line.speaker == line.mouth and line.mouth in there and not line.dubbed for line in shot.lines)
        ends = [line.start / FPS + line.seconds[1] for line in shot.lines]
        assert all(line.start / FPS >= end for line, end in zip(shot.lines[1:], ends, strict=False))
        assert shot.lines[0].start >= MARGIN
        assert ends[-1] <= (shot.frames - MARGIN) / FPS + 1e-6
        assert sum(line.seconds[0] for line in shot.lines) >= 2.0


def test_troubles_are_what_they_are_called(plans: list[Plan]) -> None:
    for _, shot in shots_of(plans, "offscreen"):
        there = {seat.member for seat in shot.seats}
        assert any(line.mouth is None and line.speaker not in there for line in shot.lines)
    for _, shot in shots_of(plans, "dubbing"):
        assert all(line.dubbed and line.speaker != line.mouth for line in shot.lines)
    for _, shot in shots_of(plans, "overlap"):
        first, second = shot.lines
        assert first.speaker != second.speaker
        assert first.start / FPS + first.seconds[0] - second.start / FPS > 0.5
    for _, shot in shots_of(plans, "silent", "nobody"):
        assert not shot.lines or "offscreen" in shot.trouble
    for _, shot in shots_of(plans, "delay"):
        assert 2 <= abs(shot.delay) <= 8
    for plan, shot in shots_of(plans, "duplicate"):
        assert shot.repeats is not None
        assert plan.shots[shot.repeats].good
        assert plan.shots[shot.repeats].lines == shot.lines
    for plan, shot in shots_of(plans, "swapped_seats"):
        before = plan.shots[plan.shots.index(shot) - 1]
        assert [seat.member for seat in before.seats] == [seat.member for seat in reversed(shot.seats)]
    for plan, shot in shots_of(plans, "jump_cut"):
        before = plan.shots[plan.shots.index(shot) - 1]
        assert (before.room, before.seats[0].member) == (shot.room, shot.seats[0].member)
        assert before.seats != shot.seats
    for plan, shot in shots_of(plans, "same_place"):
        before = plan.shots[plan.shots.index(shot) - 1]
        assert (before.view, before.seats[0].x) == (shot.view, shot.seats[0].x)
        assert before.seats[0].member != shot.seats[0].member


def test_voices_of_a_cast_differ(plans: list[Plan]) -> None:
    for plan in plans:
        assert 4 <= len(plan.cast) <= 8
        names = [member.voice.name.partition("+")[2] for member in plan.cast]
        assert len(set(names)) == len(names)
        for gender in ("male", "female"):
            pitches = sorted(member.voice.pitch for member in plan.cast if member.gender == gender)
            assert all(np.diff(pitches) >= 4)
