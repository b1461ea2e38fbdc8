"""What a training on a CPU asks of the C library."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from anytalker.hardware.allocator import keep_freed_memory

ROUNDS = """
import resource, sys
from anytalker.hardware.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
import torch
def faults():
    torch.ones(1 << 23)
    torch.ones(1 << 22)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
counts = [faults() for _ in range(12)]
print(counts[-1] - counts[-2])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_taken_again_without_the_system() -> None:
    faults = {}
    for kind in ("kept", "given back"):
        run = subprocess.run([sys.executable, "-c", ROUNDS, kind], check=True, capture_output=True, text=True)
        faults[kind] = int(run.stdout)
    pages = (1 << 23) * 4 // 4096
    assert faults["kept"] < pages / 100
    assert faults["given back"] > pages / 20  # pages may be huge ones


def test_other_c_libraries_are_left_alone(monkeypatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False
