"""What reading the clips of a training run costs: memory, opening, resuming, and the loader's share of a step.

    python benchmarks/reading.py                                   # made clips: 2,000 against 20,000, in two minutes
    python benchmarks/reading.py --miniature FOLDER --steps 20     # the shipped recipe on drawn clips, in minutes

Made clips are small tensors in shards of 50. Two workers read one epoch of them in batches of 8, and every read is
noted with its worker. Memory is the peak of each process (RSS, Linux), the loader's share the time that a step
waits for its clips. FOLDER gets the drawn clips and the untrained model, and keeps them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import get_worker_info

from anytalker.data.samples import StoredSamples
from anytalker.data.shards import ShardWriter
from anytalker.training.config import TrainingConfig, load_config
from anytalker.training.reader import GroupReader, group_loader

BATCH, WORKERS, PER_SHARD = 8, 2, 50
CONFIG = Path(__file__).parents[1] / "configs" / "miniature-stage1.yaml"


def made_clip(number: int) -> dict[str, torch.Tensor]:
    """Tensors of a small clip that tell its number."""
    return {
        "latents": torch.full((16, 4, 8, 8), number % 1000, dtype=torch.float16),
        "condition": torch.full((16, 1, 8, 8), number % 1000, dtype=torch.float16),
        "audio": torch.zeros(1, 13, 1, 8, dtype=torch.float16),
        "pictures": torch.zeros(2, 3, 16, 16, dtype=torch.float16),
        "boxes": torch.tensor([[16.0, 16, 32, 32]]),
    }


def write_clips(folder: Path, count: int) -> None:
    """Shards of made clips."""
    with ShardWriter(folder, PER_SHARD) as writer:
        for number in range(count):
            writer.write(f"{number:08d}", {}, made_clip(number))


def plain_run(folder: Path, count: int) -> TrainingConfig:
    """A run of one epoch."""
    values: dict[str, Any] = {"output": folder, "model": folder, "steps": count // BATCH, "batch_size": BATCH}
    return TrainingConfig.model_validate(values | {"data": {"single": [folder]}, "batches": {"join": [1]}})


def own_peak() -> float:
    """MB that this process held at most, libraries and pages shared with its parent included."""
    with open("/proc/self/status") as status:
        lines = dict(line.split(":", 1) for line in status)
    return int(lines["VmHWM"].split()[0]) / 1024


def read_epoch(folder: Path, count: int, notes: Path) -> dict[str, float]:
    """Read one epoch, noting what each worker reads and holds."""
    config = plain_run(folder, count)
    real, kept = StoredSamples.sample, {}

    def noted(samples: StoredSamples, place: int) -> dict[str, Any]:
        worker = get_worker_info()
        name = worker.id if worker else "main"
        if name not in kept:
            kept[name] = open(notes / f"{name}.reads", "a", buffering=1)  # noqa: SIM115
            Path("/proc/self/clear_refs").write_text("5")
        kept[name].write(f"{place} {own_peak():.1f}\n")
        return real(samples, place)

    StoredSamples.sample = noted  # type: ignore[method-assign]
    started = time.perf_counter()
    groups = sum(1 for _ in group_loader(GroupReader(config, 5), WORKERS))
    seconds = time.perf_counter() - started
    StoredSamples.sample = real  # type: ignore[method-assign]
    reads: Counter[int] = Counter()
    peaks = []
    for path in sorted(notes.glob("*.reads")):
        lines = [line.split() for line in path.read_text().splitlines()]
        reads.update(int(place) for place, _ in lines)
        peaks.append(max(float(peak) for _, peak in lines))
    return {
        "clips": count,
        "read": len(reads),
        "read twice": sum(times > 1 for times in reads.values()),
        "workers": len(peaks),
        "worker MB": max(peaks),
        "main MB": own_peak(),
        "clips/s": groups * BATCH / seconds,
    }


def resume_midway(folder: Path, count: int) -> dict[str, float]:
    """How long the first batch takes from the start and from nine tenths of an epoch, and whether the rest is equal."""
    config = plain_run(folder, count)
    start = config.steps * 9 // 10
    seconds = []
    for step in (0, start):
        started = time.perf_counter()
        next(iter(group_loader(GroupReader(config, 5, step), WORKERS)))
        seconds.append(time.perf_counter() - started)
    whole = (group for group in group_loader(GroupReader(config, 5), 1) if group.step >= start)
    rest = group_loader(GroupReader(config, 5, start), WORKERS)
    pairs = list(zip(whole, rest, strict=True))
    same = all(torch.equal(one.batch.latents, other.batch.latents) for one, other in pairs)
    return {
        "clips": count,
        "first batch s": seconds[0],
        "resumed s": seconds[1],
        "steps after": len(pairs),
        "equal": float(same),
    }


def open_again(folder: Path, count: int) -> dict[str, float]:
    """Seconds to open a folder for writing: as it is, as an earlier version left it, and where nothing is known."""
    seconds = []
    for forgotten in ([], ["clips-*.json"], ["clips-*.json", "index.json"]):
        for pattern in forgotten:
            for path in folder.glob(pattern):
                path.unlink()
        started = time.perf_counter()
        with ShardWriter(folder, PER_SHARD) as writer:
            assert writer.done == count
        seconds.append(time.perf_counter() - started)
    return {"clips": count, "open s": seconds[0], "earlier version's s": seconds[1], "all read s": seconds[2]}


def draw_clips(folder: Path, clips: int) -> TrainingConfig:
    """The shipped recipe of stage 1 over an untrained model and a few of its clips, without validations."""
    from anytalker.data.encoding import ClipEncoder
    from anytalker.miniature.corpus import CorpusSettings, build_corpus
    from anytalker.miniature.recipe import SETTINGS, make_untrained
    from anytalker.pipelines.pipeline import AnyTalkerPipeline

    shipped = AnyTalkerPipeline.from_pretrained("tiny")
    if not (folder / "untrained" / "anytalker.json").exists():
        make_untrained(shipped.vae).save_pretrained(folder / "untrained")
    encoder = ClipEncoder(shipped.vae, shipped.audio_features, SETTINGS.condition, SETTINGS.image_size)
    build_corpus(folder / "shards", CorpusSettings(clips=clips), encoder)
    shutil.rmtree(folder / "run", ignore_errors=True)
    places = [f"output={folder / 'run'}", f"model={folder / 'untrained'}", f"data.single=[{folder / 'shards'}]"]
    return load_config(CONFIG, [*places, "validation=null", "save_every=1000000"])


def share_of_step(folder: Path, clips: int, steps: int) -> dict[str, float]:
    """How long the shipped recipe's steps take, and how much of that is waiting for clips."""
    from anytalker.training import trainer

    config = draw_clips(folder, clips).model_copy(update={"steps": steps + 2})
    waits: list[float] = []
    real = trainer.group_loader

    def timed(*arguments: Any) -> Any:
        groups = real(*arguments)
        while True:
            started = time.perf_counter()
            try:
                group = next(groups)
            except StopIteration:
                return
            waits.append(time.perf_counter() - started)
            moments.append(time.perf_counter())
            yield group

    moments: list[float] = []
    trainer.group_loader = timed
    trainer.Trainer(config).run()
    whole = moments[-1] - moments[1]
    return {
        "clips": clips,
        "steps": steps,
        "s/step": whole / steps,
        "first wait s": waits[0],
        "waiting s/step": sum(waits[2:]) / steps,
        "share %": 100 * sum(waits[2:]) / whole,
    }


