"""What makes a transformer faster, at a known error: block caches, attention kernels, compilation."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, get_args

from anytalker.errors import InputError
from anytalker.models.attention_backends import check_attention_backend

if TYPE_CHECKING:
    import torch

    from anytalker.models.transformer import AnyTalkerTransformer3DModel

Cache = Literal["none", "first-block", "magcache", "taylorseer"]
Decoder = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Acceleration:
    """What makes a transformer faster than the exact computation; see docs/speed.md for gains and prices.

    Attributes:
        cache: "first-block" leaves out all blocks but the first while the first one's contribution changes by less
            than the threshold; "magcache" leaves out whole steps while what the blocks add is known to keep its size,
            from ratios that `anytalker calibrate` has measured; "taylorseer" computes attention and feed-forward every
            few steps and extrapolates them in between.
        threshold: of "first-block" and "magcache", from 0 (never) to 1.
        attention: a diffusers attention backend for the self attention ("flash", "sage", …); None: `best_attention`.
        compiled: compile the blocks when they are first used; None: for videos with which it pays, see
            `compiling_pays`.
        decoder: precision of the autoencoder's decoder; "bfloat16" changes the frames a little. "auto" is "float32",
            but for the miniature "bfloat16" on processors that compute it in hardware.
    """

    cache: Cache = "none"
    threshold: float = 0.08
    attention: str | None = None
    compiled: bool | None = None
    decoder: Decoder = "auto"


COMPILING_PAYS = {1536: 160, 5120: 50}
"""Passes from which on compiling saves time, by the width of the transformer (docs/measurements/gpu.md)."""


def compiling_pays(transformer: AnyTalkerTransformer3DModel, passes: int, device: torch.device) -> bool:
    """Whether so many passes of one shape are faster with compiled blocks, compiling included.

    Never on a CPU, for sizes that nobody has measured, or where there is nothing to compile with.
    """
    config: Any = transformer.config
    least = COMPILING_PAYS.get(config.num_attention_heads * config.attention_head_dim)
    return device.type == "cuda" and least is not None and passes >= least and can_compile()


def can_compile() -> bool:
    """Whether torch finds what it compiles for a GPU with: triton, and a compiler of C."""
    compilers = (os.environ.get("CC", "cc"), "gcc", "clang")
    return find_spec("triton") is not None and any(map(shutil.which, compilers))


def compile_blocks(transformer: AnyTalkerTransformer3DModel, compiled: bool) -> None:
    """Compile a transformer's blocks when they are next used, or use them as they are again."""
    for block in transformer.blocks:
        if not compiled:
            block._compiled_call_impl = None
        elif block._compiled_call_impl is None:
            block.compile()


def best_attention(device: torch.device, dtype: torch.dtype) -> str | None:
    """The attention backend that is exact, fastest and installed; None: torch's own choice.

    On Hopper FlashAttention 3 if it is there; else, and on every other card, torch picks cuDNN's or FlashAttention 2 by
    itself. Backends that round more (sage) are used by request alone, and nothing is downloaded for it.
    """
    import torch

    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return None
    for name in _BY_CAPABILITY.get(torch.cuda.get_device_capability(device)[0], ()):
        try:
            check_attention_backend(name)
        except InputError:
            continue
        return name
    return None


_BY_CAPABILITY = {9: ("_flash_3",)}


def set_decoder_precision(vae: Any, decoder: Decoder, device: str | torch.device) -> Decoder:
    """Keep an autoencoder's decoder in that precision, in the layout that suits convolutions; the encoder stays.

    Args:
        vae: the autoencoder, changed in place.
        decoder: see `Acceleration`.
        device: where it will decode.

    Returns:
        `decoder`, or "bfloat16" if that is what "auto" has come to.
    """
    import torch

    ours = not hasattr(vae, "clear_cache")  # the miniature's, not Wan's
    if decoder == "auto" and ours and torch.device(device).type == "cpu" and processor_has_bfloat16():
        decoder = "bfloat16"
    if decoder != "bfloat16":
        return decoder
    for part in (vae.decoder, vae.upscaler if ours else vae.post_quant_conv):
        if part is None:
            continue
        part.to(torch.bfloat16)
        for parameter in part.parameters():
            if parameter.ndim >= 4:
                layout = torch.channels_last if parameter.ndim == 4 else torch.channels_last_3d
                parameter.data = parameter.data.to(memory_format=layout)
    return decoder


def processor_has_bfloat16() -> bool:
    """Whether the processor multiplies matrices of bfloat16 in hardware (AMX), several times as fast as float32."""
    import torch

    # Older versions of PyTorch have no such table; there it counts as not.
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("amx_bf16", False))


