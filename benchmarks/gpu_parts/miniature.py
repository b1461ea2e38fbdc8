"""The miniature on a GPU: does it make the CPU's frames there, and how fast."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from anytalker import AnyTalkerPipeline
from anytalker.miniature.demo import demo_scene
from gpu_parts.scale import Row, Scale


def measure_miniature(scale: Scale, device: str) -> Iterator[Row]:
    """A conversation of two, on the CPU and on the device."""
    seconds = 0.4 if scale.small else 4.0
    image, boxes, voices = demo_scene(2, seconds, 18)

    def make(where: str) -> Any:
        pipeline = AnyTalkerPipeline.from_pretrained("tiny").to(where)
        options = {"faces": boxes, "max_frames": int(24 * seconds) // 4 * 4 + 1}
        for _ in range(2):  # the first run warms up
            video = pipeline(image, voices, **options, generator=torch.Generator().manual_seed(0))
        return video

    cpu, there = make("cpu"), make(device)
    square = float(np.square(cpu.frames - there.frames).mean())
    row: Row = {"what": f"{seconds:g} s of two people", "CPU, s": round(sum(cpu.seconds.values()), 2)}
    row |= {"device, s": round(sum(there.seconds.values()), 2)}
    yield row | {"PSNR dB": float("inf") if square == 0 else round(-10 * float(np.log10(square)), 1)}
