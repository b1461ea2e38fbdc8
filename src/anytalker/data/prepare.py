"""`anytalker train prepare`: from records of footage to shards of encoded clips."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from anytalker.conventions import Box
from anytalker.data.encoding import ClipEncoder
from anytalker.data.records import ClipRecord
from anytalker.data.shards import ShardWriter
from anytalker.errors import InputError
from anytalker.hashing import short_digest
from anytalker.media.recordings import load_audio
from anytalker.media.video import read_video


@dataclass(frozen=True)
class PrepareSettings:
    """How footage is cut for training.

    Attributes:
        width, height: of a whole frame in pixels, multiples of 32; clips are scaled to cover it and cut at the centre.
        windows: face-centred windows of half the frame to make of each single-person clip, for joining side by side.
        enlarge: largest factor by which such a window is randomly enlarged, at the same shape, before it is scaled
            down again (paper, section 4).
        seed: seed of the enlargement.
        clips_per_shard: samples a tar.
    """

    width: int = 832
    height: int = 480
    windows: int = 1
    enlarge: float = 1.5
    seed: int = 0
    clips_per_shard: int = 50


View = tuple[str, Box, tuple[int, int]]


def views_of(record: ClipRecord, settings: PrepareSettings, rng: np.random.Generator) -> list[View]:
    """The samples of a clip: (folder, crop (x, y, width, height), (width, height) to scale to), in pixels."""
    size = (settings.width, settings.height)
    scale = min(record.width / size[0], record.height / size[1])
    whole = _inside(record.width / 2, record.height / 2, size[0] * scale, size[1] * scale, record)
    views: list[View] = [("whole", whole, size)]
    if len(record.persons) > 1:
        return views
    half = (settings.width // 2, settings.height)
    x, y, width, height = record.persons[0].union_box
    largest = min(record.width / half[0], record.height / half[1])
    for _ in range(settings.windows):
        grown = min(largest, max(scale, 1e-6) * rng.uniform(1, settings.enlarge))
        crop = _inside(x + width / 2, y + height / 2, half[0] * grown, half[1] * grown, record)
        views.append(("windows", crop, half))
    return views


def _inside(center_x: float, center_y: float, width: float, height: float, record: ClipRecord) -> Box:
    width, height = min(width, record.width), min(height, record.height)
    left = float(np.clip(center_x - width / 2, 0, record.width - width))
    top = float(np.clip(center_y - height / 2, 0, record.height - height))
    return (left, top, width, height)


def cut_frames(frames: np.ndarray, crop: Box, size: tuple[int, int]) -> np.ndarray:
    """Cut uint8 frames (T, H, W, 3) to `crop` and scale them to `size` (width, height)."""
    x, y, width, height = crop
    moved = np.array([[size[0] / width, 0, -x * size[0] / width], [0, size[1] / height, -y * size[1] / height]])
    way = cv2.INTER_AREA if width > size[0] else cv2.INTER_CUBIC
    left, top = int(x), int(y)
    if way == cv2.INTER_AREA:
        cut = frames[:, top : top + max(1, round(height)), left : left + max(1, round(width))]
        return np.stack([cv2.resize(frame, size, interpolation=way) for frame in cut])
    return np.stack(
        [cv2.warpAffine(frame, moved, size, flags=way, borderMode=cv2.BORDER_REPLICATE) for frame in frames]
    )


def move_box(box: Box, crop: Box, size: tuple[int, int]) -> Box | None:
    """A face box in the pixels of a cut and scaled frame, or None if most of it was cut away."""
    scale_x, scale_y = size[0] / crop[2], size[1] / crop[3]
    left, top = (box[0] - crop[0]) * scale_x, (box[1] - crop[1]) * scale_y
    right, bottom = left + box[2] * scale_x, top + box[3] * scale_y
    inner = (max(0.0, left), max(0.0, top), min(float(size[0]), right), min(float(size[1]), bottom))
    width, height = inner[2] - inner[0], inner[3] - inner[1]
    if width <= 8 or height <= 8 or width * height < 0.5 * (right - left) * (bottom - top):
        return None
    return (inner[0], inner[1], width, height)


@dataclass
class Report:
    """What became of the records.

    Attributes:
        samples: how many there are of these records.
        windows: those of them for joining, of any records in the folder.
        pauses: of these, how many have a pause.
        others: samples in the folder that are of no record here, and whether they were `pruned`.
        left_out: why clips were left out.
    """

    samples: int
    windows: int
    pauses: int
    others: int
    pruned: bool
    left_out: list[str]


def prepare(
    records: Sequence[ClipRecord],
    encoder: ClipEncoder,
    embed_text: Callable[[str], torch.Tensor],
    folder: Path,
    settings: PrepareSettings,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    prune: bool = False,
) -> Report:
    """Encode clips into `folder`/whole and, from single-person clips, `folder`/windows; continues where it stopped.

    A clip that can't be read, or whose faces are cut away, is left out and named; the others go on. What is there
    already is known by its record, so that clips may be corrected, added and removed from one run to the next.

    Args:
        records: what to encode.
        encoder: of the model that will be trained.
        embed_text: caption → (L, channels).
        folder: where the shards go.
        settings: sizes.
        on_progress: called as (clips done, all).
        prune: drop samples of records that are not among these: removed ones, and what corrected ones were before.

    Raises:
        InputError: if no clip at all can be used, or the folder holds shards of other settings.
    """
    if not records:
        raise InputError("There are no records to prepare.")
    about = asdict(settings) | encoder.about | {"keys": "records"}
    single = any(len(record.persons) == 1 for record in records)
    writers = {
        name: ShardWriter(folder / name, settings.clips_per_shard, about)
        for name in ("whole", "windows")
        if name == "whole" or (settings.windows and (single or (folder / name).is_dir()))
    }
    seen, known = 0, set()
    left_out: list[str] = []
    for index, (record, name, rng) in enumerate(_named(records, settings.seed)):
        known.add(name)
        try:
            views = {
                f"{name}-{number}": view for number, view in enumerate(_views(record, settings, rng, left_out.append))
            }
            missing = [(key, view) for key, view in views.items() if key not in writers[view.folder].keys]
            if missing:
                _encode(record, encoder, embed_text, missing, writers)
            seen += len(views)
        except InputError as error:
            left_out.append(str(error))
        on_progress(index + 1, len(records))
    if not seen:
        raise InputError(f"None of the {len(records)} clips can be used. The first: {left_out[0]}")
    others = {name: _strangers(writer.keys, known) for name, writer in writers.items()}
    for name, writer in writers.items():
        if prune:
            writer.drop(others[name])
        writer.close()
    joining = writers.get("windows")
    joined, pauses = (joining.done, joining.tensors["silent_latents"]) if joining else (0, 0)
    return Report(seen, joined, pauses, sum(map(len, others.values())), prune, left_out)


def _named(records: Sequence[ClipRecord], seed: int) -> Iterator[tuple[ClipRecord, str, np.random.Generator]]:
    """Every record with a name that tells it from others, and from its like, and random numbers of its own."""
    alike: Counter[str] = Counter()
    for record in records:
        digest = _digest_of(record)
        alike[digest] += 1
        yield record, f"{digest}-{alike[digest]}", np.random.default_rng([seed, int(digest, 16), alike[digest]])


def _digest_of(record: ClipRecord) -> str:
    """Sixteen digits that tell a record from others; how the way to its files is written doesn't count."""
    persons = [
        person.model_copy(update={"audio_path": person.audio_path and os.path.abspath(person.audio_path)})
        for person in record.persons
    ]
    at_home = record.model_copy(update={"video_path": os.path.abspath(record.video_path), "persons": persons})
    return short_digest(at_home.model_dump_json())


