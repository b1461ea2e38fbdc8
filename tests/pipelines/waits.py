"""Counts, without a GPU, how often a program would wait for one: tensors without data stand for those on it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_READS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal", "aten::_linalg_check_errors")
_COPIES = ("aten::_to_copy", "aten::copy_")


class Waits(TorchDispatchMode):
    """Counts what would wait for the GPU: values that are read, systems that are solved, copies to it and from it.

    Values can't be read from tensors of the device "meta"; something likely is given in their place.

    Attributes:
        seen: how often, by operation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count, and run, an operation."""
        name, kwargs = function._schema.name, kwargs or {}
        if name not in _READS + _COPIES:
            return function(*args, **kwargs)
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        on_gpu = [one for one in given if one.is_meta]
        target = kwargs.get("device", args[0].device if name == "aten::copy_" else None)
        if on_gpu and name in _COPIES and target is not None and torch.device(target).type == "cpu":
            self.seen["copy from the device"] += 1
            return torch.ones(on_gpu[0].shape, dtype=kwargs.get("dtype") or on_gpu[0].dtype)
        if on_gpu and name in _READS:
            self.seen[name] += 1
            if name == "aten::_local_scalar_dense":
                return {torch.bool: True, torch.int64: 0}.get(on_gpu[0].dtype, 1.0)
            if name == "aten::nonzero":
                return torch.zeros((1, on_gpu[0].ndim), dtype=torch.long, device="meta")
        arrives = name in _COPIES and target is not None and torch.device(target).type == "meta"
        if arrives and not all(one.is_meta for one in given):
            self.seen["copy to the device"] += 1
        return function(*args, **kwargs)
