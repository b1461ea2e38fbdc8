"""FSDP2: weights, optimizer and averages sharded over processes, and checkpoints of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.utils import DistributedType
from diffusers.training_utils import EMAModel
from torch import nn

_FOLDER = "sharded"


def fsdp_plugin() -> FullyShardedDataParallelPlugin:
    """How models are sharded: each transformer block on its own, gathered for its turn only."""
    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        reshard_after_forward=True,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["AnyTalkerTransformerBlock"],
    )


def allow_on_cpu(accelerator: Accelerator, plugin: FullyShardedDataParallelPlugin) -> None:
    """Shard on CPUs, too, where accelerate would silently not."""
    if accelerator.state.distributed_type == DistributedType.MULTI_CPU:
        accelerator.state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = plugin


class ShardedState:
    """What a sharded run resumes from, without what is frozen; every process writes and reads its own part.

    Args:
        model: sharded.
        optimizer: of its parameters.
        average: of its parameters.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, average: EMAModel) -> None:
        self.model, self.optimizer, self.average = model, optimizer, average

    def save(self, folder: Path) -> None:
        """Write everything below `folder`."""
        from torch.distributed.checkpoint import save

        save(self._state(), checkpoint_id=str(folder / _FOLDER))

    def load(self, folder: Path) -> None:
        """Read everything that `save` wrote, with any number of processes."""
        from torch.distributed.checkpoint import load
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_state_dict

        state = self._state()
        load(state, checkpoint_id=str(folder / _FOLDER))
        options = StateDictOptions(ignore_frozen_params=True, strict=False)
        values = {"model_state_dict": state["model"], "optim_state_dict": state["optimizer"]}
        set_state_dict(self.model, self.optimizer, **values, options=options)
        self.average.optimization_step = int(state["average_steps"])

    def whole_model(self) -> dict[str, torch.Tensor]:
        """The model's tensors, gathered in the main process's memory; empty in the others."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state: dict[str, Any] = get_model_state_dict(self.model, options=options)
        return state

    def _state(self) -> dict[str, Any]:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

        options = StateDictOptions(ignore_frozen_params=True)
        model, optimizer = get_state_dict(self.model, self.optimizer, options=options)
        return {
            "model": model,
            "optimizer": optimizer,
            "average": {str(index): value for index, value in enumerate(self.average.shadow_params)},
            "average_steps": torch.tensor(self.average.optimization_step),
        }
