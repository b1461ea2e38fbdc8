"""Calibration of MagCache: how the magnitude of the blocks' residual changes from step to step (Ma et al. 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from anytalker.errors import InputError
from anytalker.files import write_json_atomic
from anytalker.pipelines.pipeline import AnyTalkerPipeline


def measure_magnitudes(
    pipeline: AnyTalkerPipeline, image: Any, audio: Sequence[Any], steps: int | None = None, **options: Any
) -> tuple[float, ...]:
    """Make one window of a video without guidance or caches, and compare what the blocks add at neighbouring steps.

    Args:
        pipeline: the model.
        image, audio, **options: as for the pipeline; any people and voices will do.
        steps: of the sampler; None: the model's default.

    Returns:
        For each step the mean over the tokens of the length of what all blocks add, divided by that of the step before;
        1 for the first step.
    """
    blocks = list(pipeline.transformer.blocks)
    entered: list[torch.Tensor] = []
    lengths: list[torch.Tensor] = []

    def enter(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        entered[:] = arguments[:1]

    def leave(module: torch.nn.Module, arguments: Any, tokens: torch.Tensor) -> None:
        lengths.append((tokens - entered[0]).float().norm(dim=-1))

    hooks = [blocks[0].register_forward_pre_hook(enter), blocks[-1].register_forward_hook(leave)]
    try:
        window = pipeline.settings.window
        frames = None if window is None else 4 * window + 1
        options = {"guidance_scale": 1.0, "num_inference_steps": steps, "max_frames": frames} | options
        options["generator"] = torch.Generator().manual_seed(0)
        for _ in pipeline.prepare(image, audio, **options).denoise():
            pass
    finally:
        for hook in hooks:
            hook.remove()
    ratios = [float((after / before).mean()) for before, after in pairwise(lengths)]
    return (1.0, *ratios)


def write_magnitudes(pipeline: AnyTalkerPipeline, path: Path, ratios: Sequence[float]) -> Path:
    """Write measured ratios into a model's settings; the file is returned.

    Args:
        pipeline: the model.
        path: its file of settings, see `FoundModel.settings`; of a published checkpoint a file beside it.
        ratios: see `measure_magnitudes`.

    Raises:
        InputError: if the file can't be written.
    """
    settings = replace(pipeline.settings, magnitude_ratios=tuple(round(ratio, 4) for ratio in ratios))
    try:
        write_json_atomic(path, asdict(settings))
    except OSError as error:
        raise InputError(f"{path} can't be written ({error.strerror}); calibrate a copy.") from error
    return path
