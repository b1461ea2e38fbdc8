"""`anytalker serve` under load, over many jobs, and killed at random moments; prints a table.

python benchmarks/service.py load --jobs 100 --clients 20
python benchmarks/service.py memory --jobs 300
python benchmarks/service.py kills --kills 20 --jobs 6
python benchmarks/service.py cancel --jobs 10
python benchmarks/service.py cancel --jobs 10 --ray 127.0.0.1:6379

A job is one drawn person for 9 frames in one step. `--frames 5 --scale 0.5` makes it a good deal cheaper: what is
counted is the same, requests, files, processes and rows of the queue, but less of the time goes into the video.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from anytalker.client import Client, ServiceError
from anytalker.media.recordings import write_wave
from anytalker.media.video import read_video
from anytalker.miniature.demo import write_picture
from anytalker.miniature.voices.speech import random_utterance


def short(options: argparse.Namespace) -> dict[str, Any]:
    """What is asked of a job."""
    return {"max_frames": options.frames, "num_inference_steps": 1, "scale": options.scale}


def place(options: argparse.Namespace) -> list[str]:
    """Where the service has its workers."""
    return ["--device", "cpu"] if options.ray is None else ["--ray", options.ray]


class Server:
    """`anytalker serve` as a process.

    Args:
        data: folder of its jobs.
        arguments: more of the command line.
    """

    def __init__(self, data: Path, *arguments: str) -> None:
        self._command = [sys.executable, "-m", "anytalker", "serve", "--port", "0"]
        self._command += ["--data", str(data), *arguments]
        self._log = data.with_suffix(".log")
        self.process: subprocess.Popen[str] | None = None
        self.address = ""

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with self._log.open("a") as log:
            self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("Listening on "):
            raise SystemExit(f"The service did not start; see {self._log}.")
        self.address = line.removeprefix("Listening on ").partition(",")[0]

    def workers(self) -> list[int]:
        """Its worker processes, by what they were started with."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            if parent == self.process.pid and any(b"spawn_main" in word for word in words):
                found.append(int(entry.name))
        return found

    def end(self) -> None:
        """Stop it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)


@contextmanager
def scene() -> Iterator[tuple[Path, Path, Path]]:
    """A folder with a picture of one drawn person and a second of their voice."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_picture(1, 1_000_003, folder / "one.png")
        write_wave(folder / "anna.wav", random_utterance(np.random.default_rng(3), 0.7, 1.0).waveform)
        yield folder, folder / "one.png", folder / "anna.wav"


def memory_of(process: int) -> float:
    """Resident memory of a process in MiB."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def percentiles(seconds: list[float]) -> str:
    """Median and 99th percentile in milliseconds."""
    values = 1000 * np.array(seconds)
    return f"p50 {np.percentile(values, 50):.0f} ms, p99 {np.percentile(values, 99):.0f} ms ({len(values)} calls)"


class Timed:
    """Times calls by name, from many threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.refused: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, name: str, call: Callable[[], Any]) -> Any:
        """Make a call."""
        began = time.monotonic()
        try:
            return call()
        except ServiceError as error:
            with self._lock:
                self.refused[f"{error.status} {error.code}"] += 1
            raise
        finally:
            with self._lock:
                self.seconds.setdefault(name, []).append(time.monotonic() - began)


def check_all(data: Path, ids: list[str], frames: int) -> None:
    """Print whether every job that was taken is there once, finished, with a whole video."""
    with sqlite3.connect(data / "jobs.sqlite3") as database:
        rows = database.execute("SELECT id, state, attempts FROM jobs").fetchall()
    known = {row[0]: row for row in rows}
    lost = [id for id in ids if id not in known]
    whole = [id for id in ids if len(read_video(data / "jobs" / id / "video.mp4")[0]) == frames]
    print(f"jobs taken: {len(ids)}, lost: {len(lost)}, ids given twice: {len(ids) - len(set(ids))}")
    print(f"jobs nobody asked for: {len(set(known) - set(ids))}; states: {dict(Counter(row[1] for row in rows))}")
    print(f"whole videos: {len(whole)}; attempts: {dict(Counter(row[2] for row in rows))}")


