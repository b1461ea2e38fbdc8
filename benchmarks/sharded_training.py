"""Sharded training of a small model of the 14B's layout: memory a process, losses, and how long failures take to end.

    python benchmarks/sharded_training.py work
    python benchmarks/sharded_training.py work --failures

Memory is the peak of anonymous pages of a process (what it needs; the page cache of the files it reads is the
system's), less that of the same run with 4 blocks in place of `--blocks`. So what does not depend on the model's size
(Python, the libraries) cancels, and so does what FSDP gathers of a block at a time; what is left is the share that the
process holds of the other blocks' weights, gradients, optimizer and averages, from loading to the second step; and,
apart, with the copies while checkpoints are written. While the finished model is written the main process holds a file
of it at a time, 1 GiB or less.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from anytalker import AnyTalkerPipeline
from anytalker.data.shards import ShardWriter
from anytalker.errors import InputError
from anytalker.models.transformer import AnyTalkerTransformer3DModel
from anytalker.training.config import TrainingConfig

FEW = 4
STEPS = 4


def make_model(folder: Path, blocks: int, width: int) -> Path:
    """The miniature with a transformer of layout B, whose feed-forward is as much wider as the 14B's."""
    target = folder / f"model-{blocks}"
    if target.exists():
        return target
    pipeline = AnyTalkerPipeline.from_pretrained("tiny")
    given = pipeline.transformer.config
    same = ("text_dim", "text_len", "image_dim", "audio_window", "audio_blocks", "audio_channels", "audio_tokens")
    torch.manual_seed(0)
    transformer = AnyTalkerTransformer3DModel(
        num_attention_heads=width // 64,
        attention_head_dim=64,
        ffn_dim=27 * width // 10,
        num_layers=blocks,
        audio_face_layout="B",
        audio_dim=64,
        audio_hidden_dim=64,
        **{name: given[name] for name in same},
    )
    settings = pipeline.settings
    AnyTalkerPipeline(**pipeline.components | {"transformer": transformer}, settings=settings).save_pretrained(target)
    return target


def make_shards(folder: Path, model: Path) -> Path:
    """Clips of noise."""
    target = folder / "shards"
    if target.exists():
        return target
    pipeline = AnyTalkerPipeline.from_pretrained(model)
    features, size = pipeline.audio_features, pipeline.settings.image_size
    with ShardWriter(target, 4) as writer:
        for number in range(16):
            generator = torch.Generator().manual_seed(number)
            tensors = {
                "latents": torch.randn(16, 4, 12, 12, generator=generator).half(),
                "condition": torch.randn(16, 1, 12, 12, generator=generator).half(),
                "audio": torch.randn(1, 13, features.blocks, features.channels, generator=generator).half(),
                "pictures": torch.randn(2, 3, size, size, generator=generator).half(),
                "voices": torch.zeros(1, 9000, dtype=torch.int16),
                "boxes": torch.tensor([[24.0, 24, 48, 48]]),
            }
            writer.write(f"{number:08d}", {"fps": 24.0}, tensors)
    return target


def make_config(folder: Path, model: Path, output: str, **changes: Any) -> Path:
    """A run's configuration as JSON."""
    values = {
        "output": folder / output,
        "model": model,
        "data": {"single": [make_shards(folder, model)], "window": 2, "shuffle": 4, "workers": 0},
        "batches": {"join": [1]},
        "steps": STEPS,
        "groups": 4,
        "save_every": 2,
        "gradient_checkpointing": True,
        "fsdp": True,
    }
    path = folder / f"{output}.json"
    path.write_text(TrainingConfig.model_validate(values | changes).model_dump_json())
    return path


