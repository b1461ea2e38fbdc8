"""Splitting the token grid's rows among devices that share a video, and joining the results."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from anytalker.errors import InputError


class RowsOfThisDevice(nn.Module):
    """Rows of a grid, all of them until `anytalker.hardware.context_parallel` puts diffusers' splitting in front."""

    def __init__(self) -> None:
        super().__init__()
        self.devices = 1

    def check(self, rows: int) -> None:
        """Raise an `InputError` unless so many token rows can be shared out evenly."""
        if rows % self.devices:
            raise InputError(
                f"The video is {16 * rows} pixels high; {self.devices} devices can share heights that are multiples of "
                f"{16 * self.devices}. Give a picture of another shape, or other devices."
            )

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Split (B, C, f, rows, n) along the rows."""
        return rows


class RowsOfAllDevices(nn.Module):
    """The rows that every device has computed, put together by diffusers' gathering."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Join (B, C, f, own rows, n) along the rows."""
        return rows


def split_latents(split: nn.Module, latents: torch.Tensor) -> torch.Tensor:
    """The own rows of latents (B, C, f, h, w), two of which make a row of tokens."""
    pairs = latents.unflatten(3, (-1, 2)).flatten(4)
    return split(pairs).unflatten(4, (2, -1)).flatten(3, 4)


def join_latents(join: nn.Module, latents: torch.Tensor) -> torch.Tensor:
    """All rows of latents (B, C, f, own h, w)."""
    pairs = latents.unflatten(3, (-1, 2)).flatten(4)
    return join(pairs).unflatten(4, (2, -1)).flatten(3, 4)


def split_rotary(
    split: nn.Module, rotary: tuple[torch.Tensor, torch.Tensor], grid: tuple[int, int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The own rows of rotary positions (1, f·h·w, 1, d) of a token grid (f, h, w)."""
    cosine, sine = (part.unflatten(1, grid).flatten(3)[None] for part in rotary)
    width, channels = grid[2], rotary[0].shape[-1]

    def own(part: torch.Tensor) -> torch.Tensor:
        return split(part)[0].unflatten(3, (width, 1, channels)).flatten(1, 3)

    return own(cosine), own(sine)


def share_rows(transformer: Any, config: Any, cp_plan: Any = None) -> None:
    """Let processes share every call of a transformer, by a configuration of diffusers; see `enable_parallelism`.

    Args:
        transformer: an `AnyTalkerTransformer3DModel` on the device of this process.
        config: `ContextParallelConfig(ulysses_degree=devices)`, or a `ParallelConfig` that holds one.
        cp_plan: None alone is possible.

    Raises:
        InputError: for another configuration, without a process group, with too few processes, if the heads can't be
            shared out evenly, or if the transformer is shared already.
    """
    from diffusers.hooks import apply_context_parallel
    from diffusers.models._modeling_parallel import ParallelConfig
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh

    shared = _ulysses(config, cp_plan)
    count, heads = shared.ulysses_degree, transformer.config.num_attention_heads
    if heads % count:
        raise InputError(f"The model has {heads} attention heads, which {count} devices can't share out evenly.")
    if transformer.split_rows.devices > 1:
        raise InputError(f"{transformer.split_rows.devices} devices share this transformer already; load it again.")
    if not (distributed.is_available() and distributed.is_initialized()):
        raise InputError(
            "Context parallel needs several processes: start with  torchrun --nproc-per-node 2 -m anytalker"
        )
    if count > distributed.get_world_size():
        raise InputError(
            f"{count} devices can't share a video of {distributed.get_world_size()} processes; start more."
        )
    device = transformer.device
    mesh = shared.mesh or init_device_mesh(device.type, shared.mesh_shape, mesh_dim_names=shared.mesh_dim_names)
    whole = ParallelConfig(context_parallel_config=shared)
    whole.setup(distributed.get_rank(), distributed.get_world_size(), device, mesh=mesh)
    apply_context_parallel(transformer, shared, transformer._cp_plan)
    transformer._parallel_config = whole
    transformer.split_rows.devices = count
    for block in transformer.blocks:
        block.attn1.parallel_config = whole


def _ulysses(config: Any, cp_plan: Any) -> Any:
    """The `ContextParallelConfig` of a configuration, if it is one that splits rows and exchanges heads."""
    shared = getattr(config, "context_parallel_config", config)
    if cp_plan is not None:
        raise InputError("cp_plan can't be chosen: what belongs to a row of the picture goes to that row's device.")
    if not hasattr(shared, "ulysses_degree") or getattr(config, "tensor_parallel_config", None) is not None:
        raise InputError(
            f"{type(config).__name__} can't be used with this transformer; use ContextParallelConfig(ulysses_degree=2)."
        )
    unknown = {"ring_degree": shared.ring_degree > 1, "ulysses_anything": shared.ulysses_anything}
    for name in (name for name, given in unknown.items() if given):
        raise InputError(
            f"{name} is {getattr(shared, name)!r}; devices share rows of the picture alike, and attend by heads: use "
            "ulysses_degree alone."
        )
    return shared
