"""One video on several devices: each computes some rows of the token grid in all frames (diffusers' context parallel).

Whatever belongs to a place of the picture, its latents, positions and the faces on it, goes to the device of its row;
so everything but the self attention is local, Audio-Face Cross Attention too. For the self attention the devices
exchange heads against rows (Ulysses, Jacobs et al. 2023) and each attends for some of the heads over the whole video.
"""

from __future__ import annotations

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
    from torch import distributed

    count = devices
    if count is None:
        started = distributed.is_available() and distributed.is_initialized()
        count = distributed.get_world_size() if started else 2
    if count < 2:
        raise InputError(f"{count} device can't share a video; start several processes with  torchrun.")
    transformer.enable_parallelism(config=ContextParallelConfig(ulysses_degree=count))
