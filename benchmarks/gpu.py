"""Everything that only a GPU can say, in at most eight minutes of one, the most worth knowing first.

    python benchmarks/gpu.py                                  # all parts, into gpu.jsonl, and a table
    python benchmarks/gpu.py --parts step-14b vae --minutes 3
    python benchmarks/gpu.py --table gpu.jsonl                # the table of an earlier run
    python benchmarks/gpu.py --small --together               # small models, to try the script without a GPU

Models have the released shapes and random weights: 832×480, 81 frames. Every part runs in a process of its own and
saves a row as soon as it is measured, so that nothing is lost when time or memory runs out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

Part = Callable[[Any, str], Iterator[dict[str, Any]]]


def _ceilings(scale: Any, device: str) -> Iterator[dict[str, Any]]:
    from gpu_parts.steps import ceilings

    return ceilings(device)


def _steps(name: str, brief: bool) -> Part:
    def run(scale: Any, device: str) -> Iterator[dict[str, Any]]:
        from gpu_parts.steps import measure_steps

        return measure_steps(name, scale, device, brief)

    return run


def _video(name: str, memory: Any, weights: Any, blocks: int | None = None) -> Part:
    def run(scale: Any, device: str) -> Iterator[dict[str, Any]]:
        from gpu_parts.videos import measure_video

        return measure_video(name, memory, weights, blocks, scale, device)

    return run


def _training(name: str, lora: bool) -> Part:
    def run(scale: Any, device: str) -> Iterator[dict[str, Any]]:
        from gpu_parts.training import measure_training

        return measure_training(name, lora, scale, device)

    return run


def _autoencoder(scale: Any, device: str) -> Iterator[dict[str, Any]]:
    from gpu_parts.autoencoder import measure_autoencoder

    return measure_autoencoder(scale, device)


def _denoising(name: str) -> Part:
    def run(scale: Any, device: str) -> Iterator[dict[str, Any]]:
        from gpu_parts.changes import measure_denoising

        return measure_denoising(name, scale, device)

    return run


def _writing(scale: Any, device: str) -> Iterator[dict[str, Any]]:
    from gpu_parts.changes import measure_writing

    return measure_writing(scale, device)


def _miniature(scale: Any, device: str) -> Iterator[dict[str, Any]]:
    from gpu_parts.miniature import measure_miniature

    return measure_miniature(scale, device)


PARTS: dict[str, Part] = {
    "ceilings": _ceilings,
    "step-1.3b": _steps("1.3b", brief=False),
    "step-14b": _steps("14b", brief=True),
    "changes-1.3b": _denoising("1.3b"),
    "writing": _writing,
    "video-1.3b-high": _video("1.3b", "high", "full"),
    "vae": _autoencoder,
    "video-14b-low": _video("14b", "low", "full", 10),
    "training-1.3b": _training("1.3b", lora=False),
    "training-14b-lora": _training("14b", lora=True),
    "video-14b-high": _video("14b", "high", "full"),
    "video-1.3b-low": _video("1.3b", "low", "full"),
    "video-1.3b-balanced": _video("1.3b", "balanced", "full"),
    "video-14b-balanced": _video("14b", "balanced", "full", 10),
    "video-14b-low-float8": _video("14b", "low", "float8", 10),
    "changes-14b": _denoising("14b"),
    "miniature": _miniature,
}


def measure(name: str, small: bool, output: Path) -> None:
    """Measure one part here, and append its rows to the file as they come."""
    import torch
    from gpu_parts.scale import SMALL, TRUE

    device = "cuda" if torch.cuda.is_available() else "cpu"
    card = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    for row in PARTS[name](SMALL if small else TRUE, device):
        line = {"part": name, "device": card, "torch": torch.__version__} | row
        with output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print("  " + "  ".join(f"{key} {_text(value)}" for key, value in row.items()), flush=True)


class Measurement:
    """The same in a process of its own, which loads its libraries while the part before it is still measured.

    Args:
        name: of the part.
        small: small models.
        output: file of the rows.
    """

    def __init__(self, name: str, small: bool, output: Path) -> None:
        self.name, self.output = name, output
        command = [sys.executable, __file__, "--only", name, "--output", str(output)] + ["--small"] * small
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, seconds: float) -> None:
        """Begin, and take at most so many seconds; why it failed becomes a row."""
        try:
            _, said = self.process.communicate("begin\n", timeout=seconds)
            reason = (said.strip().splitlines() or ["no message"])[-1] if self.process.returncode else None
        except subprocess.TimeoutExpired:
            self.stop()
            reason = f"stopped after {seconds:.0f} s"
        if reason:
            with self.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"part": self.name, "not measured": reason}) + "\n")
            print(f"  not measured: {reason}", flush=True)

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()


def measure_apart(names: Sequence[str], small: bool, output: Path, minutes: float) -> None:
    """Measure parts one after another, each in a process of its own, for so many minutes in all."""
    end = time.monotonic() + 60 * minutes
    following = Measurement(names[0], small, output)
    for number, name in enumerate(names, start=1):
        current = following
        if number < len(names):
            following = Measurement(names[number], small, output)
        left = end - time.monotonic()
        if left > 5:
            print(f"{name} ({left:.0f} s left)", flush=True)
            current.run(left)
        else:
            print(f"{name}: no time left", flush=True)
            current.stop()


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Markdown, a table a kind of part."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        kind = row["part"].split("-")[0]
        kinds.setdefault(kind if kind in ("video", "training") else row["part"], []).append(row)
    lines = []
    for kind, members in kinds.items():
        hidden = ("part", "torch", "device")
        columns = list(dict.fromkeys(key for row in members for key in row if key not in hidden))
        places = sorted({f"{row['device']}, torch {row['torch']}" for row in members if "device" in row})
        lines += [
            f"\n**{kind}** ({'; '.join(places)})\n",
            "| " + " | ".join(columns) + " |",
            "|---" * len(columns) + "|",
        ]
        lines += ["| " + " | ".join(_text(row.get(column, "")) for column in columns) + " |" for row in members]
    return "\n".join(lines)


def _text(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1e}" if 0 < abs(value) < 0.001 else f"{value:.4g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--minutes", type=float, default=8.0, help="no part begins or goes on after that")
    parser.add_argument("--output", type=Path, default=Path("gpu.jsonl"))
    parser.add_argument("--small", action="store_true", help="small models")
    parser.add_argument("--together", action="store_true", help="all parts in this process")
    parser.add_argument("--table", type=Path, help="print the table of a file of an earlier run, and measure nothing")
    parser.add_argument("--only", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.only:
        import gpu_parts.training
        import gpu_parts.videos  # noqa: F401 (all that is slow to load)

        sys.stdin.readline()
        measure(options.only, options.small, options.output)
        return
    if options.table is None:
        options.output.write_text("", encoding="utf-8")
        if options.together:
            for name in options.parts:
                print(name, flush=True)
                measure(name, options.small, options.output)
        else:
            measure_apart(options.parts, options.small, options.output, options.minutes)
    lines = (options.table or options.output).read_text(encoding="utf-8").splitlines()
    print(table(map(json.loads, lines)))


if __name__ == "__main__":
    main()
