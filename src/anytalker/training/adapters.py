"""Low-rank adapters (LoRA) through `peft`: added and saved."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from anytalker.errors import InputError
from anytalker.files import atomic_path
from anytalker.models.lora import ALPHA
from anytalker.models.precision import stays_float32
from anytalker.models.transformer import WHOLE_LAYERS
from anytalker.training.config import LoraConfig


def add_adapter(transformer: nn.Module, config: LoraConfig, half: bool = False) -> None:
    """Freeze a transformer and put trainable adapters on the layers of the given names.

    `WHOLE_LAYERS` get none: their weights are used without their layer, so an adapter there would learn nothing.

    Args:
        transformer: changed in place.
        config: which adapters.
        half: hold the frozen matrices in bfloat16, which training in bfloat16 makes of them anyway; the adapters, and
            what `stays_float32` names, stay as they are.

    Raises:
        InputError: if no layer has such a name.
    """
    import peft

    transformer.requires_grad_(False)
    chosen = tuple(f".{layer}" for layer in config.layers)
    whole = [
        name for name, _ in transformer.named_modules() if re.search(WHOLE_LAYERS, name) and f".{name}".endswith(chosen)
    ]
    settings = peft.LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=list(config.layers), exclude_modules=whole or None
    )
    try:
        peft.inject_adapter_in_model(settings, transformer)
    except ValueError as error:
        raise InputError(f"lora.layers: {error}") from error
    if half:
        for name, value in transformer.named_parameters():
            if value.ndim > 1 and not value.requires_grad and not stays_float32(name):
                value.data = value.data.to(torch.bfloat16)


def save_adapter(transformer: nn.Module, path: Path) -> None:
    """Write the adapter's weights alone, as `anytalker.models.lora.merge_lora` reads them."""
    import peft

    state = peft.get_peft_model_state_dict(transformer)
    alpha = next(iter(transformer.peft_config.values())).lora_alpha  # type: ignore[union-attr, operator]
    with atomic_path(path) as partial:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, partial, {ALPHA: str(alpha)})
