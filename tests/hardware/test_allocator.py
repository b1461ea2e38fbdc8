"""What a training on a CPU asks of the C library."""

from __future__ import annotations

import ctypes
import platform

import pytest

from anytalker.hardware.allocator import keep_freed_memory
from tests.processes import start

BLOCKS = """
import ctypes, sys
from anytalker.hardware.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
import torch
class Malloc(ctypes.Structure):
    _fields_ = [(f"f{index}", ctypes.c_size_t) for index in range(10)]
library = ctypes.CDLL(None)
library.mallinfo2.restype = Malloc
size = (1 << 26) * 4
held = torch.empty(1 << 26)
own = library.mallinfo2().f4 >= size
del held
print(int(own), library.mallinfo2().f8 >= size)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="another C library, or one that doesn't count its blocks",
)
def test_freed_memory_is_taken_again_without_the_system() -> None:
    """A large tensor has a mapping of its own, given back when freed; after the call, a place in memory that stays."""
    seen = {}
    for kind in ("kept", "given back"):
        code, said, errors = start(BLOCKS, [kind]).end()
        assert code == 0, errors
        seen[kind] = said.split()
    assert seen == {"kept": ["0", "True"], "given back": ["1", "False"]}


def test_other_c_libraries_are_left_alone(monkeypatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False
