"""The InteractiveEyes benchmark: its pictures and voices become videos, which are then scored like any others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anytalker.errors import AnyTalkerError, InputError
from anytalker.evaluation.clips import SPANS_FILE, find_voices, read_spans
from anytalker.files import write_json_atomic

PICTURES = "frames"
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


def generate_benchmark(
    items: list[BenchmarkItem],
    pipeline: Any,
    output: Path,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    **options: Any,
) -> dict[str, str]:
    """Generate the benchmark's videos that are not there yet.

    Args:
        items: the clips.
        pipeline: an `AnyTalkerPipeline`.
        output: folder for the videos and their records.
        seed: of every video.
        on_progress: called as (videos done, videos in all).
        options: passed on to the pipeline, such as `num_inference_steps`.

    Returns:
        Name → reason of the clips that could not be generated; the others go on.
    """
    import torch

    output.mkdir(parents=True, exist_ok=True)
    failed = {}
    for done, item in enumerate(items, start=1):
        target = output / f"{item.name}.mp4"
        if not (target.is_file() and target.with_suffix(".json").is_file()):
            try:
                generator = torch.Generator().manual_seed(seed)
                video = pipeline(item.picture, item.voices, generator=generator, **options)
                video.save(target)
                write_json_atomic(target.with_suffix(".json"), video.record(seed).model_dump())
            except AnyTalkerError as error:
                failed[item.name] = str(error)
        on_progress(done, len(items))
    return failed
