"""The miniature's exam on people, voices and conversations it never met, against the exact truth.

    python benchmarks/miniature_exam.py docs/exam                    # 40 scenes each of 1, 2, 3 and 4 people
    python benchmarks/miniature_exam.py out --model runs/miniature/stage1/model --persons 2

Writes `scenes.jsonl` (one line a scene; an interrupted exam goes on), `report.md`, and a contact sheet of the first
scene of each number of people, the true video above the generated one.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from anytalker import AnyTalkerPipeline
from anytalker.miniature.exam import exam_clip, examine, play
from anytalker.pipelines.ready import load_pipeline

COLUMNS = (
    ("lip_sync", "lip sync r", "{:.3f}"),
    ("own_voice", "own voice fits best", "{:.1%}"),
    ("silence", "silent / speaking motion", "{:.3f}"),
    ("looking", "listener looks at speaker", "{:.1%}"),
    ("by_chance", "looks away", "{:.1%}"),
    ("background", "background PSNR dB", "{:.1f}"),
    ("face", "face PSNR dB", "{:.1f}"),
    ("sharpness", "face sharpness", "{:.2f}"),
)


@cache
def load(model: str) -> AnyTalkerPipeline:
    """The pipeline, once a process, on one thread: scenes are what runs in parallel."""
    torch.set_num_threads(1)
    return load_pipeline(model, "cpu")


def mark(model: str, persons: int, seed: int) -> dict[str, Any]:
    """One line of `scenes.jsonl`."""
    scores = examine(load(model), persons, [seed])
    lists = {name: [float(value) for value in values] for name, values in vars(scores).items()}
    return {"persons": persons, "seed": seed, **lists}


def sheet(model: str, persons: int, path: Path, seed: int = 0) -> None:
    """Eight moments of a scene: truth above, generated below."""
    clip = exam_clip(persons, seed)
    video = play(load(model), clip, clip.voices, seed)
    made = np.round(255 * video.frames).astype(np.uint8)
    wanted = (made.shape[2], made.shape[1])
    rows = []
    for half in np.array_split(np.linspace(8, len(made) - 1, 8).astype(int), 2):
        rows.append(np.concatenate([cv2.resize(clip.frames[i], wanted) for i in half], axis=1))
        rows.append(np.concatenate([made[i] for i in half], axis=1))
    Image.fromarray(np.concatenate(rows)).save(path)


def report(lines: list[dict[str, Any]]) -> str:
    """The Markdown report."""
    rows = ["| people | scenes | " + " | ".join(title for _, title, _ in COLUMNS) + " |"]
    rows.append("|---" * (2 + len(COLUMNS)) + "|")
    for persons in sorted({line["persons"] for line in lines}):
        scenes = [line for line in lines if line["persons"] == persons]
        cells = []
        for name, _, form in COLUMNS:
            values = np.concatenate([line.get(name, []) for line in scenes])
            cells.append(f"{form.format(values.mean())} ({len(values)})" if len(values) else "")
        rows.append(f"| {persons} | {len(scenes)} | " + " | ".join(cells) + " |")
    command = "python " + " ".join(sys.argv)
    return f"`{command}`: means, with the number of mouths, listeners or scenes.\n\n" + "\n".join(rows) + "\n"


def main() -> None:
    """Hold the exam."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--persons", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "scenes.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(line["persons"], line["seed"]) for line in lines}
    wanted = [(persons, seed) for seed in range(options.scenes) for persons in options.persons]
    with ProcessPoolExecutor(options.workers) as pool, path.open("a", encoding="utf-8") as file:
        tasks = [pool.submit(mark, options.model, *scene) for scene in wanted if scene not in done]
        for task in as_completed(tasks):
            lines.append(task.result())
            file.write(json.dumps(lines[-1]) + "\n")
            file.flush()
            print(f"{len(lines)} of {len(wanted)} scenes", flush=True)
    (options.output / "report.md").write_text(report(lines), encoding="utf-8")
    print(report(lines))
    for persons in options.persons:
        sheet(options.model, persons, options.output / f"{persons}-people.webp")


if __name__ == "__main__":
    main()
