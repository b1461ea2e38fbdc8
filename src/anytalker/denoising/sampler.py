"""One sampler's history a stretch of video: any flow-matching scheduler of diffusers, copied, saved and restored."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _Unchecked(TorchFunctionMode):
    """Solves the sampler's 2×2 systems without checking that they can be solved: the check would wait for the GPU."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.linalg.solve:
            return torch.linalg.solve_ex(*args, **(kwargs or {}))[0]
        return function(*args, **(kwargs or {}))


class Sampler:
    """A scheduler with a history of its own.

    Args:
        scheduler: with its timesteps set; it is not changed.
        generator: for samplers that draw noise at their steps.
    """

    def __init__(self, scheduler: Any, generator: torch.Generator | None = None) -> None:
        self._begun = scheduler
        self._scheduler: Any = copy.copy(scheduler)
        for name, value in vars(scheduler).items():
            if isinstance(value, list):
                setattr(self._scheduler, name, list(value))
        draws = "generator" in inspect.signature(scheduler.step).parameters
        self._noise = {"generator": generator} if draws and generator is not None else {}

    def step(self, place: int, velocity: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """The latents after step number `place`, from 0, with the model's velocity."""
        timestep = self._scheduler.timesteps[place]
        with _Unchecked():
            return self._scheduler.step(velocity, timestep, latents, **self._noise, return_dict=False)[0]

    def estimate(self, place: int, velocity: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """The latents without their noise, as the velocity has it."""
        return latents - self._scheduler.sigmas[place] * velocity

    def state(self) -> dict[str, torch.Tensor]:
        """All that the steps have changed, as tensors: "name" or, of a list, "name.place"; "int.name" for numbers."""
        found: dict[str, torch.Tensor] = {}
        for name, value in vars(self._scheduler).items():
            begun = getattr(self._begun, name, None)
            for key, one, other in _parts(name, value, begun):
                if one is other or one is None:
                    continue
                if isinstance(one, torch.Tensor):
                    found[key] = one
                elif isinstance(one, int):
                    found[f"int.{key}"] = torch.tensor(one)
        return found

    def restore(self, tensors: Mapping[str, torch.Tensor], device: torch.device) -> None:
        """Continue from what `state` returned."""
        for key, tensor in tensors.items():
            value: Any = tensor.to(device)
            if key.startswith("int."):
                key, value = key.removeprefix("int."), int(tensor)
            name, _, place = key.partition(".")
            if place:
                getattr(self._scheduler, name)[int(place)] = value
            else:
                setattr(self._scheduler, name, value)


def _parts(name: str, value: Any, begun: Any) -> list[tuple[str, Any, Any]]:
    """A value with what it was at the beginning, each element of a list by itself."""
    if not isinstance(value, list):
        return [(name, value, begun)]
    before = begun if isinstance(begun, list) and len(begun) == len(value) else [None] * len(value)
    return [(f"{name}.{place}", one, other) for place, (one, other) in enumerate(zip(value, before, strict=True))]
