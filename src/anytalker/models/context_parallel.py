"""One video on several devices: each computes some rows of the token grid in all frames (diffusers' context parallel).

Whatever belongs to a place of the picture, its latents, positions and the faces on it, goes to the device of its row;
so everything but the self attention is local, Audio-Face Cross Attention too. For the self attention the devices
exchange heads against rows (Ulysses, Jacobs et al. 2023) and each attends for some of the heads over the whole video.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from anytalker.errors import InputError

if TYPE_CHECKING:
    from anytalker.models.transformer import AnyTalkerTransformer3DModel


class RowsOfThisDevice(nn.Module):
    """Rows of a grid, all of them until `enable_context_parallel` puts diffusers' splitting in front."""

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


def enable_context_parallel(transformer: AnyTalkerTransformer3DModel, devices: int | None = None) -> None:
    """Spread a transformer's work over the processes of this run, all of which must then call it alike.

    Args:
        transformer: on the device of this process.
        devices: processes that share a video; None: all.

    Raises:
        InputError: if there is no process group, or the heads can't be shared out evenly.
    """
    from diffusers import ContextParallelConfig
    from diffusers.hooks import apply_context_parallel
    from diffusers.models._modeling_parallel import ParallelConfig
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh

    if not (distributed.is_available() and distributed.is_initialized()):
        raise InputError(
            "Context parallel needs several processes: start with  torchrun --nproc-per-node 2 -m anytalker"
        )
    count = devices or distributed.get_world_size()
    heads = transformer.config.num_attention_heads
    if count < 2 or heads % count:
        raise InputError(f"The model has {heads} attention heads, which {count} devices can't share out evenly.")
    device = transformer.device
    config = ContextParallelConfig(ulysses_degree=count)
    mesh = init_device_mesh(device.type, config.mesh_shape, mesh_dim_names=config.mesh_dim_names)
    whole = ParallelConfig(context_parallel_config=config)
    whole.setup(distributed.get_rank(), distributed.get_world_size(), device, mesh=mesh)
    plan: Any = transformer._cp_plan
    apply_context_parallel(transformer, config, plan)
    transformer.split_rows.devices = count
    for block in transformer.blocks:
        attention: Any = block.attn1
        attention.parallel_config = whole
