"""Both stages of the miniature's training on curated footage, on perfect records of it, and on uncurated cuts.

    anytalker miniature episode --seed 3000001 --minutes 10 --output footage/one.mp4
    anytalker curate footage dataset
    anytalker train start TINY runs/start --like tiny
    python benchmarks/curated_training.py dataset footage/*.json --start runs/start --output runs/curated

All three see the same files for the same number of steps:

- curated: the dataset's records, as they are.
- perfect: what is good in the footage, cut at its true borders, with true faces, voices and delays.
- uncut: each shot between the cuts that were found, in pieces of four seconds, with the faces of the middle frame and
  everything that is heard for each of them.

Then each model takes the miniature's exam on people and voices that no episode has. What is finished is kept, so an
interrupted run goes on. Writes `table.md`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from anytalker import AnyTalkerPipeline
from anytalker.conditioning.binding import bind_faces
from anytalker.conventions import PixelBox
from anytalker.curation.export import export_clip
from anytalker.curation.footage import FPS, Footage, StoredSound
from anytalker.curation.piece import Face, Piece
from anytalker.errors import InputError
from anytalker.files import write_json_atomic
from anytalker.miniature.exam import examine

SECONDS = 4.0
SHORTEST = 2.0
SIZE = (224, 128)
DATA = ("curated", "perfect", "uncut")


def perfect_pieces(footage: Footage, sound: StoredSound, truth: dict[str, Any]) -> Iterator[Piece]:
    """The good shots, cut where they are clean."""
    for shot in truth["shots"]:
        if not shot["good"] or not 1 <= len(shot["persons"]) <= 2:
            continue
        delay = shot.get("audio_delay_frames", 0)
        view = shot.get("picture_xywh")
        first = round(shot["start"] * FPS)
        for start, end in _cut(*(round(second * FPS) for second in shot["clean"])):
            faces = []
            for person in shot["persons"]:
                boxes = np.array(person["box_xywh"], np.float32)
                boxes = boxes[start - first : end - first] if boxes.ndim == 2 else np.tile(boxes, (end - start, 1))
                spans = [(a - delay / FPS, b - delay / FPS) for a, b in person["speaking"]]
                inside = [(max(a, start / FPS), min(b, end / FPS)) for a, b in spans]
                speaking = tuple((a, b) for a, b in inside if b - a > 0.1)
                corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
                faces.append(Face(corners, speaking, voice=len(faces) if speaking else None))
            if any(face.speaking for face in faces):
                crop = (view[0], view[1], view[0] + view[2], view[1] + view[3]) if view else None
                faces.sort(key=lambda face: float(face.boxes[0, 0]))
                yield Piece(footage, start, end, sound, faces=tuple(faces), delay=delay, crop=crop)


def uncut_pieces(footage: Footage, sound: StoredSound, cuts: list[float], frames: int) -> Iterator[Piece]:
    """All shots between cuts; everybody who is seen says all that is heard."""
    borders = [0, *(round(cut * FPS) for cut in cuts), frames]
    for begin, stop in pairwise(borders):
        for start, end in _cut(begin, stop):
            people = _seen(next(footage.frames((start + end) // 2)))[:2]
            heard = ((start / FPS, end / FPS),)
            faces = [
                Face(np.tile(np.array([[x, y, x + w, y + h]], np.float32), (end - start, 1)), heard, number)
                for number, (x, y, w, h) in enumerate(sorted(people))
            ]
            if faces:
                yield Piece(footage, start, end, sound, faces=tuple(faces))


def _seen(frame: np.ndarray) -> list[PixelBox]:
    try:
        return bind_faces(Image.fromarray(frame), None, 1, lambda message: None)
    except InputError:
        return []


def _cut(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Pieces of about four seconds, in frames."""
    count = max(1, round((end - start) / FPS / SECONDS))
    edges = np.linspace(start, end, count + 1).astype(int)
    yield from ((int(a), int(b)) for a, b in pairwise(edges) if b - a >= SHORTEST * FPS)


def write_records(pieces: Iterator[Piece], folder: Path, prefix: str) -> list[dict[str, Any]]:
    """Export pieces as clips below `folder`, and what a record says of each."""
    records = []
    for piece in pieces:
        kept = export_clip(piece, prefix, folder)
        people = [{"audio_path": person.audio_path, "face_boxes": person.face_boxes} for person in kept.persons]
        records.append(
            {
                "video_path": kept.video_path,
                "n_frames": kept.n_frames,
                "width": kept.width,
                "height": kept.height,
                "fps": FPS,
                "persons": people,
            }
        )
    return records


