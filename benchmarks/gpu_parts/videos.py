"""Whole videos: seconds a frame from end to end, and the peak of every memory mode against what the doctor expects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from anytalker.doctor.memory import plan_memory
from anytalker.doctor.report import GPU_REST, GPU_WORKSPACE
from anytalker.hardware.placement import Memory, Placement, Weights, place
from gpu_parts.scale import GIB, Row, Scale, inputs_of, random_pipeline, reset_peak, shape_of, taken, timed

_PEOPLE = 2
_STEPS = 3


def measure_video(
    name: str, memory: Memory, weights: Weights, blocks: int | None, scale: Scale, device: str
) -> Iterator[Row]:
    """One video of a few steps; the seconds of a whole one follow from the time of a step.

    Args:
        name: "1.3b" or "14b".
        memory, weights: see `Placement`.
        blocks: of the transformer; None: all. Where blocks come one by one, the peak doesn't depend on their number.
        scale: sizes.
        device: where.
    """
    placement = Placement(memory, weights)
    shape = shape_of(name, scale)
    if blocks is not None and not scale.small:
        shape = replace(shape, transformer=dict(shape.transformer) | {"num_layers": blocks})
    pipeline = random_pipeline(shape, scale, device, keep=memory == "high")
    reset_peak()
    placing, _ = timed(lambda: place(pipeline, device, placement))
    settings, given = shape.settings, inputs_of(scale, _PEOPLE, shape.settings.fps)
    peaks = {}
    prepared = pipeline.prepare(**given, num_inference_steps=_STEPS, generator=torch.Generator().manual_seed(0))
    peaks["encode"] = taken()
    reset_peak()
    latents = list(prepared.denoise())
    peaks["denoise"] = taken()
    reset_peak()
    for _ in prepared.decode(latents):
        pass
    peaks["decode"] = taken()
    seconds = prepared.stopwatch.seconds
    step = seconds["denoise"] / _STEPS
    whole = seconds["prepare"] + seconds["decode"] + step * settings.num_inference_steps
    row: Row = {"model": name, "memory": memory, "weights": weights, "blocks": blocks or "all"}
    row |= {"placing, s": round(placing, 1), "prepare, s": round(seconds["prepare"], 2)}
    row |= {"a guided step, s": round(step, 3), "decode, s": round(seconds["decode"], 2)}
    if blocks is None:
        row["s a frame"] = whole / scale.frames
    if device == "cuda":
        size, rest = (scale.size, scale.frames, _PEOPLE, torch.bfloat16), GPU_REST
        plan = plan_memory(shape, *size, rest, placement=placement, workspace=GPU_WORKSPACE)
        row |= {f"{stage}, GiB": round(peak, 2) for stage, peak in peaks.items()}
        peak = max(peaks.values())
        row |= {"doctor GiB": round(plan.peak / GIB, 2), "off by": plan.peak / GIB / peak - 1}
    yield row
