"""Are the cuts of episodes found, and is a moving camera told from one that stands still?

    python benchmarks/shots.py EPISODE.mp4...    # each with its .json, as `anytalker miniature episode` writes them

Prints the F1 of cuts (within 2 frames; of dissolves, whose middle must lie within), the share of shots whose camera is
judged rightly, and frames a second of one core: of all of `find_shots`, and of `camera_motion`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch

from anytalker.curation.camera import camera_motion
from anytalker.curation.shots import find_shots
from anytalker.curation.transnet import load_network

CLOSE = 2
"""Frames by which a cut may be missed."""


def decoded(path: Path) -> Iterator[np.ndarray]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def true_spans(shots: list[dict[str, Any]], fps: float) -> list[tuple[float, float]]:
    """Between which frames each transition is; the same twice for a cut."""
    return [(round(one["clean"][1] * fps), round(other["clean"][0] * fps)) for one, other in pairwise(shots)]


def matched(found: list[int], spans: list[tuple[float, float]]) -> int:
    """How many transitions are found, each by a cut of its own."""
    left, count = list(found), 0
    for start, end in spans:
        reach = CLOSE if start == end else 0
        hit = next((cut for cut in left if start - reach <= cut <= end + reach), None)
        if hit is not None:
            left.remove(hit)
            count += 1
    return count


def main(paths: list[Path]) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    load_network()
    right = cuts = truths = good = shots = frames = 0
    seconds = np.zeros(2)
    for path in paths:
        truth = json.loads(path.with_suffix(".json").read_text())
        fps, pictures = float(truth["fps"]), list(decoded(path))
        begin = time.process_time()
        found = [shot.cut for shot in find_shots(pictures, fps)][1:]
        seconds[0] += time.process_time() - begin
        spans = true_spans(truth["shots"], fps)
        hits = matched(found, spans)
        wrong = []
        for shot in truth["shots"]:
            start, end = (round(time * fps) for time in shot["clean"])
            begin = time.process_time()
            motion = camera_motion(pictures[start:end], fps)
            seconds[1] += time.process_time() - begin
            if motion.moving != (shot["camera"] != "still"):
                wrong.append((start, shot["camera"], motion))
        print(f"{path.name}: {hits} of {len(spans)} cuts, {len(found) - hits} false; camera wrong in {wrong or 'none'}")
        right, cuts, truths = right + hits, cuts + len(found), truths + len(spans)
        good, shots, frames = (
            good + len(truth["shots"]) - len(wrong),
            shots + len(truth["shots"]),
            frames + len(pictures),
        )
    print(f"cuts F1 {2 * right / max(1, cuts + truths):.4f}, camera {good / shots:.4f} of {shots} shots")
    print(f"{frames / seconds[0]:.0f} frames/s for shots, {frames / seconds[1]:.0f} frames/s for the camera, one core")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
