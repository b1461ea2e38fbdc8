"""What an unsharded run resumes from: trained weights, optimizer, averages and random states."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from anytalker.errors import InputError

_WEIGHTS = "weights.safetensors"
_AVERAGE = "average.safetensors"


class WholeState:
    """The state of a run whose processes all hold the whole model; what is frozen is in the run's model already.

    Args:
        accelerator: has prepared the optimizer.
        model: not wrapped; its parameters that require gradients are what is trained.
        average: of them.
    """

    def __init__(self, accelerator: Accelerator, model: nn.Module, average: EMAModel) -> None:
        self.accelerator, self.average = accelerator, average
        self.trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
        accelerator.register_save_state_pre_hook(lambda models, weights, folder: weights.clear())
        accelerator.register_load_state_pre_hook(lambda models, folder: models.clear())

    def save(self, folder: Path) -> None:
        """Write everything into `folder`."""
        self.accelerator.save_state(str(folder))
        if self.accelerator.is_main_process:
            save_file({name: value.detach().contiguous() for name, value in self.trained.items()}, folder / _WEIGHTS)
            save_average(self.average, folder)

    def load(self, folder: Path) -> None:
        """Read everything that `save` wrote, with any number of processes.

        Raises:
            InputError: if it is of an earlier version.
            ValueError: if it is of another model.
        """
        if not (folder / _WEIGHTS).exists() and (folder / "model.safetensors").exists():
            raise InputError(f"The checkpoint {folder} is of an earlier version; go on with that one, or begin anew.")
        weights = load_file(folder / _WEIGHTS)
        shapes = {name: value.shape for name, value in self.trained.items()}
        if {name: value.shape for name, value in weights.items()} != shapes:
            raise ValueError("its weights are of another model")
        self.accelerator.load_state(str(folder))
        with torch.no_grad():
            for name, value in self.trained.items():
                value.copy_(weights[name])
        load_average(self.average, folder)


def save_average(average: EMAModel, folder: Path) -> None:
    """Write averaged weights into a checkpoint's folder."""
    tensors = {str(index): value.contiguous() for index, value in enumerate(average.shadow_params)}
    save_file(tensors, folder / _AVERAGE, {"steps": str(average.optimization_step)})


def load_average(average: EMAModel, folder: Path) -> None:
    """Read what `save_average` wrote; the parameters must be the same ones in the same order.

    Raises:
        ValueError: if they aren't.
    """
    with safe_open(folder / _AVERAGE, "pt") as file:
        values = [file.get_tensor(str(index)) for index in range(len(file.keys()))]
        steps = int(file.metadata()["steps"])
    if [value.shape for value in values] != [value.shape for value in average.shadow_params]:
        raise ValueError("its average is of another model")
    average.shadow_params, average.optimization_step = values, steps