def make_records(dataset: Path, truths: list[Path], folder: Path) -> None:
    """`folder`/perfect and `folder`/uncut, each with single.jsonl and multi.jsonl."""
    cuts = {line["path"]: line["cuts"] for line in map(json.loads, (dataset / "cuts.jsonl").read_text().splitlines())}
    for data in ("perfect", "uncut"):
        if (folder / data / "single.jsonl").exists():
            continue
        (folder / data).mkdir(parents=True, exist_ok=True)
        records: list[dict[str, Any]] = []
        for path in truths:
            truth = json.loads(path.read_text())
            footage = Footage(path.with_suffix(".mp4").resolve())
            sound = StoredSound.write(folder / f"{path.stem}.sound", footage.sound())
            if data == "perfect":
                pieces = perfect_pieces(footage, sound, truth)
            else:
                pieces = uncut_pieces(footage, sound, cuts[str(footage.path)], truth["frames"])
            records += write_records(pieces, folder / data, path.stem)
        for name, number in (("multi", 2), ("single", 1)):
            lines = [json.dumps(record) for record in records if len(record["persons"]) == number]
            (folder / data / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def train(data: str, dataset: Path, folder: Path, options: argparse.Namespace) -> Path:
    """Shards and both stages; gives the model's folder."""
    records = dataset if data == "curated" else folder / data
    shards = folder / "shards" / data
    for name in ("single", "multi"):
        command = ["train", "prepare", str(records / f"{name}.jsonl"), str(shards / name), "--model"]
        _run([*command, str(options.start), "--width", str(SIZE[0]), "--height", str(SIZE[1])], options)
    model = options.start
    for stage, steps in (("stage1", options.steps[0]), ("stage2", options.steps[1])):
        base = yaml.safe_load(Path(f"configs/miniature-{stage}.yaml").read_text())
        single, joined, multi = (str(shards / name) for name in ("single/whole", "single/windows", "multi/whole"))
        base["data"]["single"] = [single] if stage == "stage1" else [multi, single]
        base["data"]["joined"] = [joined] if stage == "stage1" else []
        base.update(
            output=str(folder / data / stage),
            model=str(model),
            steps=steps,
            batch_size=4,
            groups=1,
            save_every=50,
            train_image_encoder=False,
            validation=None,
        )
        base["optimizer"]["average"] = 0.98
        config = folder / f"{data}-{stage}.yaml"
        config.write_text(yaml.safe_dump(base, sort_keys=False))
        model = folder / data / stage / "model"
        if not (model / "anytalker.json").exists():
            _run(["train", str(config)], options)
    return model


def _run(arguments: list[str], options: argparse.Namespace) -> None:
    print("+ anytalker", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "anytalker", *arguments], check=True)


def examined(model: Path, result: Path, scenes: int) -> dict[str, dict[str, list[float]]]:
    """Scores of one and of two people."""
    if not result.exists():
        pipeline = AnyTalkerPipeline.from_pretrained(str(model))
        pipeline.set_progress_bar_config(disable=True)
        scores = {str(count): vars(examine(pipeline, count, range(scenes), silence=False)) for count in (1, 2)}
        lists = {count: {name: [float(value) for value in v] for name, v in s.items()} for count, s in scores.items()}
        write_json_atomic(result, lists)
    return json.loads(result.read_text())


def main() -> None:
    """Make the records, train, hold the exams, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("truths", type=Path, nargs="+")
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, nargs=2, default=[320, 120])
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--only", choices=DATA, nargs="+", default=DATA)
    options = parser.parse_args()
    torch.set_num_threads(1)
    make_records(options.dataset, options.truths, options.output)
    rows = [
        "| data | clips of one, of two | lips r: one | two | own voice |",
        "|---|---|---|---|---|",
    ]
    for data in options.only:
        model = train(data, options.dataset, options.output, options)
        scores = examined(model, options.output / data / "exam.json", options.scenes)
        source = options.dataset if data == "curated" else options.output / data
        clips = ", ".join(str(len((source / f"{n}.jsonl").read_text().splitlines())) for n in ("single", "multi"))
        lips = " | ".join(f"{np.mean(scores[count]['lip_sync']):.3f}" for count in ("1", "2"))
        rows.append(f"| {data} | {clips} | {lips} | {np.mean(scores['2']['own_voice']):.1%} |")
        print(rows[-1], flush=True)
    (options.output / "table.md").write_text("\n".join(rows) + "\n")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
