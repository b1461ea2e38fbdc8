"""Loading a pipeline and preparing it for its device: precision, adapters, caches, memory, several devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from anytalker.errors import InputError
from anytalker.hardware.acceleration import (
    Acceleration,
    accelerate,
    best_attention,
    check_acceleration,
    set_decoder_precision,
)
from anytalker.hardware.context_parallel import enable_context_parallel
from anytalker.hardware.placement import Placement, place
from anytalker.loading.components import model_settings
from anytalker.models.lora import merge_lora
from anytalker.pipelines.loading_options import LoadingOptions
from anytalker.pipelines.pipeline import AnyTalkerPipeline

_SMALL = "tiny"
"""Name in the settings of the miniature and of models trained from it: too small for bfloat16 to help."""


def working_dtype(model: str, device: str) -> torch.dtype:
    """Floating point type of the large parts: bfloat16 for full-size models on a GPU, else float32."""
    if device == "cpu":
        return torch.float32
    try:
        name = model_settings(model).name
    except InputError:  # what is wrong with the model is said when it is loaded
        name = ""
    return torch.float32 if name == _SMALL else torch.bfloat16


def load_pipeline(
    model: str,
    device: str,
    placement: Placement = Placement(),
    acceleration: Acceleration = Acceleration(),
    adapters: Sequence[tuple[Path, float]] = (),
    together: bool = False,
) -> AnyTalkerPipeline:
    """Load a model and put it where videos are made.

    Args:
        model: name or path, see `find_model`.
        device: such as "cpu" or "cuda:0".
        placement: what is on the device at a time, and how the transformer's weights are kept.
        acceleration: what makes it faster than exact.
        adapters: files of low-rank adapters to merge in, and their strengths.
        together: share every video with the other processes of this run, which have joined.

    Raises:
        InputError: if there is no such model, or two of its options exclude each other.
    """
    if together and acceleration.cache != "none" and placement.memory == "low":
        raise InputError("--cache can't be used with --memory low by several processes; leave one of them out.")
    # What can be wrong is found before the model is loaded, which may take minutes.
    check_acceleration(acceleration, model_settings(model).magnitude_ratios, together)
    for path, _ in adapters:
        _check_adapter(path)
    pipeline = AnyTalkerPipeline.from_pretrained(model, torch_dtype=working_dtype(model, device))
    pipeline.set_progress_bar_config(disable=True)  # who loads it so has a display of their own
    for path, strength in adapters:
        merge_lora(pipeline.transformer, path, strength)
    acceleration = replace(acceleration, decoder=set_decoder_precision(pipeline.vae, acceleration.decoder, device))
    if acceleration.attention is None and not together:
        attention = best_attention(torch.device(device), pipeline.transformer.patch_embedding.weight.dtype)
        acceleration = replace(acceleration, attention=attention)
    ratios = pipeline.settings.magnitude_ratios
    if together:
        place(pipeline, device, placement)
        enable_context_parallel(pipeline.transformer)
        accelerate(pipeline.transformer, acceleration, ratios)
    else:
        # Caches first: streamed layers take hooks of theirs off again, and with them what came later.
        accelerate(pipeline.transformer, acceleration, ratios)
        place(pipeline, device, placement)
    # What was measured: exact blocks that stay on one card while the video is denoised.
    plain = placement == Placement(placement.memory) and placement.memory != "low" and acceleration.cache == "none"
    pipeline.compile_where_it_pays = acceleration.compiled is None and plain and not together
    pipeline.variant = _variant(placement, acceleration, adapters)
    return pipeline


def load_for(
    model: str, device: str, options: LoadingOptions = LoadingOptions(), together: bool = False
) -> AnyTalkerPipeline:
    """The same with options as they were asked for; see `load_pipeline`."""
    return load_pipeline(model, device, options.placement, acceleration_of(options), options.lora, together)


def acceleration_of(options: LoadingOptions) -> Acceleration:
    """The acceleration that the options ask for."""
    return Acceleration(options.cache, options.cache_threshold, options.attention, options.compile, options.decoder)


def check_loading(options: LoadingOptions, together: bool = False) -> None:
    """Refuse options that exclude each other before anything is loaded; the model's own limits are checked later.

    Args:
        options: how a model is to be loaded.
        together: whether several processes share every video.

    Raises:
        InputError: if two options exclude each other, or an adapter is not there.
    """
    for path, _ in options.lora:
        if not path.exists():
            raise InputError(f"There is no adapter {path}. Check the path.")
    if options.attention is None:  # which kernels there are, only diffusers knows
        check_acceleration(acceleration_of(options), (1.0,), together)


def _check_adapter(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"There is no adapter {path}. Check the path.")
    try:
        with safe_open(path, "pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} can't be read as safetensors: {error}.") from error


def _variant(
    placement: Placement, acceleration: Acceleration, adapters: Sequence[tuple[Path, float]]
) -> dict[str, object]:
    """The loading options that change a video, for its record; defaults are left out."""
    variant: dict[str, object] = {}
    if placement.weights != "full":
        variant["weights"] = placement.weights
    if acceleration.cache != "none":
        variant["cache"] = acceleration.cache
        if acceleration.cache != "taylorseer":
            variant["cache_threshold"] = acceleration.threshold
    if acceleration.attention is not None:
        variant["attention"] = acceleration.attention
    if acceleration.compiled:
        variant["compiled"] = True
    if acceleration.decoder != Acceleration.decoder:
        variant["decoder"] = acceleration.decoder
    if adapters:
        variant["lora"] = [f"{path.name}:{strength:g}" for path, strength in adapters]
    return variant
