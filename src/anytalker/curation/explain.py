"""Why a clip, or a moment of footage, is in a dataset or not: each number that was measured against its threshold."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anytalker.curation.config import CurationConfig
from anytalker.curation.export import KeptClip
from anytalker.curation.footage import FPS
from anytalker.curation.measures import judgement, measure_of, number, read_config, stage_order
from anytalker.curation.piece import Dropped, Source
from anytalker.data.records import ClipRecord
from anytalker.errors import InputError

_MARK = "curation.json"
_RECORDS = ("single.jsonl", "multi.jsonl")
_NAME = re.compile(r"-(\d{7,})-(\d{7,})$")


@dataclass(frozen=True)
class _Heard:
    """What the first look at a file found: seconds of its cuts, (voice, start, end) of its turns, overlaps."""

    cuts: Sequence[float] = ()
    turns: Sequence[tuple[int, float, float]] = ()
    overlaps: Sequence[tuple[float, float]] = ()


def explain_clip(clip: str, dataset: Path | None = None) -> list[str]:
    """Lines that say why a clip or a moment was kept or dropped.

    Args:
        clip: the name of a kept clip, the path of its video, or FOOTAGE@SECONDS: a file's path or name, and a moment
            of it in seconds or h:mm:ss.
        dataset: the dataset's folder; None: the one that the clip's path leads into, or the current folder.

    Raises:
        InputError: if there is no such dataset, clip, file or moment; with the names that are nearest.
    """
    folder = _dataset_of(clip, dataset)
    config = read_config(folder)
    file, at, moment = clip.rpartition("@")
    if at and re.fullmatch(r"[\d:.]+", moment):
        return _moment(_footage_named(file, folder), _seconds(moment), folder, config)
    name = Path(clip).name.removesuffix(".mp4")
    names = []
    for line in _lines(folder / "clips.jsonl"):
        if line["name"] == name:
            return _kept(KeptClip.model_validate(line), folder, config)
        names.append(line["name"])
    if (span := _NAME.search(name)) and (path := _path_of(name[: span.start()], folder)):
        start, end = (int(frame) / FPS for frame in span.groups())
        return [f"There is no clip {name} in the dataset.", *_stretch(path, start, end, folder, config)]
    raise InputError(f"{folder} holds no clip {name}.{_nearest(name, names)} A moment of footage is FILE@SECONDS.")


def _dataset_of(clip: str, dataset: Path | None) -> Path:
    if dataset is not None:
        if not (dataset / _MARK).is_file():
            raise InputError(f"{dataset} is no dataset: it holds no {_MARK}. Give the folder that curate wrote to.")
        return dataset
    for folder in (*Path(clip).resolve().parents, Path.cwd()):
        if (folder / _MARK).is_file():
            return folder
    raise InputError(f"It is not known which dataset {clip} belongs to. Give its folder with --dataset.")


def _seconds(moment: str) -> float:
    try:
        seconds = 0.0
        for part in moment.split(":"):
            seconds = 60 * seconds + float(part)
    except ValueError as error:
        raise InputError(f"{moment} is no moment; give seconds, such as 83.5, or h:mm:ss, such as 1:23.5.") from error
    return seconds


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON lines file, one after another; none if it is missing."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise InputError(f"{path}, line {number} is not JSON. Run the curation again.") from error


def _footage_named(file: str, folder: Path) -> str:
    """The path of a file of footage as the dataset has it, by its path, its name, or its name without extension."""
    paths = [line["path"] for line in _lines(folder / "cuts.jsonl")]
    here = str(Path(file).resolve())
    ways = (
        [path for path in paths if path in (file, here)],
        [path for path in paths if Path(path).name == file],
        [path for path in paths if Path(path).stem == file],
    )
    found = next(filter(None, ways), [])
    if len(found) > 1:
        raise InputError(f"{len(found)} files are called {file}. Give the path: {' or '.join(found[:3])}.")
    if found:
        return found[0]
    raise InputError(f"{folder} was made of no file {file}.{_nearest(Path(file).name, [Path(p).name for p in paths])}")


def _path_of(prefix: str, folder: Path) -> str | None:
    """The file of footage whose clips' names begin like this."""
    from anytalker.curation.work import FileWork

    for line in _lines(folder / "cuts.jsonl"):
        if FileWork(Path(line["path"]), folder, CurationConfig()).prefix == prefix:
            return str(line["path"])
    return None


def _nearest(name: str, names: Sequence[str]) -> str:
    alike = difflib.get_close_matches(name, names[:100_000], 3, 0.3) or list(names[:3])
    return f" The nearest: {', '.join(alike)}." if alike else ""


def _moment(path: str, seconds: float, folder: Path, config: CurationConfig) -> list[str]:
    """Everything that became of a moment of a file."""
    lines = _stretch(path, seconds, seconds, folder, config)
    if not lines:
        ends = [line["source"]["end"] for line in _found(path, folder)]
        raise InputError(
            f"Nothing is known of {path} at {seconds:g} s; what is known ends at {max(ends, default=0):g} s."
        )
    return lines