def load(options: argparse.Namespace) -> None:
    """Many clients at once."""
    timed, ids, lock, job_of = Timed(), [], threading.Lock(), short(options)
    with scene() as (folder, picture, voice):
        server = Server(folder / "data", *place(options), "--max-queued", str(options.room))
        server.start()
        began = time.monotonic()

        def one_client(number: int) -> None:
            with Client(server.address, timeout=300) as client:
                for job in range(options.jobs // options.clients):
                    while True:
                        try:
                            seed = number * 1000 + job
                            video = timed("POST", lambda s=seed: client.create(picture, [voice], seed=s, **job_of))
                            break
                        except ServiceError as error:
                            if error.status != 429:
                                raise
                            time.sleep(random.uniform(1, 4))
                    with lock:
                        ids.append(video.id)
                    while not video.over:
                        time.sleep(0.5)
                        video = timed("GET", lambda v=video: client.get(v.id))

        with ThreadPoolExecutor(options.clients) as threads:
            list(threads.map(one_client, range(options.clients)))
        seconds = time.monotonic() - began
        server.end()
        print(f"{options.jobs} jobs of {options.clients} clients, room for {options.room}: {seconds:.0f} s")
        for name, values in timed.seconds.items():
            print(f"{name}: {percentiles(values)}")
        print(f"refused: {dict(timed.refused)}")
        check_all(folder / "data", ids, options.frames)


def memory(options: argparse.Namespace) -> None:
    """One job after another."""
    with scene() as (folder, picture, voice):
        server = Server(folder / "data", *place(options))
        server.start()
        ids, began = [], time.monotonic()
        with Client(server.address, timeout=300) as client:
            for number in range(options.jobs):
                video = client.create(picture, [voice], seed=number, **short(options))
                client.wait(video.id)
                ids.append(video.id)
                if number % max(1, options.jobs // 10) == 0 or number == options.jobs - 1:
                    used = [memory_of(server.process.pid), *map(memory_of, server.workers())]
                    each = (time.monotonic() - began) / (number + 1)
                    sizes = ", ".join(f"{one:.0f} MiB" for one in used)
                    print(f"after {number + 1:4} jobs, {each:.1f} s each: {sizes}", flush=True)
        server.end()
        check_all(folder / "data", ids, options.frames)


def kills(options: argparse.Namespace) -> None:
    """Kill -9 of the server or of its worker at random moments, until all jobs are done."""
    rng = random.Random(options.seed)
    with scene() as (folder, picture, voice):
        server = Server(folder / "data", *place(options))
        server.start()
        with Client(server.address, timeout=300) as client:
            ids = [client.create(picture, [voice], seed=number, **short(options) | {"num_inference_steps": 20}).id
                   for number in range(options.jobs)]  # fmt: skip
        killed: Counter[str] = Counter()
        for number in range(options.kills):
            if number % 4 < 3:  # a worker needs long to start; three of four kills find it at work
                wait_for_work(server)
            time.sleep(rng.uniform(0, options.longest))
            workers = server.workers()
            if number % 2 and workers:
                os.kill(workers[0], signal.SIGKILL)
                killed["worker"] += 1
            else:
                server.process.kill()
                server.process.wait()
                killed["server"] += 1
                server.start()
        print(f"killed: {dict(killed)}", flush=True)
        with Client(server.address, timeout=300) as client:
            for id in ids:
                client.wait(id)
        server.end()
        check_all(folder / "data", ids, options.frames)


def wait_for_work(server: Server) -> None:
    """Wait until a job is denoised, or all are over."""
    with Client(server.address, timeout=300) as client:
        while True:
            videos = client.list(100)
            stages = [(video.data["steps"] or {}).get("stage") for video in videos]
            if "denoise" in stages or all(video.over for video in videos):
                return
            time.sleep(0.1)


def cancel(options: argparse.Namespace) -> None:
    """How soon a worker is free again after a cancel."""
    with scene() as (folder, picture, voice):
        server = Server(folder / "data", *place(options))
        server.start()
        waited = []
        with Client(server.address, timeout=300) as client:
            client.wait(client.create(picture, [voice], **short(options)).id)
            for number in range(options.jobs):
                long = client.create(picture, [voice], seed=number, **short(options) | {"num_inference_steps": 100})
                following = client.create(picture, [voice], seed=number, **short(options))
                while (client.get(long.id).data["steps"] or {}).get("stage") != "denoise":
                    time.sleep(0.02)
                began = time.monotonic()
                client.cancel(long.id)
                while client.get(following.id).status == "queued":
                    time.sleep(0.005)
                waited.append(time.monotonic() - began)
        server.end()
        print(f"the next job begins after a cancel: {percentiles(waited)}")


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["load", "memory", "kills", "cancel"])
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--room", type=int, default=15, help="videos that may wait, for `load`")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--longest", type=float, default=8.0, help="seconds that a kill waits at most")
    parser.add_argument("--frames", type=int, default=9, help="of each video, 5 at least")
    parser.add_argument("--scale", type=float, help="of the sides of each video, 0.1 to 4")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ray", metavar="ADDRESS", help="of a cluster; `cancel` wants one with a single core")
    options = parser.parse_args()
    {"load": load, "memory": memory, "kills": kills, "cancel": cancel}[options.what](options)


if __name__ == "__main__":
    main()
