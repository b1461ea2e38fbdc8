"""Kill a curation at random moments, go on each time, and compare the dataset with that of an undisturbed run.

    python benchmarks/curation_kills.py footage --kills 10 --seed 1

Half of the kills (`kill -9`) end the process that was started, the others all of its processes. Moments are drawn from
the time that a whole run takes, so that they fall into everything it does. Prints where each run was, and exits with 1
if any file differs.
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


def done(folder: Path) -> str:
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


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("footage", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", default="2")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        calm, killed = Path(folder) / "calm" / "dataset", Path(folder) / "killed" / "dataset"
        started = time.monotonic()
        assert run_for([str(options.footage), str(calm), "--workers", options.workers], None)
        whole = time.monotonic() - started
        print(f"undisturbed: {whole:.0f} s, {len(digests(calm))} files", flush=True)
        arguments = [str(options.footage), str(killed), "--workers", options.workers]
        kills = 0
        while kills < options.kills:
            moment, group = rng.uniform(0, 0.6 * whole), rng.random() < 0.5
            if run_for(arguments, moment, group):
                print(f"  ended by itself before {moment:.1f} s: begun anew", flush=True)
                shutil.rmtree(killed)
                continue
            kills += 1
            print(f"  {kills}: {'all' if group else 'one'} killed after {moment:.1f} s: {done(killed)}", flush=True)
        assert run_for(arguments, None)
        first, second = digests(calm), digests(killed)
        assert set(first) - {"report/index.html"}, "there is nothing to compare"
        differ = [name for name in sorted(first.keys() | second.keys()) if first.get(name) != second.get(name)]
        print(f"{kills} kills: {len(second)} files, {len(differ)} differ {differ[:10]}")
    raise SystemExit(1 if differ else 0)


if __name__ == "__main__":
    main()
