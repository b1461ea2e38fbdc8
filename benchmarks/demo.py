"""Time and peak memory of `anytalker demo` as a whole process: python benchmarks/demo.py --persons 2 --seconds 4."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Run the demo in a process of its own and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--persons", default="2")
    parser.add_argument("--seconds", default="4")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "demo.mp4"
        command = [sys.executable, "-m", "anytalker", "demo", "--output", str(output)]
        started = time.monotonic()
        subprocess.run([*command, "--persons", options.persons, "--seconds", options.seconds], check=True)
        seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{options.persons} persons, {options.seconds} s: {seconds:.1f} s wall, {peak:.2f} GiB peak")


if __name__ == "__main__":
    main()
