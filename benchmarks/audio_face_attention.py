"""What extra people cost: Audio-Face Cross Attention dense and sparse, with random weights of true size.

    python benchmarks/audio_face_attention.py                       # what this machine can do in minutes
    python benchmarks/audio_face_attention.py --layouts A B --frames 17 49 81 161 241 --output table.json

For every layout, length and number of people: a block's time, what people add to it, their share of the block, a
denoising step's time and its peak memory beyond the weights. A is the 1.3B, B the 14B, at 480p (30×52 tokens a latent
frame). Keys and values are made once, outside the clock, as in a video. On a GPU a step has all its blocks; on a CPU
`--layers` of them (1 by default), which the table says.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from anytalker.models.audio_face_attention import attend_people_dense, attend_person
from anytalker.models.transformer import AnyTalkerTransformer3DModel, TransformerContext

SIZES: dict[str, dict[str, Any]] = {
    "A": {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
    "B": {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40},
}


class Case:
    """A model on a device and the inputs of one length and number of people."""

    def __init__(self, model: AnyTalkerTransformer3DModel, persons: int, frames: int, options: Any) -> None:
        self.model, self.persons, self.options = model, persons, options
        height, width = options.grid
        place = {"device": options.device, "dtype": options.dtype}
        latent_frames = (frames - 1) // 4 + 1
        masks = torch.zeros(1, persons, latent_frames, height, width, **place)
        for person in range(persons):
            left = person * (width - options.box) // max(1, persons - 1)
            masks[:, person, :, 4 : 4 + options.box, left : left + options.box] = 1
        torch.manual_seed(0)
        self.context: TransformerContext = model.make_context(
            torch.randn(1, 512, 4096, **place),
            torch.randn(1, 257, 1280, **place),
            torch.randn(1, persons, 257, 1280, **place),
            torch.randn(1, persons, frames, 5, 12, 768, **place),
            masks,
        )
        self.hidden_states = torch.randn(1, 36, latent_frames, 2 * height, 2 * width, **place)
        self.timestep = torch.tensor([500.0], device=options.device)
        self.tokens = torch.randn(1, latent_frames * height * width, model.blocks[0].norm2.normalized_shape[0], **place)
        self.modulation = torch.randn(1, 6, self.tokens.shape[-1], **place)
        self.rotary = model.rope(self.hidden_states)

    def block(self) -> None:
        """One block."""
        self.model.blocks[0](
            self.tokens.clone(), self.modulation, self.rotary, self.context.blocks[0], self.context.regions
        )

    def people(self) -> None:
        """What people add to a block, and nothing else."""
        block, regions = self.model.blocks[0], self.context.regions
        people = self.context.blocks[0].people
        if block.attn_people is not None:
            block.attn_people(self.tokens, block.norm_people, people, regions)
        elif block.attn2.backend == "dense":
            self.tokens + attend_people_dense(self.tokens, people, regions, block.attn2.heads)
        else:
            for person in regions.people:
                spoken = attend_person(regions.gather(self.tokens, person), people, person, block.attn2.heads)
                regions.add_(self.tokens, 0 * spoken, person)

    def step(self) -> None:
        """One denoising step."""
        self.model(self.hidden_states, self.timestep, context=self.context)


def seconds(work: Callable[[], None], device: torch.device) -> float:
    """Time of one call."""
    synchronize(device)
    started = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - started


def synchronize(device: torch.device) -> None:
    """Wait until the device has done everything asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(work: Callable[[], None], device: torch.device) -> int:
    """Peak memory of one call beyond what was held before it; on a CPU that of the process (Linux)."""
    gc.collect()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    status = Path("/proc/self/status")
    if not status.exists():
        work()
        return 0
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_bytes(status, "VmRSS")
    work()
    return _status_bytes(status, "VmHWM") - before