def start(count: int, launcher: str, *arguments: str) -> list[subprocess.Popen[str]]:
    """This script in that many processes, by itself or through torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    common |= {"MALLOC_MMAP_THRESHOLD_": "16384", "MALLOC_ARENA_MAX": "1"}  # so that what is freed is given back
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    script = [__file__, "--child", *arguments]
    if launcher == "torchrun":
        run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), "--master-port", port]
        return [subprocess.Popen([*run, *script], env=common, **pipes)]
    common |= {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        subprocess.Popen([sys.executable, *script], env=common | {"RANK": str(i), "LOCAL_RANK": str(i)}, **pipes)
        for i in range(count)
    ]


def child(config: Path, answer: str, trouble: str) -> int:
    """One process: train, and leave behind what it took; or get into trouble."""
    from anytalker.failures import explain
    from anytalker.training.trainer import Trainer

    answer += os.environ["RANK"]
    try:
        with peak_memory() as peak:
            runner = Trainer(TrainingConfig.model_validate_json(config.read_text()), lambda line: None)
            if trouble:
                get_into(trouble, runner, Path(answer))
            training, real = [0], runner.writer.write

            def write(step: int) -> None:
                training[0] = training[0] or peak[0]
                real(step)

            runner.writer.write = write
            losses = runner._train()
        if not trouble:
            with peak_memory() as writing:
                runner.export()
            peaks = {"training": training[0], "saving": peak[0], "export": writing[0]}
            Path(answer).write_text(json.dumps({"losses": losses} | peaks))
        runner.watch.close()
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        print(f"Error: {explain(error)}", file=sys.stderr)
        return 1
    return 0


def get_into(trouble: str, runner: Any, answer: Path) -> None:
    """Let the process of a rank fail in its third step: "killed:1", "damaged:0", "memory:1", "bug:1"."""
    kind, _, rank = trouble.partition(":")
    real = runner._train_step

    def step(*arguments: Any) -> float:
        if runner.step == 2 and runner.watch.rank == int(rank):
            answer.write_text(json.dumps(time.time()))
            if kind == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == "damaged":
                raise InputError("The shard clips-000007.tar is damaged.")
            raise torch.OutOfMemoryError("out of memory") if kind == "memory" else ZeroDivisionError("a bug")
        return real(*arguments)

    runner._train_step = guarded(runner, step)


def guarded(runner: Any, step: Any) -> Any:
    """A step whose errors are told to the others, as `Trainer.run` does."""

    def run(*arguments: Any) -> float:
        with runner.watch.guard():
            return step(*arguments)

    return run


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """The largest number of bytes in anonymous pages of this process meanwhile."""
    peak, done = [0], threading.Event()

    def look() -> None:
        while not done.is_set():
            with open("/proc/self/status", encoding="ascii") as file:
                line = next(line for line in file if line.startswith("RssAnon"))
            peak[0] = max(peak[0], int(line.split()[1]) * 1024)
            done.wait(0.01)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def measure(folder: Path, blocks: int, width: int, count: int, precision: str) -> list[dict[str, Any]]:
    """What each process of a run has to say."""
    name = f"run-{blocks}-{count}-{precision}"
    shutil.rmtree(folder / name, ignore_errors=True)  # else it would go on
    config = make_config(folder, make_model(folder, blocks, width), name, precision=precision)
    for process in (processes := start(count, "", str(config), str(folder / f"{name}-rank"), "")):
        _, errors = process.communicate()
        if process.returncode:
            sys.exit(errors[-3000:])
    return [json.loads((folder / f"{name}-rank{rank}").read_text()) for rank in range(len(processes))]


def memory(folder: Path, blocks: int, width: int, counts: list[int], precisions: list[str]) -> None:
    """The table of memory and losses."""
    weights = sum(file.stat().st_size for file in (make_model(folder, blocks, width) / "transformer").iterdir())
    print(f"{blocks} blocks, {weights / 2**20:.0f} MiB of weights in float32\n")
    print(
        "| precision | processes | training, MiB each | of an even share | saving, MiB each | of an even share "
        "| export, MiB | largest Δ of losses |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for precision in precisions:
        alone: list[float] = []
        whole: dict[str, float] = {}
        for count in counts:
            few = measure(folder, FEW, width, count, precision)
            many = measure(folder, blocks, width, count, precision)
            cells = []
            for name in ("training", "saving", "export"):
                shares = [(one[name] - two[name]) / 2**20 for one, two in zip(many, few, strict=True)]
                whole.setdefault(name, shares[0] * count)
                cells.append(" ".join(f"{share:.0f}" for share in shares))
                cells.append(f"{max(shares) / (whole[name] / count):.2f}")
            losses = many[0]["losses"]
            alone = alone or losses
            apart = max(abs(a / b - 1) for a, b in zip(losses, alone, strict=True))
            print(f"| {precision} | {count} | {' | '.join(cells[:5])} | {apart:.1e} |", flush=True)


def failures(folder: Path, width: int) -> None:
    """The table of what ends how."""
    model = make_model(folder, FEW, width)
    print("| launcher | trouble | seconds until all have ended | last words of the others |")
    print("|---|---|---|---|")
    for launcher in ("", "torchrun"):
        for trouble in ("killed:1", "killed:0", "damaged:1", "damaged:0", "memory:1", "bug:1"):
            name = f"fail-{launcher}-{trouble.replace(':', '-')}"
            shutil.rmtree(folder / name, ignore_errors=True)
            config = make_config(folder, model, name, steps=200, save_every=200)
            words = set()
            for process in start(2, launcher, str(config), str(folder / f"{name}-rank"), trouble):
                _, errors = process.communicate()
                wanted = ("Error:",) if not launcher else ("Error:", "error_file", "exitcode", "traceback :")
                words |= {line.strip() for line in errors.splitlines() if line.strip().startswith(wanted)}
            ended = time.time()
            began = json.loads((folder / f"{name}-rank{trouble[-1]}").read_text())
            print(
                f"| {launcher or 'none'} | {trouble} | {ended - began:.1f} | {' · '.join(sorted(words))} |", flush=True
            )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for models and runs; some GB")
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--failures", action="store_true", help="how failing processes end, in place of memory")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.failures:
        failures(options.folder.resolve(), options.width)
    else:
        memory(options.folder.resolve(), options.blocks, options.width, options.processes, options.precisions)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        sys.exit(child(Path(sys.argv[2]), sys.argv[3], sys.argv[4]))
    main()
