"""What a model makes of usual pictures: the size of the video, and how long a second of it takes.

python benchmarks/picture_sizes.py [--model tiny] [--frames 49]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from PIL import Image

from anytalker import AnyTalkerPipeline
from anytalker.miniature.world.scenes import UNSEEN_SEED, Scene

PICTURES = ((640, 480), (1024, 768), (1920, 1080), (1080, 1920), (4000, 3000))
SHARES = (0.4, 0.2, 0.1)
"""Height of a face as a share of the picture's shorter side."""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--frames", type=int, default=49)
    arguments = parser.parse_args()
    pipeline = AnyTalkerPipeline.from_pretrained(arguments.model)
    people = Image.fromarray(Scene.random(2, UNSEEN_SEED).picture(288))
    voice = np.random.default_rng(0).uniform(-0.3, 0.3, 16000 * 10).astype(np.float32)
    pipeline(people, [voice], faces=[(20, 20, 80, 80)], max_frames=arguments.frames)  # the first one takes longer
    print(f"{torch.get_num_threads()} threads\n")
    print("| picture | face | video | seconds for a second of video |\n|---|---|---|---|")
    for width, height in PICTURES:
        picture = people.resize((width, height))
        for share in SHARES:
            side = int(share * min(width, height))
            top = (height - side) // 2
            faces = [(center - side // 2, top, side, side) for center in (width // 4, width - width // 4)]
            started = time.monotonic()
            video = pipeline(picture, [voice], faces=faces, max_frames=arguments.frames)
            spent = (time.monotonic() - started) / (arguments.frames / video.fps)
            made = video.inputs.image.size
            print(f"| {width}×{height} | {side} px | {made[0]}×{made[1]} | {spent:.1f} |", flush=True)


if __name__ == "__main__":
    main()
