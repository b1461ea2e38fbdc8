"""The InteractiveEyes benchmark: its pictures and voices become videos, which are then scored like any others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anytalker.errors import AnyTalkerError, InputError
from anytalker.evaluation.clips import SPANS_FILE, find_voices, read_spans
from anytalker.files import make_folder, write_json_atomic
from anytalker.jobs.job import Job
from anytalker.loading.components import model_folder
from anytalker.media.destination import check_destination, making, record_path

PICTURES = "frames"
MADE_FROM = "made_from"
"""Key of a video's record under which stands what it was made from."""
_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class BenchmarkItem:
    """One clip of the benchmark: its name, the picture, and a recording a person, None for one who only listens."""

    name: str
    picture: Path
    voices: list[Path | None]


def read_benchmark(folder: Path) -> list[BenchmarkItem]:
    """The benchmark's clips, in the authors' layout; those without a picture or voices are left out.

    The layout: frames/NAME.png, audio_PERSON/NAME_PERSON.wav, speaker_duration.json.

    Raises:
        InputError: if the spans are missing, or there is no picture for any of them.
    """
    spoken = read_spans(folder / SPANS_FILE)
    items = []
    for name, people in spoken.people.items():
        pictures = (folder / PICTURES / (name + suffix) for suffix in _PICTURE_SUFFIXES)
        picture = next((path for path in pictures if path.is_file()), None)
        voices = find_voices(name, folder, people)
        if picture is not None and voices is not None:
            items.append(BenchmarkItem(name, picture, voices))
    if not items:
        layout = f"{PICTURES}/NAME.png and audio_PERSON/NAME_PERSON.wav"
        raise InputError(f"{folder} holds no picture with voices; the benchmark has {layout}.")
    return items


def missing_videos(
    items: list[BenchmarkItem], model: str, output: Path, seed: int = 0, **options: Any
) -> list[BenchmarkItem]:
    """The clips whose videos are not there yet.

    Args:
        items: the clips.
        model: name or folder.
        output: folder of the videos and their records.
        seed: of every video.
        options: for the pipeline, as for `generate_benchmark`.

    Raises:
        InputError: if there is no such model, or a video is there that was made by another model, with other options or
            from other files: it would be scored as this model's; or if something else would be overwritten.
    """
    model_folder(model)
    missing = []
    for item in items:
        target = output / f"{item.name}.mp4"
        if not target.exists():
            if output.is_dir():
                check_destination(target, [item.picture, *(voice for voice in item.voices if voice is not None)])
            missing.append(item)
            continue
        found, asked = _read_made_from(target.with_suffix(".json")), _made_from(item, model, seed, options)
        if found.get("fingerprint") != asked["fingerprint"]:
            raise InputError(
                f"{target} {_difference(found, asked)}. Give another --output, or delete the videos in {output} first."
            )
    return missing


def generate_benchmark(
    items: list[BenchmarkItem],
    pipeline: Any,
    model: str,
    output: Path,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    **options: Any,
) -> dict[str, str]:
    """Generate the benchmark's videos that are not there yet.

    Args:
        items: the clips.
        pipeline: an `AnyTalkerPipeline`.
        model: name or folder of the model that the pipeline is.
        output: folder for the videos and their records.
        seed: of every video.
        on_progress: called as (videos done, videos in all).
        options: passed on to the pipeline, such as `num_inference_steps`.

    Returns:
        Name → reason of the clips that could not be generated; the others go on.

    Raises:
        InputError: if videos are there that were made in another way, see `missing_videos`.
    """
    import torch

    missing = missing_videos(items, model, output, seed, **options)
    make_folder(output)
    failed = {}
    for done, item in enumerate(missing, start=len(items) - len(missing) + 1):
        target = output / f"{item.name}.mp4"
        made_from = _made_from(item, model, seed, options)
        try:
            generator = torch.Generator().manual_seed(seed)
            video = pipeline(item.picture, item.voices, generator=generator, **options)
            with making(target):
                # The record first: a video without one would not be known again.
                write_json_atomic(record_path(target), video.record(seed).model_dump() | {MADE_FROM: made_from})
                video.save(target)
        except AnyTalkerError as error:
            failed[item.name] = str(error)
        on_progress(done, len(items))
    return failed


def _made_from(item: BenchmarkItem, model: str, seed: int, options: dict[str, Any]) -> dict[str, Any]:
    """What a clip's video depends on, as JSON: the model, the options, and a fingerprint of them and all files."""
    job = Job.model_validate({"image": item.picture, "audio": item.voices, "seed": seed} | options).within(Path.cwd())
    settings = job.model_dump(mode="json", exclude={"image", "audio"})
    return {"model": model} | settings | {"fingerprint": job.fingerprint(model)}


def _read_made_from(record: Path) -> dict[str, Any]:
    """What a video was made from by its record; {} if that is not known."""
    try:
        return dict(json.loads(record.read_text(encoding="utf-8"))[MADE_FROM])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _difference(found: dict[str, Any], asked: dict[str, Any]) -> str:
    """How a video was made differently from what was asked for; the end of an error message."""
    if not found:
        return "is there, but its record doesn't say what the benchmark made it from"
    other = [name for name in asked if name != "fingerprint" and found.get(name) != asked[name]]
    if not other:
        return "was made from other files: its picture, a voice or the model has been changed or moved since"

    def told(values: dict[str, Any]) -> str:
        shown = {name: "its default" if values.get(name) is None else values[name] for name in other}
        return ", ".join(f"{name} {value}" for name, value in shown.items())

    return f"was made with {told(found)}; asked for is {told(asked)}"