def _stretch(path: str, start: float, end: float, folder: Path, config: CurationConfig) -> list[str]:
    """Everything that became of a stretch of a file."""
    lines: list[str] = []
    for line in _found(path, folder):
        if not _covers(line["source"]["start"], line["source"]["end"], start, end):
            continue
        if "stage" in line:
            lines += _dropped(Dropped.model_validate(line), folder, config)
        else:
            lines += _kept(KeptClip.model_validate(line), folder, config)
    return lines


def _found(path: str, folder: Path) -> Iterator[dict[str, Any]]:
    """All that was kept and dropped of a file."""
    for name in ("clips.jsonl", "dropped.jsonl"):
        yield from (line for line in _lines(folder / name) if line["source"]["path"] == path)


def _covers(first: float, last: float, start: float, end: float) -> bool:
    """Whether a stretch has to do with another, or with a moment; one of no length stands for all that follows."""
    if first == last:
        return start >= first
    return first <= start < last if start == end else first < end and start < last


def _kept(clip: KeptClip, folder: Path, config: CurationConfig) -> list[str]:
    record = _record_of(clip, folder)
    heard = _heard(clip.source.path, folder)
    lines = [f"{clip.name} was kept: {folder / clip.video_path}", *_where(clip.source, heard)]
    lines += _measured(clip.numbers, config)
    for index, person in enumerate(clip.persons):
        known = record.persons[index].identity if record else None
        voice = "silent" if person.voice is None else f"voice {person.voice}"
        spans = ", ".join(f"{start:.2f}–{end:.2f}" for start, end in person.speaking)
        said = [f"identity {known}" if known else "", voice, f"speaks at {spans} s of the clip" if spans else ""]
        if person.sync_confidence is not None:
            said.append(f"lips and voice {judgement('sync.confidence', person.sync_confidence, config)}")
        lines.append(f"  person {index + 1} of {len(clip.persons)}: {', '.join(filter(None, said))}")
    if record is not None:
        lines.append(f"  for: {record.split or 'not divided'}")
        lines.append(f"  caption: {record.caption}")
        if record.source is not None:
            rights = f"{record.source.licence or 'none stated'}, consent: {record.source.consent or 'none stated'}"
            lines.append(f"  licence: {rights}")
    return lines


def _dropped(one: Dropped, folder: Path, config: CurationConfig) -> list[str]:
    source = one.source
    if source.end <= source.start:
        return [f"{source.path} from {source.start:.2f} s on was dropped by {one.stage}: {one.reason}"]
    return [
        f"{source.path}, {source.start:.2f} to {source.end:.2f} s, was dropped by {one.stage}: {one.reason}",
        *_where(source, _heard(source.path, folder)),
        *_measured(one.numbers, config),
    ]


def _record_of(clip: KeptClip, folder: Path) -> ClipRecord | None:
    for name in _RECORDS:
        for line in _lines(folder / name):
            if line["video_path"] == clip.video_path:
                return ClipRecord.model_validate(line)
    return None


def _heard(path: str, folder: Path) -> _Heard:
    cuts: list[float] = next((line["cuts"] for line in _lines(folder / "cuts.jsonl") if line["path"] == path), [])
    for line in _lines(folder / "turns.jsonl"):
        if line["path"] == path:
            return _Heard(cuts, line["turns"], line["overlaps"])
    return _Heard(cuts)


def _where(source: Source, heard: _Heard) -> list[str]:
    """The shot that a stretch is in, and whose voices are heard in it."""
    middle = (source.start + source.end) / 2
    before = max((cut for cut in heard.cuts if cut <= middle), default=0.0)
    after = min((cut for cut in heard.cuts if cut > middle), default=None)
    shot = f"{before:.2f} s to {'the end' if after is None else f'{after:.2f} s'}"
    voices = [
        f"{voice} ({max(start, source.start):.2f}–{min(end, source.end):.2f} s)"
        for voice, start, end in heard.turns
        if start < source.end and source.start < end
    ]
    both = [
        f"{max(start, source.start):.2f}–{min(end, source.end):.2f} s"
        for start, end in heard.overlaps
        if start < source.end and source.start < end
    ]
    lines = [
        f"  footage: {source.path}, {source.start:.2f} to {source.end:.2f} s ({source.end - source.start:.2f} s)",
        f"  shot: from {shot}",
    ]
    if heard.turns:
        lines.append(f"  voices: {', '.join(voices) or 'none'}")
        lines.append(f"  several at once: {', '.join(both) or 'never'}")
    return lines


def _measured(numbers: dict[str, float], config: CurationConfig) -> list[str]:
    """A line for each number, in the stages' order."""
    stages = stage_order({name.partition(".")[0] for name in numbers})
    ordered = sorted(numbers, key=lambda name: (stages.index(name.partition(".")[0]), name))
    lines = []
    for name in ordered:
        if name == "failed":
            continue
        stage = name.partition(".")[0]
        lines.append(f"  {stage}: {measure_of(name).label}: {judgement(name, numbers[name], config)}")
    if delay := numbers.get("speakers.delay"):
        lines.append(f"  the sound came {number(abs(delay))} frames {'late' if delay > 0 else 'early'}")
    return lines
