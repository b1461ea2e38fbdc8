"""What each switch for speed gains and costs: one video of the miniature, against the exact one, in one run.

python benchmarks/speed.py                 # the table of docs/measurements/speed.md
python benchmarks/speed.py --steps 24 --only first-block
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from anytalker import AnyTalkerPipeline
from anytalker.hardware.acceleration import Acceleration, accelerate
from anytalker.hardware.placement import Placement, place
from anytalker.miniature.demo import demo_scene

Change = Callable[[AnyTalkerPipeline], object]


@dataclass(frozen=True)
class Switch:
    """One way to be faster or smaller: a change of the pipeline, or other options of a call."""

    name: str
    change: Change = lambda pipeline: None
    options: dict[str, Any] = field(default_factory=dict)


def _accelerated(**settings: Any) -> Change:
    return lambda pipeline: accelerate(
        pipeline.transformer, Acceleration(**settings), pipeline.settings.magnitude_ratios
    )


def _dense(pipeline: AnyTalkerPipeline) -> None:
    pipeline.transformer.set_audio_face_backend("dense")


def _placed(**settings: Any) -> Change:
    return partial(place, device="cpu", placement=Placement(**settings))


SWITCHES = (
    Switch("dense AFCA, the paper's form", _dense),
    Switch("`--cache first-block --cache-threshold 0.05`", _accelerated(cache="first-block", threshold=0.05)),
    Switch("`--cache first-block --cache-threshold 0.1`", _accelerated(cache="first-block", threshold=0.1)),
    Switch("`--cache first-block --cache-threshold 0.2`", _accelerated(cache="first-block", threshold=0.2)),
    Switch("`--cache magcache --cache-threshold 0.1`", _accelerated(cache="magcache", threshold=0.1)),
    Switch("`--cache magcache --cache-threshold 0.2`", _accelerated(cache="magcache", threshold=0.2)),
    Switch("`--cache taylorseer`", _accelerated(cache="taylorseer")),
    Switch("`--compile`", _accelerated(compiled=True)),
    Switch("`--guidance-interval 0,0.5`", options={"guidance_interval": (0.0, 0.5)}),
    Switch("`--batch-guidance`", options={"batch_guidance": True}),
    Switch("`--weights float8`", _placed(weights="float8")),
    Switch("`--weights int8`", _placed(weights="int8")),
    Switch("half the steps", options={"half": True}),
)


def make(switch: Switch, seconds: float, steps: int, guidance: float) -> tuple[float, np.ndarray]:
    """Seconds of denoising, and frames; the first run warms up where something is compiled."""
    pipeline = AnyTalkerPipeline.from_pretrained("tiny")
    switch.change(pipeline)
    options = dict(switch.options)
    steps = steps // 2 if options.pop("half", False) else steps
    image, boxes, voices = demo_scene(2, seconds, 0)
    taken = 0.0
    for _ in range(2 if "compile" in switch.name else 1):
        prepared = pipeline.prepare(
            image,
            voices,
            faces=boxes,
            prompt="people are talking",
            num_inference_steps=steps,
            guidance_scale=guidance,
            max_frames=int(24 * seconds) // 4 * 4 + 1,
            generator=torch.Generator().manual_seed(0),
            **options,
        )
        started = time.perf_counter()
        latents = list(prepared.denoise())
        taken = time.perf_counter() - started
    return taken, np.concatenate(list(prepared.decode(latents)))


def main() -> None:
    """Print a row a switch, as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--only", default="", help="only switches with this in their name")
    options = parser.parse_args()
    print(f"{options.seconds:g} s, 2 people, {options.steps} steps, guidance {options.guidance:g}\n")
    print("| switch | denoising, s | times as fast | mean error, of 255 | PSNR, dB |\n|---|---|---|---|---|")
    base, exact = make(Switch("exact"), options.seconds, options.steps, options.guidance)
    print(f"| exact | {base:.1f} | 1 | 0 | |", flush=True)
    for switch in SWITCHES:
        if options.only not in switch.name:
            continue
        try:
            taken, frames = make(switch, options.seconds, options.steps, options.guidance)
        except Exception as error:  # what is not installed here can't be measured
            print(f"| {switch.name} | not measured: {str(error).splitlines()[0]} | | | |", flush=True)
            continue
        mean, square = np.abs(frames - exact).mean(), np.square(frames - exact).mean()
        psnr = f"{-10 * np.log10(square):.1f}" if square else "exact"
        print(f"| {switch.name} | {taken:.1f} | {base / taken:.2f} | {255 * mean:.2f} | {psnr} |", flush=True)


if __name__ == "__main__":
    main()
