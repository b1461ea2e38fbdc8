"""Checkpoints of sharded runs (`torch.distributed.checkpoint`), written while the run goes on."""

from __future__ import annotations

from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import distributed, nn

_FOLDER = "sharded"
_WRITING = timedelta(hours=2)
"""How long processes wait for the one whose disk is slowest; they train meanwhile."""


class ShardedState:
    """What a sharded run resumes from, without what is frozen; every process writes and reads its own part.

    Args:
        model: sharded.
        optimizer: of its parameters.
        average: of its parameters.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, average: EMAModel) -> None:
        self.model, self.optimizer, self.average = model, optimizer, average
        # A group of its own: what is written beside the training must not mix with what the training sends.
        self._group = distributed.new_group(backend="gloo", timeout=_WRITING) if distributed.is_initialized() else None

    def save(self, folder: Path) -> Future[Any]:
        """Copy everything, and begin to write the copy below `folder`; it is whole once the result is there."""
        from torch.distributed.checkpoint import async_save

        place = str(folder / _FOLDER)
        state, _ = self._state()
        saving: Any = async_save(state, checkpoint_id=place, process_group=self._group, no_dist=self._group is None)
        return saving

    def load(self, folder: Path) -> None:
        """Read everything that `save` wrote, with any number of processes."""
        from torch.distributed.checkpoint import load
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_state_dict

        state, settings = self._state()
        load(state, checkpoint_id=str(folder / _FOLDER), process_group=self._group, no_dist=self._group is None)
        options = StateDictOptions(ignore_frozen_params=True, strict=False, flatten_optimizer_state_dict=True)
        values = {"model_state_dict": state["model"], "optim_state_dict": state["optimizer"] | settings}
        set_state_dict(self.model, self.optimizer, **values, options=options)
        self.average.optimization_step = int(state["average_steps"])

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What is written, and beside it the optimizer's settings of every parameter, a dozen each."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

        # Flat, so that it does not matter how many groups of parameters the optimizer has.
        options = StateDictOptions(ignore_frozen_params=True, flatten_optimizer_state_dict=True)
        model, optimizer = get_state_dict(self.model, self.optimizer, options=options)
        # The configuration has the settings already, and so many small values would take longest to write.
        settings = {name: value for name, value in optimizer.items() if name.startswith("param_groups.")}
        state = {
            "model": model,
            "optimizer": {name: value for name, value in optimizer.items() if name not in settings},
            "average": {str(index): value for index, value in enumerate(self.average.shadow_params)},
            "average_steps": torch.tensor(self.average.optimization_step),
        }
        return state, settings
