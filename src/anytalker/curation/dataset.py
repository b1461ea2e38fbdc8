"""The dataset as a whole: what all files gave, without duplicates, divided by people, as the records of training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anytalker.curation.captions import describe
from anytalker.curation.config import CurationConfig
from anytalker.curation.duplicates import find_duplicates
from anytalker.curation.export import CLIPS, KeptClip
from anytalker.curation.footage import FPS
from anytalker.curation.identities import name_identities, split_people
from anytalker.curation.licences import Rights
from anytalker.curation.piece import Dropped, Source
from anytalker.curation.survey import Survey
from anytalker.curation.work import FOLDER, SOUND, FileWork, ShotResult
from anytalker.data.records import ClipPerson, ClipRecord, ClipSource
from anytalker.files import atomic_path

SINGLE, MULTI, DROPPED = "single.jsonl", "multi.jsonl", "dropped.jsonl"
CUTS, TURNS, CLIPS_FILE = "cuts.jsonl", "turns.jsonl", "clips.jsonl"


@dataclass
class Dataset:
    """What a curation made.

    Attributes:
        surveys: of all files, in their order.
        kept: clips that are in the dataset.
        records: what training reads of them, by name.
        dropped: everything else.
        failed: files, or parts of them, that could not be examined, and why.
    """

    surveys: list[Survey]
    kept: list[KeptClip] = field(default_factory=list)
    records: dict[str, ClipRecord] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def assemble(works: Sequence[FileWork], rights: Mapping[Path, Rights], config: CurationConfig) -> Dataset:
    """Put together what was found in all files; reads the results alone, no footage."""
    dataset = Dataset([work.read_survey() for work in works])
    for work, found in zip(works, dataset.surveys, strict=True):
        if found.problem:
            dataset.failed.append(found.problem)
            source = Source(path=found.path, start=round(found.frames / FPS, 3), end=round(found.frames / FPS, 3))
            dataset.dropped.append(Dropped(source=source, stage="footage", reason=found.problem))
        for part in work.parts(found):
            result = ShotResult.model_validate_json(work.shot_path(part).read_text(encoding="utf-8"))
            dataset.kept += result.kept
            dataset.dropped += result.dropped
            dataset.failed += [one.reason for one in result.dropped if one.numbers.get("failed")]
        dataset.dropped += _between_shots(found)
    _drop_duplicates(dataset, config)
    _name_people(dataset, rights, config)
    return dataset


def _between_shots(found: Survey) -> list[Dropped]:
    """Frames of dissolves, which belong to no shot."""
    edges = [0, *(frame for shot in found.shots for frame in shot), found.frames]
    gaps = [(end, start) for end, start in zip(edges[::2], edges[1::2], strict=True) if start > end]
    sources = [Source(path=found.path, start=start / FPS, end=end / FPS) for start, end in gaps]
    return [Dropped(source=source, stage="shots", reason="a transition between shots") for source in sources]


def _drop_duplicates(dataset: Dataset, config: CurationConfig) -> None:
    twins = find_duplicates(dataset.kept, config.duplicates.max_distance)
    for clip in dataset.kept:
        if clip.name in twins:
            reason = f"nearly the same as {twins[clip.name]}"
            dataset.dropped.append(Dropped(source=clip.source, stage="duplicates", reason=reason, numbers=clip.numbers))
    dataset.kept = [clip for clip in dataset.kept if clip.name not in twins]


def _name_people(dataset: Dataset, rights: Mapping[Path, Rights], config: CurationConfig) -> None:
    voices = {one.path: np.array(one.voices, dtype=float) for one in dataset.surveys if one.voices}
    identities = name_identities(dataset.kept, voices)
    split = split_people(dataset.kept, identities, config.split)
    for clip in dataset.kept:
        known = rights.get(Path(clip.source.path), Rights())
        persons = [
            ClipPerson(
                audio_path=person.audio_path,
                face_boxes=person.face_boxes,
                sync_confidence=person.sync_confidence,
                identity=identities.get((clip.name, index)),
            )
            for index, person in enumerate(clip.persons)
        ]
        dataset.records[clip.name] = ClipRecord(
            video_path=clip.video_path,
            n_frames=clip.n_frames,
            width=clip.width,
            height=clip.height,
            fps=FPS,
            caption=describe(clip, config.caption),
            persons=persons,
            source=ClipSource(**clip.source.model_dump(), licence=known.licence, consent=known.consent),
            split=split[clip.name],
        )


def write_dataset(dataset: Dataset, folder: Path) -> None:
    """Write the records, what was dropped and the cuts; clips that are in no record any more go."""
    chosen = [(len(clip.persons), dataset.records[clip.name]) for clip in dataset.kept]
    _write_lines(folder / SINGLE, [_plain(record) for people, record in chosen if people == 1])
    _write_lines(folder / MULTI, [_plain(record) for people, record in chosen if people > 1])
    _write_lines(folder / CLIPS_FILE, [clip.model_dump(mode="json") for clip in dataset.kept])
    ordered = sorted(dataset.dropped, key=lambda one: (one.source.path, one.source.start, one.stage))
    _write_lines(folder / DROPPED, [one.model_dump(mode="json") for one in ordered])
    _write_lines(folder / CUTS, [{"path": found.path, "cuts": found.cuts} for found in dataset.surveys])
    _write_lines(folder / TURNS, [_heard(found) for found in dataset.surveys])
    _tidy(folder, dataset.kept)


def _heard(found: Survey) -> dict[str, Any]:
    turns = [[turn.speaker, turn.start, turn.end] for turn in found.turns]
    return {"path": found.path, "turns": turns, "overlaps": found.overlaps}


def _tidy(folder: Path, kept: Iterable[KeptClip]) -> None:
    wanted = {clip.video_path for clip in kept} | {one.audio_path for clip in kept for one in clip.persons}
    for path in sorted((folder / CLIPS).glob("*/*")):
        if path.is_file() and path.relative_to(folder).as_posix() not in wanted:
            path.unlink()


def forget_others(works: Sequence[FileWork], folder: Path) -> None:
    """Remove results of earlier settings, or of files that changed, and the sound that is no longer needed."""
    wanted = {work.folder for work in works}
    for path in sorted((folder / FOLDER).iterdir()):
        if path.is_dir() and path not in wanted:
            shutil.rmtree(path, ignore_errors=True)
    for work in works:
        (work.folder / SOUND).unlink(missing_ok=True)


def _plain(record: ClipRecord) -> dict[str, Any]:
    return record.model_dump(mode="json", exclude_none=True)


def _write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
