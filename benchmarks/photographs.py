"""What a model leaves of photographs: python benchmarks/photographs.py PICTURE... [--model tiny] [--pairs FOLDER].

Everyone in a picture talks in turn. Outside of mouths, eyes and brows each frame is compared with the picture: PSNR,
and sharpness as the mean magnitude of the gradient, relative to the picture's. The same with `--no-upscale`, enlarged
by bicubic interpolation. `--pairs` writes the middle frame beside the one of a picture that is not known to be a
photograph, in random order, and `answers.json`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from anytalker import AnyTalkerPipeline, InputError
from anytalker.conditioning.face_mesh.landmarks import find_landmarks
from anytalker.conditioning.face_mesh.photographed import EYE_CORNERS, EYES_WITH_BROWS, LIPS
from anytalker.miniature.voices.speech import random_utterance

SECONDS = 2.0
MARGIN = 0.12
"""How far around mouth, eyes and brows pixels don't count, in distances between the outer corners of the eyes."""


def still_part(frames: np.ndarray, boxes: list[tuple[int, int, int, int]]) -> np.ndarray:
    """Where pixels count: all but mouths, eyes and brows in any of the frames; bool (H, W)."""
    corners = np.array([[left, top, left + width, top + height] for left, top, width, height in boxes], float)
    points = find_landmarks(frames, np.tile(corners, (len(frames), 1, 1))).points[..., :2]
    counts = np.ones(frames.shape[1:3], np.uint8)
    for person in np.nan_to_num(points, nan=-1e4).reshape(-1, *points.shape[2:]):
        margin = MARGIN * np.linalg.norm(np.subtract(*person[list(EYE_CORNERS)]))
        for part in (LIPS, *EYES_WITH_BROWS):
            hull = cv2.convexHull(person[list(part)].astype(np.float32))
            middle = hull.mean(axis=0)
            reach = np.linalg.norm(hull - middle, axis=-1, keepdims=True).clip(1e-3)
            cv2.fillConvexPoly(counts, (middle + (hull - middle) * (1 + margin / reach)).astype(np.int32), 0)
    return counts.astype(bool)


def gradient(frames: np.ndarray) -> np.ndarray:
    """Magnitude of the gradient of frames (n, H, W, 3) in [0, 1], (n, H - 1, W - 1)."""
    across = np.diff(frames, axis=2)[:, :-1]
    down = np.diff(frames, axis=1)[:, :, :-1]
    return np.sqrt(across**2 + down**2).mean(axis=-1)


def main() -> None:
    """Measure each picture both ways and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--pairs", type=Path)
    options = parser.parse_args()
    pipeline = AnyTalkerPipeline.from_pretrained(options.model)
    pipeline.set_progress_bar_config(disable=True)
    rng, answers, rows = np.random.default_rng(0), {}, []
    print("| picture | people | PSNR dB | sharpness | PSNR dB, not enlarged | sharpness, not enlarged |")
    print("|---|---|---|---|---|---|")
    for number, path in enumerate(options.pictures):
        try:
            row, pair = measured(pipeline, path, number, options.pairs is not None)
        except InputError as error:
            print(f"{path.name} was left out: {error}")
            continue
        rows.append(row)
        print(f"| {path.name} | {row[0]:.0f} | " + " | ".join(f"{value:.2f}" for value in row[1:]) + " |", flush=True)
        if options.pairs:
            options.pairs.mkdir(parents=True, exist_ok=True)
            order = rng.permutation(2)
            cv2.imwrite(str(options.pairs / f"{number:03d}.png"), np.hstack([pair[side] for side in order])[..., ::-1])
            answers[f"{number:03d}.png"] = "left" if order[0] == 0 else "right"
    print("| all | | " + " | ".join(f"{value:.2f}" for value in np.mean(rows, axis=0)[1:]) + " |")
    print("worst: " + ", ".join(f"{value:.2f}" for value in np.min(rows, axis=0)[1:]))
    if options.pairs:
        (options.pairs / "answers.json").write_text(json.dumps(answers, indent=2))


def measured(pipeline: AnyTalkerPipeline, path: Path, seed: int, pairs: bool) -> tuple[list[float], list[np.ndarray]]:
    """People, PSNR and sharpness by both ways; for pairs, the middle frame as it is and all drawn, uint8.

    Raises:
        InputError: if no face is found, or faces can't be told apart.
    """
    from anytalker.conditioning.faces import detect_faces
    from anytalker.media.pictures import load_image

    image = load_image(path)
    people = len(detect_faces(image))
    rng = np.random.default_rng(seed)
    turn = round(SECONDS / people * 16000)
    voices = []
    for person in range(people):
        voice = np.zeros(turn * people, np.float32)
        spoken = random_utterance(rng, SECONDS / people, SECONDS / people).waveform[:turn]
        voice[person * turn : person * turn + len(spoken)] = spoken
        voices.append(voice)

    def made(upscale: bool = True) -> Any:
        generator = torch.Generator().manual_seed(seed)
        return pipeline(image, voices, upscale=upscale, generator=generator)

    whole = made()
    still = np.asarray(whole.inputs.image, np.float32)[None] / 255
    height, width = still.shape[1:3]
    counts = still_part((whole.frames[::4] * 255).round().astype(np.uint8), whole.inputs.boxes)
    small = (cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC) for frame in made(False).frames)
    values, inner = [float(people)], counts[:-1, :-1]
    for frames in (whole.frames, np.stack(list(small))):
        error = np.square(frames[1:] - still)[:, counts].mean()
        values += [-10 * np.log10(error), gradient(frames[1:])[:, inner].mean() / gradient(still)[:, inner].mean()]
    if not pairs:
        return values, []
    taught = pipeline.settings
    pipeline.settings = replace(taught, trained_on="photographs")
    pair = [(video.frames[len(video.frames) // 2] * 255).round().astype(np.uint8) for video in (whole, made())]
    pipeline.settings = taught
    return values, pair


if __name__ == "__main__":
    main()
