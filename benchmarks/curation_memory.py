"""Peak memory of a curation's first look at a file, and of its shots, for files of growing length.

    python benchmarks/curation_memory.py footage.mp4 --repeat 1 6 48

Joins the file to itself so many times without coding it anew, looks through each of the long files in a process of its
own, then examines their longest shot, and prints the most memory that each process has held.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import av


def repeat(source: Path, count: int, target: Path) -> None:
    """Write a file that holds another one so many times in a row."""
    with av.open(str(target), "w") as output:
        with av.open(str(source)) as first:
            streams = {stream.type: output.add_stream_from_template(stream) for stream in first.streams}
            length = 0.2 + max(float(stream.duration * stream.time_base) for stream in first.streams)
        for number in range(count):
            with av.open(str(source)) as container:
                for packet in container.demux(list(container.streams)):
                    if packet.dts is None:
                        continue
                    shift = round(number * length / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = streams[packet.stream.type]
                    output.mux(packet)


def look(path: Path, folder: Path, results: multiprocessing.Queue) -> None:
    """The two steps, with the memory held most after each, in MB."""
    import torch

    from anytalker.curation.config import CurationConfig
    from anytalker.curation.footage import FPS
    from anytalker.curation.work import FileWork, examine_shot, survey_file

    torch.set_num_threads(1)
    work = FileWork(path, folder, CurationConfig())
    started = time.process_time()
    found = survey_file(work)
    seconds, surveyed = time.process_time() - started, _peak()
    examine_shot(work, max(work.parts(found), key=lambda part: (part[1] - part[0], part)))
    results.put((found.frames / FPS / 60, len(found.shots), seconds, surveyed, _peak(), found.problem))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("footage", type=Path)
    parser.add_argument("--repeat", type=int, nargs="+", default=[1, 6])
    options = parser.parse_args()
    columns = ("minutes", "shots", "s of a core, looked through", "MB, looked through", "MB, with a shot")
    print(f"| {' | '.join(columns)} |\n|---|---|---|---|---|")
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        for count in options.repeat:
            path = Path(folder) / f"long-{count}.mp4"
            repeat(options.footage, count, path)
            results = context.Queue()
            process = context.Process(target=look, args=(path, Path(folder), results))
            process.start()
            minutes, shots, seconds, surveyed, peak, problem = results.get()
            process.join()
            print(
                f"| {minutes:.1f} | {shots} | {seconds:.0f} | {surveyed:.0f} | {peak:.0f} |", problem or "", flush=True
            )
            path.unlink()


if __name__ == "__main__":
    main()