def accelerate(
    transformer: AnyTalkerTransformer3DModel,
    acceleration: Acceleration,
    magnitude_ratios: Sequence[float] = (),
) -> None:
    """Make a transformer faster; call it once, when it is where it belongs.

    Args:
        transformer: the model.
        acceleration: how.
        magnitude_ratios: the model's, for "magcache"; see `PipelineSettings`.

    Raises:
        InputError: for an unknown cache or attention backend, or one that can't be used here.
    """
    check_acceleration(acceleration, magnitude_ratios, transformer.split_rows.devices > 1)
    if acceleration.attention is not None:
        transformer.set_attention_backend(acceleration.attention)
    if acceleration.cache != "none":
        transformer.enable_cache(_cache_config(acceleration, magnitude_ratios))
    if acceleration.compiled:
        compile_blocks(transformer, True)


def check_acceleration(acceleration: Acceleration, magnitude_ratios: Sequence[float], together: bool) -> None:
    """Make sure that `accelerate` will accept it.

    Args:
        acceleration: how.
        magnitude_ratios: the model's.
        together: whether several processes make every video together.

    Raises:
        InputError: for an unknown cache or attention backend, or one that can't be used here.
    """
    if acceleration.decoder not in get_args(Decoder):
        raise InputError(f"decoder is {acceleration.decoder!r}; it must be one of {', '.join(get_args(Decoder))}.")
    if acceleration.cache not in get_args(Cache):
        raise InputError(f"cache is {acceleration.cache!r}; it must be one of {', '.join(get_args(Cache))}.")
    if acceleration.attention is not None:
        check_attention_backend(acceleration.attention)
    if acceleration.cache == "first-block" and together:
        raise InputError(
            "The first-block cache can't be used by several processes together: each would skip by itself."
        )
    if acceleration.cache == "magcache" and acceleration.compiled:
        raise InputError("--cache magcache can't be used with --compile: its blocks are never compiled; leave one out.")
    if acceleration.cache == "magcache" and not magnitude_ratios:
        raise InputError("MagCache needs ratios of the model that nobody has measured yet:  anytalker calibrate MODEL")


def set_attention_backend(transformer: AnyTalkerTransformer3DModel, name: str) -> None:
    """The transformer's own `set_attention_backend`."""
    transformer.set_attention_backend(name)


def fit_cache(transformer: AnyTalkerTransformer3DModel, steps: int) -> None:
    """Set the number of sampler steps in caches that count them."""
    config: Any = getattr(transformer, "_cache_config", None)
    measured = getattr(config, "measured", None)
    if measured is not None:
        config.num_inference_steps, config.mag_ratios = steps, ratios_for(measured, steps)


def ratios_for(measured: Sequence[float], steps: int) -> torch.Tensor:
    """Ratios (steps,) between neighbouring steps from those of another number of steps, whose steps are further apart
    or nearer: what the blocks add changes as much over the whole of the sampler."""
    import numpy as np
    import torch

    grown = np.cumsum(np.log([1.0, *measured[1:]]))
    places = np.linspace(0, len(grown) - 1, steps) if steps > 1 else np.zeros(1)
    sizes = np.interp(places, np.arange(len(grown)), grown)
    return torch.tensor(np.exp(np.diff(sizes, prepend=sizes[0])), dtype=torch.float32)


def tell_step(transformer: AnyTalkerTransformer3DModel, step: int) -> None:
    """Tell caches that count calls which step of the sampler the next one is: not every branch is there in all steps,
    and an interrupted video goes on in the middle. Call it within the `cache_context` of a window and branch."""
    if getattr(getattr(transformer, "_cache_config", None), "measured", None) is None:
        return
    first: Any = transformer.blocks[0]
    for hook in first._diffusers_hook.hooks.values():
        manager = getattr(hook, "state_manager", None)
        if manager is not None and hasattr(manager.get_state(), "step_index"):
            manager.get_state().step_index = step


def forget_cached(transformer: AnyTalkerTransformer3DModel, prefix: str) -> None:
    """Clear the caches whose names begin with `prefix`."""
    for module in transformer.modules():
        registry = getattr(module, "_diffusers_hook", None)
        for hook in registry.hooks.values() if registry else ():
            kept = getattr(getattr(hook, "state_manager", None), "_state_cache", {})
            for name in [name for name in kept if name.startswith(prefix)]:
                del kept[name]


def _cache_config(acceleration: Acceleration, magnitude_ratios: Sequence[float]) -> Any:
    import torch
    from diffusers.hooks import FirstBlockCacheConfig, MagCacheConfig, TaylorSeerCacheConfig

    if acceleration.cache == "taylorseer":
        return TaylorSeerCacheConfig(
            cache_interval=3,
            disable_cache_before_step=3,
            taylor_factors_dtype=torch.float32,
        )
    if acceleration.cache == "first-block":
        return FirstBlockCacheConfig(acceleration.threshold)
    ratios = torch.tensor(magnitude_ratios)
    config: Any = MagCacheConfig(acceleration.threshold, num_inference_steps=len(ratios), mag_ratios=ratios)
    config.measured = tuple(magnitude_ratios)  # `fit_cache` makes others of them
    return config
