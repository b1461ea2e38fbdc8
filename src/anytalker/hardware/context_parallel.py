"""One video on several devices: each computes some rows of the token grid in all frames (diffusers' context parallel).

Whatever belongs to a place of the picture, its latents, positions and the faces on it, goes to the device of its row;
so everything but the self attention is local, Audio-Face Cross Attention too. For the self attention the devices
exchange heads against rows (Ulysses, Jacobs et al. 2023) and each attends for some of the heads over the whole video.
"""

from __future__ import annotations

from typing import Any

from anytalker.errors import InputError
from anytalker.models.transformer import AnyTalkerTransformer3DModel


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
