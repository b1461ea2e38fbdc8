"""Speed at a stated price: caches of blocks that hardly change from step to step, attention kernels, compilation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from anytalker.errors import InputError

if TYPE_CHECKING:
    from anytalker.models.transformer import AnyTalkerTransformer3DModel

Cache = Literal["none", "first-block", "taylorseer"]


@dataclass(frozen=True)
class Acceleration:
    """What makes a transformer faster than the exact computation; see docs/speed.md for gains and prices.

    Attributes:
        cache: "first-block" leaves out all blocks but the first while the first one's contribution changes by less
            than the threshold; "taylorseer" computes attention and feed-forward every few steps and extrapolates them
            in between.
        threshold: of "first-block", from 0 (never) to 1.
        attention: a diffusers attention backend for the self attention ("flash", "sage", …); None: torch's own.
        compiled: compile the blocks when they are first used.
    """

    cache: Cache = "none"
    threshold: float = 0.08
    attention: str | None = None
    compiled: bool = False


def accelerate(transformer: AnyTalkerTransformer3DModel, acceleration: Acceleration) -> None:
    """Make a transformer faster; call it once, when it is where it belongs.

    Raises:
        InputError: for an unknown cache or attention backend, or one that can't be used here.
    """
    if acceleration.cache not in get_args(Cache):
        raise InputError(f"cache is {acceleration.cache!r}; it must be one of {', '.join(get_args(Cache))}.")
    if acceleration.attention is not None:
        set_attention_backend(transformer, acceleration.attention)
    if acceleration.cache == "first-block" and transformer.split_rows.devices > 1:
        raise InputError(
            "The first-block cache can't be used by several processes together: each would skip by itself."
        )
    if acceleration.cache != "none":
        transformer.enable_cache(_cache_config(acceleration))
    if acceleration.compiled:
        for block in transformer.blocks:
            block.compile()


def set_attention_backend(transformer: AnyTalkerTransformer3DModel, name: str) -> None:
    """Compute the self attention with another of diffusers' backends.

    Raises:
        InputError: if there is no such backend, or it can't be used here.
    """
    from diffusers.models.attention_dispatch import AttentionBackendName, _check_attention_backend_requirements

    known = sorted(backend.value for backend in AttentionBackendName)
    if name not in known:
        raise InputError(f"There is no attention backend {name!r}; there are {', '.join(known)}.")
    try:
        _check_attention_backend_requirements(AttentionBackendName(name))
    except (RuntimeError, ImportError, ValueError) as error:
        raise InputError(f"The attention backend {name} can't be used here: {error}") from error
    for block in transformer.blocks:
        attention: Any = block.attn1
        attention.backend = name


def forget_cached(transformer: AnyTalkerTransformer3DModel, prefix: str) -> None:
    """Let go of what caches keep under names that begin so."""
    for module in transformer.modules():
        registry = getattr(module, "_diffusers_hook", None)
        for hook in registry.hooks.values() if registry else ():
            kept = getattr(getattr(hook, "state_manager", None), "_state_cache", {})
            for name in [name for name in kept if name.startswith(prefix)]:
                del kept[name]


def _cache_config(acceleration: Acceleration) -> Any:
    import torch
    from diffusers.hooks import FirstBlockCacheConfig, TaylorSeerCacheConfig
    from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry

    from anytalker.models.transformer import AnyTalkerTransformerBlock

    if acceleration.cache == "first-block":
        metadata = TransformerBlockMetadata(return_hidden_states_index=0)
        TransformerBlockRegistry.register(AnyTalkerTransformerBlock, metadata)
        return FirstBlockCacheConfig(acceleration.threshold)
    return TaylorSeerCacheConfig(
        cache_interval=3,
        disable_cache_before_step=3,
        taylor_factors_dtype=torch.float32,
        cache_identifiers=[r"blocks\.\d+\.(attn1|attn2|attn_people|ffn)"],
    )