def _strangers(keys: Collection[str], known: Collection[str]) -> set[str]:
    """Keys of samples whose records are not `known`."""
    return {key for key in keys if key.rpartition("-")[0] not in known}


@dataclass(frozen=True)
class _View:
    """A sample to be: the folder that it goes to, what is cut out of the frames, its size, and the faces in it."""

    folder: str
    crop: Box
    size: tuple[int, int]
    boxes: list[Box]


def _views(
    record: ClipRecord, settings: PrepareSettings, rng: np.random.Generator, leave_out: Callable[[str], None]
) -> list[_View]:
    views = []
    for name, crop, size in views_of(record, settings, rng):
        boxes = [move_box(person.union_box, crop, size) for person in record.persons]
        whole = [box for box in boxes if box is not None]
        if len(whole) == len(boxes):
            views.append(_View(name, crop, size, whole))
        else:
            leave_out(f"{record.video_path}: a face is outside of what is left at {size[0]}×{size[1]} ({name}).")
    return views


def _encode(
    record: ClipRecord,
    encoder: ClipEncoder,
    embed_text: Callable[[str], torch.Tensor],
    missing: Sequence[tuple[str, _View]],
    writers: Mapping[str, ShardWriter],
) -> None:
    frames, fps = read_video(record.video_path, record.n_frames)
    if frames.shape[1:3] != (record.height, record.width):
        raise InputError(
            f"{record.video_path} is {frames.shape[2]}×{frames.shape[1]}, but its record says "
            f"{record.width}×{record.height}."
        )
    if abs(float(fps) - record.fps) > 0.05:
        raise InputError(f"{record.video_path} has {float(fps):g} frames a second, but its record says {record.fps:g}.")
    count = (len(frames) - 1) // 4 * 4 + 1
    if count < 5:
        raise InputError(f"{record.video_path} has {len(frames)} frames; a clip needs at least 5.")
    voices = [None if person.audio_path is None else load_audio(person.audio_path) for person in record.persons]
    text = embed_text(record.caption) if record.caption else None
    for key, view in missing:
        cut = cut_frames(frames[:count], view.crop, view.size)
        writers[view.folder].write(key, record.model_dump(), encoder(cut, voices, view.boxes, fps, text))
