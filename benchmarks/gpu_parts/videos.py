"""Whole videos: seconds a frame from end to end, and the peak of every memory mode against what the doctor expects."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from anytalker.pipelines.doctor import GPU_REST
from anytalker.pipelines.memory import plan_memory
from anytalker.pipelines.placement import Memory, Placement, Weights, place
from gpu_parts.scale import GIB, Row, Scale, inputs_of, random_pipeline, reset_peak, shape_of, taken, timed

_PEOPLE = 2
_STEPS = 3


def measure_video(name: str, memory: Memory, weights: Weights, scale: Scale, device: str) -> Iterator[Row]:
    """One video of a few steps; the seconds of a whole one follow from the time of a step."""
    placement = Placement(memory, weights)
    shape = shape_of(name, scale)
    pipeline = random_pipeline(name, scale, device)
    reset_peak()
    placing, _ = timed(lambda: place(pipeline, device, placement))
    settings, given = shape.settings, inputs_of(scale, _PEOPLE, shape.settings.fps)
    production = pipeline.prepare(**given, num_inference_steps=_STEPS, generator=torch.Generator().manual_seed(0))
    timed(lambda: production.in_memory())
    seconds = production.stopwatch.seconds
    step = seconds["denoise"] / _STEPS
    whole = seconds["prepare"] + seconds["decode"] + step * settings.num_inference_steps
    row: Row = {"model": name, "memory": memory, "weights": weights, "placing, s": round(placing, 1)}
    row |= {"prepare, s": round(seconds["prepare"], 2), "a guided step, s": round(step, 3)}
    row |= {"decode, s": round(seconds["decode"], 2), "s a frame": whole / scale.frames}
    if device == "cuda":
        plan = plan_memory(
            shape, scale.size, scale.frames, _PEOPLE, torch.bfloat16, GPU_REST, placement=placement
        )  # fmt: skip
        peak = taken()
        row |= {"peak GiB": peak, "doctor GiB": plan.peak / GIB, "off by": plan.peak / GIB / peak - 1}
    yield row
