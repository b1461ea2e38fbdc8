"""The same dataset, whatever runs a curation and whatever interrupts it: compares all files of it, byte for byte.

    python benchmarks/curation_same.py footage --kills 10 --seed 1
    python benchmarks/curation_same.py footage --kills 0 --others "--workers 0" "--ray local"

The first run has two processes and is left alone. `--others` are further ways to run it. `--kills` ends a run at random
moments and goes on each time: half of the kills (`kill -9`) end the process that was started, the others all of its
processes. Moments are drawn from the time that a whole run takes, so that they fall into everything it does. Prints
what each has got to, and exits with 1 if any file differs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = [sys.executable, "-m", "anytalker", "curate"]


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of all files of a dataset, without the work folder, which says what is done.

    Pictures of the report are named after the time at which their clip was written, so they go by their content.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    read = {str(path.relative_to(folder)): path.read_bytes() for path in files if ".curation" not in path.parts}
    found = {name: hashlib.sha256(data).hexdigest() for name, data in read.items()}
    page = read["report/index.html"].decode()
    for name in [name for name in found if "previews" in name]:
        page = page.replace(Path(name).name, found[name])
        content = found.pop(name)
        found[f"preview {content}"] = content
    return found | {"report/index.html": hashlib.sha256(page.encode()).hexdigest()}


def reached(folder: Path) -> str:
    """What a run has got to."""
    work = folder / ".curation"
    surveys, shots = len(list(work.glob("*/survey.json"))), len(list(work.glob("*/shot-*.json")))
    return f"{surveys} files looked through, {shots} shots examined"


def run_for(arguments: list[str], seconds: float | None, whole_group: bool = True) -> bool:
    """Start a curation and kill it after so many seconds; whether it ended by itself."""
    process = subprocess.Popen(
        COMMAND + arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        if whole_group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
        return False


def kill_often(arguments: list[str], folder: Path, kills: int, whole: float, rng: random.Random) -> None:
    """Kill a run so many times, and then let it end."""
    done = 0
    while done < kills:
        moment, group = rng.uniform(0, whole), rng.random() < 0.5
        if run_for(arguments, moment, group):
            print(f"  ended by itself before {moment:.1f} s: begun anew", flush=True)
            shutil.rmtree(folder)
            continue
        done += 1
        print(f"  {done}: {'all' if group else 'one'} killed after {moment:.1f} s: {reached(folder)}", flush=True)
    assert run_for(arguments, None)


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("footage", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--others", nargs="*", default=[], help='options of other runs, such as "--ray local"')
    options = parser.parse_args()
    differing = 0
    with tempfile.TemporaryDirectory() as folder:

        def compare(name: str, dataset: Path) -> int:
            second = digests(dataset)
            differ = [name for name in sorted(first.keys() | second.keys()) if first.get(name) != second.get(name)]
            print(f"{name}: {len(second)} files, {len(differ)} differ {differ[:10] or ''}", flush=True)
            return len(differ)

        calm = Path(folder) / "calm" / "dataset"
        started = time.monotonic()
        assert run_for([str(options.footage), str(calm), "--workers", "2"], None)
        whole, first = time.monotonic() - started, digests(calm)
        print(f"undisturbed, --workers 2: {whole:.0f} s, {len(first)} files", flush=True)
        for number, other in enumerate(options.others):
            dataset = Path(folder) / f"other-{number}" / "dataset"
            assert run_for([str(options.footage), str(dataset), *other.split()], None)
            differing += compare(other, dataset)
        if options.kills:
            killed = Path(folder) / "killed" / "dataset"
            arguments = [str(options.footage), str(killed), "--workers", "2"]
            kill_often(arguments, killed, options.kills, whole, random.Random(options.seed))
            differing += compare(f"{options.kills} kills", killed)
    raise SystemExit(1 if differing else 0)


if __name__ == "__main__":
    main()
