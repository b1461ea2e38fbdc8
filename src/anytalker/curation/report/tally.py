"""How much footage there was, what each stage dropped of it and why, and who is in what was kept."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from anytalker.curation.footage import FPS
from anytalker.curation.measures import stage_order, without_person
from anytalker.curation.piece import Dropped

if TYPE_CHECKING:
    from anytalker.curation.dataset import Dataset

_MOST_REASONS = 12
_OTHER = "other reasons"


@dataclass
class Reason:
    """What was dropped by a stage for one reason: seconds, how many stretches, and these."""

    text: str
    seconds: float = 0.0
    dropped: list[Dropped] = field(default_factory=list)


@dataclass
class Step:
    """A stage: seconds that are left after it, those that it dropped, and its reasons, the largest first."""

    stage: str
    left: float
    seconds: float
    reasons: list[Reason]


@dataclass
class Person:
    """Somebody in the dataset: seconds in which they are seen and speak, clips, files, and where to see the face."""

    identity: str
    split: str
    seconds: float = 0.0
    speaking: float = 0.0
    clips: int = 0
    files: set[str] = field(default_factory=set)
    face: tuple[str, int] = ("", 0)


def seconds_of(one: Dropped) -> float:
    """Length of what was dropped."""
    return max(0.0, one.source.end - one.source.start)


def reason_of(one: Dropped) -> str:
    """The reason without what it says of this stretch alone, such as a name, so that alike ones are counted as one."""
    if one.stage == "duplicates":
        return "nearly the same as another clip"
    if one.stage == "footage":
        return "can't be decoded"
    return re.sub(r"is \d+ frames too", "is too", one.reason)


def funnel(total: float, dropped: Iterable[Dropped]) -> list[Step]:
    """What each stage left of `total` seconds of footage, in the stages' order."""
    found: dict[str, dict[str, Reason]] = defaultdict(dict)
    for one in dropped:
        text = reason_of(one)
        reason = found[one.stage].setdefault(text, Reason(text))
        reason.seconds += seconds_of(one)
        reason.dropped.append(one)
    steps, left = [], total
    for stage in stage_order(set(found)):
        reasons = _few(sorted(found[stage].values(), key=lambda reason: (-reason.seconds, reason.text)))
        seconds = sum(reason.seconds for reason in reasons)
        left -= seconds
        steps.append(Step(stage, left, seconds, reasons))
    return steps


def _few(reasons: list[Reason]) -> list[Reason]:
    if len(reasons) <= _MOST_REASONS:
        return reasons
    rest = Reason(_OTHER)
    for reason in reasons[_MOST_REASONS - 1 :]:
        rest.seconds += reason.seconds
        rest.dropped += reason.dropped
    return [*reasons[: _MOST_REASONS - 1], rest]


def footage_seconds(dataset: Dataset) -> float:
    """Length of all footage that could be decoded."""
    return sum(found.frames for found in dataset.surveys) / FPS


def kept_seconds(dataset: Dataset) -> dict[str, float]:
    """Seconds of clips: in "all", of "one person", of "several people", and by part of the dataset."""
    seconds: dict[str, float] = defaultdict(float)
    for clip in dataset.kept:
        length = clip.n_frames / FPS
        record = dataset.records.get(clip.name)
        names = ["all", "one person" if len(clip.persons) == 1 else "several people"]
        for name in [*names, (record and record.split) or "not divided"]:
            seconds[name] += length
    return dict(seconds)


def people(dataset: Dataset) -> list[Person]:
    """Everybody, who is seen longest first."""
    found: dict[str, Person] = {}
    for clip in dataset.kept:
        record = dataset.records.get(clip.name)
        for index, person in enumerate(clip.persons):
            identity = (record and record.persons[index].identity) or f"{clip.name}#{index}"
            one = found.setdefault(identity, Person(identity, (record and record.split) or "", face=(clip.name, index)))
            one.seconds += clip.n_frames / FPS
            one.speaking += sum(end - start for start, end in person.speaking)
            one.clips += 1
            one.files.add(clip.source.path)
    return sorted(found.values(), key=lambda one: (-one.seconds, one.identity))


def measured(dataset: Dataset) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """All numbers by name, in the stages' order: those of kept clips and those of dropped stretches, float (n,).

    Numbers of single people are put together.
    """
    values: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for side, numbers in ((0, (clip.numbers for clip in dataset.kept)), (1, (one.numbers for one in dataset.dropped))):
        for each in numbers:
            for name, value in each.items():
                if name != "failed" and np.isfinite(value):
                    values[without_person(name)[0]][side].append(value)
    stages = stage_order({name.partition(".")[0] for name in values})
    order = sorted(values, key=lambda name: (stages.index(name.partition(".")[0]), name))
    return {name: (np.array(values[name][0]), np.array(values[name][1])) for name in order}


def spread(count: int, most: int) -> Sequence[int]:
    """Up to `most` of `count` things, evenly spread over them."""
    return range(count) if count <= most else [round(index) for index in np.linspace(0, count - 1, most)]
