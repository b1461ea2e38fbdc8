"""Low-rank adapters (LoRA) through `peft`: added, saved, merged."""

from __future__ import annotations

import copy
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from anytalker.errors import InputError
from anytalker.files import atomic_path
from anytalker.models.lora import ALPHA
from anytalker.training.config import LoraConfig


def add_adapter(transformer: nn.Module, config: LoraConfig) -> None:
    """Freeze a transformer and put trainable adapters on the layers of the given names.

    Raises:
        InputError: if no layer has such a name.
    """
    import peft

    transformer.requires_grad_(False)
    settings = peft.LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=list(config.layers))
    try:
        peft.inject_adapter_in_model(settings, transformer)
    except ValueError as error:
        raise InputError(f"lora.layers: {error}") from error


def save_adapter(transformer: nn.Module, path: Path) -> None:
    """Write the adapter's weights alone, as `anytalker.models.lora.merge_lora` reads them."""
    import peft

    state = peft.get_peft_model_state_dict(transformer)
    alpha = next(iter(transformer.peft_config.values())).lora_alpha  # type: ignore[union-attr, operator]
    with atomic_path(path) as partial:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, partial, {ALPHA: str(alpha)})


def merged(transformer: nn.Module) -> nn.Module:
    """A copy of the transformer with its adapters merged into the weights, without adapters."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    whole = copy.deepcopy(transformer)
    for name, module in list(whole.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent = whole.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], module.get_base_layer())
    if hasattr(whole, "peft_config"):
        del whole.peft_config
    return whole
