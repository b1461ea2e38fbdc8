"""What decoding the miniature's videos in bfloat16 gains and costs: python benchmarks/decoding.py.

The latents of a demo of four seconds are decoded and enlarged in float32 and in bfloat16, in turns. Prints milliseconds
a frame, the fastest of three, and the PSNR of the frames to those in float32.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np

from anytalker.hardware.acceleration import Acceleration, Decoder, processor_has_bfloat16
from anytalker.miniature.demo import demo_scene
from anytalker.pipelines.ready import load_pipeline

PRECISIONS: tuple[Decoder, ...] = ("float32", "bfloat16")


def main() -> None:
    """Measure and print a table."""
    image, boxes, voices = demo_scene(2, 4.0, 0)
    videos = {
        name: load_pipeline("tiny", "cpu", acceleration=Acceleration(decoder=name)).prepare(image, voices, faces=boxes)
        for name in PRECISIONS
    }
    latents = list(videos["float32"].denoise())
    frames: dict[str, np.ndarray] = {}
    seconds: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    for _ in range(3):
        for name, video in videos.items():
            started = time.perf_counter()
            decoded: Iterable[np.ndarray] = video.decode(latents)
            frames[name] = np.concatenate(list(decoded))
            seconds[name].append(time.perf_counter() - started)
    print(f"The processor computes bfloat16 in hardware: {'yes' if processor_has_bfloat16() else 'no'}.")
    print("| decoder | ms a frame | PSNR, dB |\n|---|---|---|")
    exact = frames["float32"]
    for name, made in frames.items():
        error = float(np.square(made - exact).mean())
        psnr = "" if error == 0 else f"{-10 * np.log10(error):.1f}"
        print(f"| {name} | {1000 * min(seconds[name]) / len(made):.1f} | {psnr} |")


if __name__ == "__main__":
    main()
