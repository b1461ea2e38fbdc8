"""What operations on tensors allocate, counted while they run, with data or with shapes alone."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map


class AllocationCounter(TorchDispatchMode):
    """Counts the bytes of tensors that are made, and let go, while it is active.

    What an operation makes of tensors without data depends on their shapes alone. Layers repeat each other, and torch
    works shapes out in Python, slowly, so each case is worked out once.

    Attributes:
        peak: most bytes that were alive at any moment.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._alive = 0
        self._known: dict[int, Any] = {}
        self._cases: dict[tuple[Any, ...], Any] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it made."""
        tensors: list[torch.Tensor] = []
        case = (function, _described(args, tensors), _described(tuple((kwargs or {}).items()), tensors))
        given = {id(tensor.untyped_storage()) for tensor in tensors}
        if case in self._cases:
            made = tree_map(lambda one: one.empty() if isinstance(one, _Outline) else one, self._cases[case])
        else:
            made = function(*args, **(kwargs or {}))
            if not function._schema.is_mutable and all(tensor.is_meta for tensor in tensors) and _is_new(made, given):
                self._cases[case] = tree_map(lambda one: one if one is None else _Outline.of(one), made)
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if id(storage) not in self._known and id(storage) not in given:
                    self._count(storage)
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()

        def forget(_: Any) -> None:
            self._known.pop(key, None)
            self._alive -= size

        self._known[key] = weakref.ref(storage, forget)
        self._alive += size
        self.peak = max(self.peak, self._alive)


@dataclass(frozen=True)
class _Outline:
    """All that there is to a tensor without data."""

    size: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: torch.Tensor) -> _Outline:
        return cls(tensor.size(), tensor.stride(), tensor.dtype)

    def empty(self) -> torch.Tensor:
        return torch.empty_strided(self.size, self.stride, dtype=self.dtype, device="meta")


def _described(value: Any, tensors: list[torch.Tensor]) -> Any:
    """All that what is made of an argument depends on, where there is no data; tensors in it are added to `tensors`."""
    if isinstance(value, torch.Tensor):
        tensors.append(value)
        return value.size(), value.stride(), value.dtype, value.device
    if isinstance(value, (tuple, list)):
        return tuple([_described(one, tensors) for one in value])
    return type(value), value


def _is_new(made: Any, given: set[int]) -> bool:
    """Whether these are tensors without data, or none, whose storages are their own and no larger than they are."""
    return all(
        tensor is None
        or (
            isinstance(tensor, torch.Tensor)
            and tensor.is_meta
            and id(tensor.untyped_storage()) not in given
            and tensor.untyped_storage().nbytes() == _Outline.of(tensor).empty().untyped_storage().nbytes()
        )
        for tensor in tree_leaves(made)
    )
