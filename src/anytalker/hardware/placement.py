"""Where a pipeline's components are while a video is made, and how their weights are stored: memory against time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from anytalker.errors import InputError

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from torch import nn

Memory = Literal["high", "balanced", "low"]
"""high: everything on the device. balanced: one part at a time. low: the transformer and the encoders layer by layer,
the next one fetched while the last one computes. All three give the same numbers."""

Weights = Literal["full", "float8", "int8"]
"""full: as loaded. float8: the large matrices are kept in 8 bits and widened when used (diffusers' layerwise casting).
int8: in 8-bit integers with a scale a row (torchao). The last two change the numbers a little."""

Pipeline = TypeVar("Pipeline", bound="DiffusionPipeline")

STREAMED = ("text_encoder", "image_encoder", "transformer")


@dataclass(frozen=True)
class Placement:
    """Memory against time: `memory` and `weights` (of the transformer's blocks), see `Memory` and `Weights`.

    Raises:
        InputError: for another word.
    """

    memory: Memory = "high"
    weights: Weights = "full"

    def __post_init__(self) -> None:
        """Check both."""
        for name, known in (("memory", get_args(Memory)), ("weights", get_args(Weights))):
            if getattr(self, name) not in known:
                raise InputError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(known)}.")


def place(pipeline: Pipeline, device: str | torch.device, placement: Placement = Placement()) -> Pipeline:
    """Put a pipeline's parts where they belong; call it once, after loading.

    Args:
        pipeline: whose parts are on the CPU.
        device: where videos are made. On the CPU nothing can be moved away, so that `memory` changes nothing there.
        placement: how.

    Returns:
        The pipeline.

    Raises:
        InputError: if something that it needs is not installed.
    """
    import torch

    target = torch.device(device)
    if placement.weights == "float8":
        pipeline.transformer.enable_layerwise_casting(torch.float8_e4m3fn, pipeline.transformer.dtype)
    elif placement.weights == "int8":
        _to_int8(pipeline.transformer)
    if target.type == "cpu" or placement.memory == "high":
        return pipeline.to(target)
    pipeline.memory = placement.memory
    if placement.memory == "balanced":
        pipeline.enable_model_cpu_offload(device=target)
        return pipeline
    return stream_layers(pipeline, target)


def stream_layers(pipeline: Pipeline, device: torch.device) -> Pipeline:
    """Keep the transformer's blocks and the encoders' layers on the CPU; each is on the device while it computes.

    On a GPU the next one comes while the last one computes. Autoencoder and audio features are small and stay.
    """
    from diffusers.hooks import apply_group_offloading
    from torch import nn

    ahead = {"use_stream": device.type == "cuda", "non_blocking": device.type == "cuda"}
    for name, part in pipeline.components.items():
        if not isinstance(part, nn.Module):
            continue
        if name not in STREAMED:
            part.to(device)
        elif name == "transformer":
            apply_group_offloading(part, device, offload_type="block_level", num_blocks_per_group=1, **ahead)
        else:
            apply_group_offloading(part, device, offload_type="leaf_level", **ahead)
    return pipeline


def _to_int8(transformer: nn.Module) -> None:
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise InputError("int8 weights need torchao:  pip install 'anytalker[quantize]'") from error
    blocks: Any = transformer.get_submodule("blocks")
    quantize_(blocks, Int8WeightOnlyConfig(), filter_fn=_is_matrix)


def _is_matrix(module: nn.Module, name: str) -> bool:
    from anytalker.models.transformer import WHOLE_LAYERS

    return type(module).__name__ == "Linear" and re.search(WHOLE_LAYERS, name) is None