def alone(part: str, *arguments: str) -> dict[str, float]:
    """A measurement in a process of its own, so that none inherits another's memory."""
    command = [sys.executable, __file__, "--part", part, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def table(rows: list[dict[str, float]]) -> None:
    """Rows of one kind, as Markdown."""
    print("\n| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print(
            "| "
            + " | ".join(f"{value:,.0f}" if value == int(value) else f"{value:.3g}" for value in row.values())
            + " |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--miniature", type=Path, help="folder for drawn clips; measure the loader's share of a step")
    parser.add_argument("--drawn", type=int, default=300, help="how many clips are drawn")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--part", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        name, folder, count, *rest = options.part
        work = {"epoch": read_epoch, "resume": resume_midway, "open": open_again, "write": write_clips}[name]
        print(json.dumps(work(Path(folder), int(count), *map(Path, rest))))
    elif options.miniature:
        table([share_of_step(options.miniature, options.drawn, options.steps)])
    else:
        with tempfile.TemporaryDirectory() as folder:
            places = {count: Path(folder) / str(count) for count in options.clips}
            for count, place in places.items():
                alone("write", str(place), str(count))
                (place / "notes").mkdir()
            table([alone("epoch", str(place), str(count), str(place / "notes")) for count, place in places.items()])
            table([alone("resume", str(place), str(count)) for count, place in places.items()])
            table([alone("open", str(place), str(count)) for count, place in places.items()])


if __name__ == "__main__":
    main()