def _status_bytes(status: Path, key: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


@torch.no_grad()
def measure(layout: str, frames: int, options: Any) -> list[dict[str, Any]]:
    """All numbers of people of one layout and length; dense and sparse take turns, medians are kept."""
    model = make_model(layout, options)
    cases = {persons: Case(model, persons, frames, options) for persons in options.persons}
    times: dict[tuple[str, int, str], list[float]] = {}
    rows = []
    for turn in range(options.repeats + 1):
        for persons, case in cases.items():
            for backend in ("dense", "sparse") if persons else ("sparse",):
                model.set_audio_face_backend(backend)
                for name, work, count in (
                    ("block", case.block, 1),
                    ("people", case.people, 15),
                    ("step", case.step, 1),
                ):
                    if (name == "people" and not persons) or (name == "step" and options.no_step):
                        continue
                    for _ in range(count if turn else 1):
                        spent = seconds(work, options.device)
                        if turn:
                            times.setdefault((backend, persons, name), []).append(spent)
    for persons, case in cases.items():
        for backend in ("dense", "sparse") if persons else ("sparse",):
            model.set_audio_face_backend(backend)
            row: dict[str, Any] = {"layout": layout, "frames": frames, "persons": persons, "backend": backend}
            for name in ("block", "people", "step"):
                values = times.get((backend, persons, name))
                row[f"{name}_seconds"] = statistics.median(values) if values else None
            row["layers"] = len(model.blocks)
            row["peak_bytes"] = peak_bytes(case.block if options.no_step else case.step, options.device)
            row["context_bytes"] = case.context.nbytes
            rows.append(row)
    return rows


def make_model(layout: str, options: Any) -> AnyTalkerTransformer3DModel:
    """A model of the layout's true width with random weights."""
    config = SIZES[layout] | ({"num_layers": options.layers} if options.layers else {})
    torch.manual_seed(0)
    with torch.device(options.device):
        return AnyTalkerTransformer3DModel(**config, audio_face_layout=layout).to(options.dtype).eval()


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table with the ratio of sparse to dense."""
    lines = [
        "| layout | frames | people | path | block ms | people add ms | of dense | a person, of a block | step s "
        "(blocks) | peak MiB | context MiB |",
        "|---" * 11 + "|",
    ]
    for row in rows:
        same = [other for other in rows if all(other[k] == row[k] for k in ("layout", "frames"))]
        alone = next((r["block_seconds"] for r in same if r["persons"] == 0), None)
        dense = next((r for r in same if r["persons"] == row["persons"] and r["backend"] == "dense"), None)
        people = row["people_seconds"]
        share = f"1/{dense['people_seconds'] / people:.0f}" if dense and row["backend"] == "sparse" else ""
        each = f"{people / row['persons'] / alone:.2%}" if people and alone else ""
        step = f"{row['step_seconds']:.3f} ({row['layers']})" if row["step_seconds"] else ""
        added = f"{1000 * people:.1f}" if people else ""
        lines.append(
            f"| {row['layout']} | {row['frames']} | {row['persons']} | {row['backend'] if row['persons'] else ''} "
            f"| {1000 * row['block_seconds']:.0f} | {added} | {share} | {each} | {step} "
            f"| {row['peak_bytes'] / 2**20:.0f} | {row['context_bytes'] / 2**20:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda" if gpu else "cpu"))
    parser.add_argument("--dtype", type=lambda name: getattr(torch, name), default="bfloat16" if gpu else "float32")
    parser.add_argument("--layouts", nargs="+", choices=list(SIZES), default=["A", "B"] if gpu else ["A"])
    parser.add_argument("--persons", type=int, nargs="+", default=[0, 1, 2, 4, 8])
    parser.add_argument("--frames", type=int, nargs="+", default=[17, 49, 81, 161, 241] if gpu else [17])
    parser.add_argument("--grid", type=int, nargs=2, default=[30, 52], help="token rows and columns of a latent frame")
    parser.add_argument("--box", type=int, default=8, help="side of a face box in tokens")
    parser.add_argument("--layers", type=int, default=None if gpu else 1, help="blocks of a step; left out: all")
    parser.add_argument("--repeats", type=int, default=5 if gpu else 3)
    parser.add_argument("--no-step", action="store_true", help="blocks only")
    parser.add_argument("--output", type=Path, help="write the rows as JSON, too")
    options = parser.parse_args()
    name = torch.cuda.get_device_name(options.device) if options.device.type == "cuda" else "CPU"
    print(f"{name}, {torch.get_num_threads()} threads, {options.dtype}, torch {torch.__version__}")
    rows = []
    for layout in options.layouts:
        for frames in options.frames:
            rows += measure(layout, frames, options)
            if options.output:
                options.output.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
