"""What the stages measure: each number's name in words, its unit, and the setting it is held against."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anytalker.curation.config import CurationConfig

STAGES = (
    "footage",
    "shots",
    "borders",
    "camera",
    "faces",
    "speakers",
    "clips",
    "sync",
    "text",
    "sound",
    "duplicates",
)
"""In the order in which they see a stretch of footage."""


@dataclass(frozen=True)
class Measure:
    """A number that a stage measures.

    Attributes:
        label: its name in words.
        unit: follows the number, with its space.
        setting: (section, key) of the configuration that it is held against; None: there is none.
        least: whether that setting is the least that is kept, else the most.
    """

    label: str
    unit: str = ""
    setting: tuple[str, str] | None = None
    least: bool = True


MEASURES: Mapping[str, Measure] = {
    "camera.shift": Measure("shift of the picture", " of its width a second"),
    "camera.zoom": Measure("zoom", " a second"),
    "camera.moving": Measure("whether it moves"),
    "faces.people": Measure("people", "", ("faces", "people")),
    "faces.presence": Measure("share of frames with everybody", "", ("faces", "presence")),
    "faces.height": Measure("smallest face", " pixels high", ("faces", "min_pixels")),
    "faces.share": Measure("smallest face", " of the picture's height", ("faces", "min_share")),
    "faces.sharpness": Measure("sharpness of the most blurred face", "", ("faces", "min_sharpness")),
    "clips.speech": Measure("share with speech", "", ("speech", "min_share")),
    "speakers.confidence": Measure("agreement of a voice with the lips it fits best", ""),
    "speakers.delay": Measure("delay of the sound", " frames", ("sync", "max_delay"), least=False),
    "sync.confidence": Measure("agreement of lips and voice"),
    "sync.shot": Measure("agreement of lips and voice in the shot", "", ("sync", "min_confidence")),
    "sync.likeness": Measure("agreement over that of the rest of the shot", "", ("sync", "min_likeness")),
    "sync.unheard": Measure("lips that move while another is heard", " s", ("sync", "max_unheard"), least=False),
    "text.covered": Measure("share of frames with text over a mouth", "", ("text", "max_share"), least=False),
    "sound.ratio": Measure("speech over what is heard in pauses", " dB", ("sound", "min_ratio")),
    "sound.quality": Measure("quality of the sound by DNSMOS", " of 5", ("sound", "min_quality")),
}


def measure_of(name: str) -> Measure:
    """What is known of a number by its "stage.name"; of one that no default stage measures, its name alone."""
    plain, person = without_person(name)
    found = MEASURES.get(plain) or Measure(plain.partition(".")[2].replace("_", " ") or plain)
    return found if person is None else replace(found, label=f"{found.label}, person {person + 1}")


def without_person(name: str) -> tuple[str, int | None]:
    """A number's name and the index of the person that it is of, such as 1 for "sync.confidence_1"; None: of all."""
    found = re.fullmatch(r"(.+)_(\d+)", name)
    return (found[1], int(found[2])) if found else (name, None)


def stage_order(stages: Iterable[str]) -> list[str]:
    """The default stages that are among these, in their order, and then all others by name."""
    found = set(stages)
    return [name for name in STAGES if name in found] + sorted(found.difference(STAGES))


def threshold(name: str, config: CurationConfig) -> Any:
    """The setting that a number is held against; None if there is none, or the stage's own default holds."""
    setting = measure_of(name).setting
    return None if setting is None else getattr(getattr(config, setting[0]), setting[1], None)


def passes(name: str, value: float, config: CurationConfig) -> bool | None:
    """Whether a number is within its threshold; None if it is held against none."""
    limit = threshold(name, config)
    if limit is None:
        return None
    if isinstance(limit, list):
        return round(value) in limit
    return value >= limit if measure_of(name).least else abs(value) <= limit


def number(value: float) -> str:
    """A number with as many digits as matter."""
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e6 else f"{value:.4g}"


def judgement(name: str, value: float, config: CurationConfig) -> str:
    """A number beside its threshold in words, such as "31 pixels high, at least 48 wanted: too low"."""
    measure, limit, fits = measure_of(name), threshold(name, config), passes(name, value, config)
    said = f"{number(value)}{measure.unit}"
    if fits is None:
        return said
    if isinstance(limit, list):
        return f"{said}, {' or '.join(map(number, limit))} wanted: {'ok' if fits else 'not among them'}"
    bound, miss = ("at least", "too low") if measure.least else ("at most", "too high")
    return f"{said}, {bound} {number(limit)} wanted: {'ok' if fits else miss}"


def read_config(folder: Path) -> CurationConfig:
    """The settings that a dataset was made with; the defaults where they can't be read."""
    try:
        values = json.loads((folder / "curation.json").read_text(encoding="utf-8"))
        return CurationConfig.model_validate(values["config"])
    except (OSError, ValueError, KeyError, TypeError):
        return CurationConfig()
