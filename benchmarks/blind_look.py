"""Frames to be judged without knowing which are true: python benchmarks/blind_look.py FOLDER [--frames 40].

Takes a random moment each of as many scenes of the miniature's exam, with one to four people in turns, and shows either
the true frame or the one that the model made, as a coin falls. Writes pages of ten numbered frames, and `answers.json`,
to be opened after every frame was called true or generated.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from anytalker import AnyTalkerPipeline
from anytalker.miniature.exam import exam_clip, play

PAGE = 10
WIDTH = 1040
FIRST_SCENE = 100
"""The exam's own scenes are before it."""


def frame(pipeline: AnyTalkerPipeline, number: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """Frame `number`, uint8 RGB, and what it is."""
    clip = exam_clip(1 + number % 4, FIRST_SCENE + number, 49)
    moment, kind = int(rng.integers(8, len(clip.frames))), str(rng.choice(["true", "generated"]))
    video = play(pipeline, clip, clip.voices, number)
    made = np.round(255 * video.frames[moment]).astype(np.uint8)
    if kind == "generated":
        return made, kind
    height, width = made.shape[:2]
    states = [[person[moment]] for person in clip.states]
    return cv2.resize(next(clip.scene.render(states, height)), (width, height)), kind


def page(frames: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """Numbered frames in rows of about equal width."""
    rows: list[list[np.ndarray]] = [[]]
    for number, shown in frames:
        tile = cv2.copyMakeBorder(shown, 26, 6, 3, 3, cv2.BORDER_CONSTANT, value=(255, 255, 255))
        cv2.putText(tile, str(number), (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (0, 0, 0), 2, cv2.LINE_AA)
        if rows[-1] and sum(one.shape[1] for one in rows[-1]) + tile.shape[1] > WIDTH:
            rows.append([])
        rows[-1].append(tile)
    whole = [np.hstack(row) for row in rows]
    wide = max(row.shape[1] for row in whole)
    padded = [
        cv2.copyMakeBorder(row, 0, 0, 0, wide - row.shape[1], cv2.BORDER_CONSTANT, value=(255, 255, 255))
        for row in whole
    ]
    return np.vstack(padded)


def main() -> None:
    """Write the pages and the answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--seed", type=int, help="of the choices; left out: another every time")
    options = parser.parse_args()
    pipeline = AnyTalkerPipeline.from_pretrained(options.model)
    rng = np.random.default_rng(options.seed)
    shown, answers = [], {}
    for number in range(options.frames):
        picture, answers[number] = frame(pipeline, number, rng)
        shown.append((number, picture))
        print(f"{number + 1} of {options.frames} frames", flush=True)
    options.folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(shown), PAGE):
        cv2.imwrite(str(options.folder / f"{first // PAGE}.png"), page(shown[first : first + PAGE])[..., ::-1])
    (options.folder / "answers.json").write_text(json.dumps(answers, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
