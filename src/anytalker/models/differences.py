"""What adapters change besides low-rank matrices, biases and norms above all, switched on and off with them.

Few-step adapters for Wan 2.1 bring such changes (names with diff and diff_b); peft and diffusers leave them out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


class Differences:
    """Tensors that are added to a module's parameters, by adapter.

    Args:
        module: whose parameters are changed; layers of peft in it are seen through.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.weights: dict[str, float] = {}
        """How strong each adapter is while it is active."""
        self._known: dict[str, dict[str, torch.Tensor]] = {}
        self._scales: dict[str, float] = {}
        self._base: dict[str, torch.Tensor] = {}
        self._fused: dict[str, torch.Tensor] = {}
        self._fused_adapters: set[str] = set()

    def add(self, adapter: str, differences: Mapping[str, torch.Tensor]) -> None:
        """Take in those of an adapter, by the parameters' names; nothing is changed yet."""
        self._known[adapter] = dict(differences)

    def of(self, adapter: str) -> Mapping[str, torch.Tensor]:
        """Those of an adapter."""
        return self._known.get(adapter, {})

    def keep(self, adapters: set[str]) -> None:
        """Forget all other adapters."""
        self._known = {name: tensors for name, tensors in self._known.items() if name in adapters}

    def show(self, scales: Mapping[str, float]) -> None:
        """Let adapters be active with these scales, and no others."""
        self._scales = dict(scales)
        self._place(1.0)

    def fuse(self, adapters: set[str], scale: float) -> None:
        """Make those of active adapters part of the parameters until `unfuse`, even if the adapters are forgotten."""
        for adapter in adapters & set(self._scales):
            for name, tensor in self.of(adapter).items():
                part = scale * self._scales[adapter] * tensor.float()
                self._fused[name] = self._fused[name] + part if name in self._fused else part
        self._fused_adapters |= adapters
        self._place(1.0)

    def unfuse(self) -> None:
        """Take back what was fused."""
        self._fused, self._fused_adapters = {}, set()
        self._place(1.0)

    @contextmanager
    def scaled(self, scale: float) -> Iterator[None]:
        """Within the context what is active and not fused counts `scale` times."""
        self._place(scale)
        try:
            yield
        finally:
            self._place(1.0)

    @torch.no_grad()
    def _place(self, scale: float) -> None:
        active = {name: value for name, value in self._scales.items() if name not in self._fused_adapters}
        touched = {*self._base, *self._fused, *(name for one in active for name in self.of(one))}
        for name in touched:
            parameter = _parameter(self.module, name)
            base = self._base.setdefault(name, parameter.detach().clone())
            parts = [self.of(one)[name] * (scale * value) for one, value in active.items() if name in self.of(one)]
            parts += [self._fused[name]] if name in self._fused else []
            if not parts:
                parameter.copy_(self._base.pop(name))
                continue
            parameter.copy_(base.float() + sum(part.to(base.device, torch.float32) for part in parts))


def _parameter(module: nn.Module, name: str) -> nn.Parameter:
    path, _, kind = name.rpartition(".")
    layer = module.get_submodule(path)
    return getattr(getattr(layer, "base_layer", layer), kind)
