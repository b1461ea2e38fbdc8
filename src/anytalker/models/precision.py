"""Which of a transformer's weights stay in float32 whatever the rest of it is held in.

Time embedding, modulation and norms are kept as diffusers' Wan keeps them, the projection of the time step as the
release does. The gains of the norms of queries and keys are not among them: torch has no fused kernel for both types.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)

FLOAT32_MODULES = [
    "rope",
    "time_embedder",
    "time_proj",
    "scale_shift_table",
    "norm",
    "norm1",
    "norm2",
    "norm3",
    "norm_people",
]
"""Parts of names; a list, as diffusers takes nothing else for one."""


def stays_float32(name: str) -> bool:
    """Whether a weight of an `AnyTalkerTransformer3DModel` stays in float32, by its name."""
    return any(part in FLOAT32_MODULES for part in name.split("."))


def cast_transformer(transformer: Module, dtype: torch.dtype) -> Module:
    """Hold a transformer's weights in another floating point type, but for those that stay in float32.

    The tables of rotary positions, which are no weights, are left as they are. The result is that of
    `from_pretrained(torch_dtype=dtype)`.

    Args:
        transformer: changed in place.
        dtype: such as torch.bfloat16.

    Returns:
        The same transformer.
    """
    for name, parameter in transformer.named_parameters():
        parameter.data = parameter.data.to(torch.float32 if stays_float32(name) else dtype)
    return transformer
