"""Long videos, measured: peak memory over length, differences at the seams of windows, and kill -9.

    python benchmarks/long_video.py                                  # ten minutes against ten seconds
    python benchmarks/long_video.py --minutes 1 --kills 10 --steps 2

Two drawn people take turns for as long as is asked. Every video is made by `anytalker generate` with the model `tiny`
in a process of its own, and its peak memory is that process's. For the last part a run is killed at random moments, by
a signal that no program can catch, and the same command is started again until it ends by itself.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import wave
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

from anytalker.miniature.demo import demo_scene
from anytalker.pipelines.components import model_folder
from anytalker.pipelines.settings import SETTINGS_FILE, PipelineSettings
from anytalker.pipelines.windows import plan_windows

_SCENE_SECONDS = 30


def main() -> None:
    """Make the inputs, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the long video")
    parser.add_argument("--steps", type=int, help="denoising steps; left out: the model's")
    parser.add_argument("--kills", type=int, default=10, help="how often a run is killed; 0: not at all")
    parser.add_argument("--kill-seconds", type=float, default=30.0, help="length of the video whose run is killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments to kill at")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = make_inputs(folder, max(options.minutes * 60, options.kill_seconds))
        inputs += [] if options.steps is None else ["--steps", str(options.steps)]
        peaks = {}
        print("| seconds | wall s | peak MiB | seams | their edges | edges over all |\n" + "|---" * 6 + "|")
        for seconds in (10.0, options.minutes * 60):
            wall, peaks[seconds] = measure(inputs, seconds, folder / "talk.mp4")
            seams = " | ".join(f"{ratio:.2f}" for ratio in seam_ratios(folder / "talk.mp4"))
            print(f"| {seconds:g} | {wall:.0f} | {peaks[seconds]:.0f} | {seams} |", flush=True)
        short, long = peaks.values()
        print(f"\nPeak memory at {options.minutes:g} min / at 10 s: {long / short:.2f}", flush=True)
        if options.kills:
            killed, same = kill_and_resume(inputs, options.kill_seconds, options.kills, options.seed, folder)
            print(f"Killed {killed} times and started again: {'the same bytes' if same else 'ANOTHER VIDEO'}")


def make_inputs(folder: Path, seconds: float) -> list[str]:
    """A picture and two voices that long; the arguments of `anytalker generate` for them."""
    image, boxes, voices = demo_scene(2, _SCENE_SECONDS, 0)
    image.save(folder / "two.png")
    arguments = ["--image", str(folder / "two.png"), "--prompt", "people are talking"]
    for number, (box, voice) in enumerate(zip(boxes, voices, strict=True)):
        path = folder / f"{number}.wav"
        samples = (np.clip(voice[: _SCENE_SECONDS * 16000], -1, 1) * 32767).astype("<i2").tobytes()
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16000)
            for _ in range(int(-(-(seconds + 1) // _SCENE_SECONDS))):
                file.writeframes(samples)
        arguments += ["--audio", str(path), "--face", ",".join(map(str, box))]
    return arguments


def command(inputs: list[str], seconds: float, output: Path) -> list[str]:
    """The command that makes the video."""
    frames = int(seconds * 24) // 4 * 4 + 1
    program = [sys.executable, "-m", "anytalker", "generate", "--output", str(output), "--max-frames", str(frames)]
    return [*program, *inputs]


def measure(inputs: list[str], seconds: float, output: Path) -> tuple[float, float]:
    """Wall-clock seconds and peak memory in MiB of a run."""
    started = time.monotonic()
    process = subprocess.Popen(command(inputs, seconds, output), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"anytalker generate ended with {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - started, usage.ru_maxrss / 2**10


def seam_ratios(path: Path) -> tuple[float, float, float]:
    """Medians of frame-to-frame differences where windows meet, over those elsewhere.

    Every fourth difference is one between latent frames, which the miniature decodes apart: it is larger everywhere,
    with windows or without. So three ratios: differences in all that two windows share, over all others; at the edges
    of windows, over other edges of latent frames; and at the edges of windows, over all that is no edge of a window.
    """
    settings = PipelineSettings.from_dict(json.loads((model_folder("tiny") / SETTINGS_FILE).read_text()))
    with av.open(str(path)) as container:
        frames = (frame.to_ndarray(format="rgb24").astype(np.int16) for frame in container.decode(video=0))
        differences = np.array([np.abs(after - before).mean() for before, after in pairwise(frames)])
    windows = plan_windows(len(differences) // 4 + 1, settings.window, settings.window_overlap)
    latent = np.arange(len(differences)) // 4 + 1  # the latent frame of the later frame of each pair
    first = np.arange(len(differences)) % 4 == 0
    shared, seam = np.zeros(len(latent), bool), np.zeros(len(latent), bool)
    for before, after in pairwise(windows):
        shared |= (latent >= after.start) & (latent < before.stop)
        seam |= first & ((latent == after.start) | (latent == before.stop))

    def ratio(those: np.ndarray, others: np.ndarray) -> float:
        return float(np.median(differences[those]) / np.median(differences[others]))

    return ratio(shared, ~shared), ratio(seam, first & ~seam), ratio(seam, ~seam)


def kill_and_resume(inputs: list[str], seconds: float, kills: int, seed: int, folder: Path) -> tuple[int, bool]:
    """Kill a run at random moments; how often that was done before it ended, and whether the video is the same."""
    choose = random.Random(seed)
    startup, _ = measure(inputs, 0.3, folder / "short.mp4")
    wall, _ = measure(inputs, seconds, folder / "whole.mp4")
    killed, output = 0, folder / "killed.mp4"
    while True:
        program = [*command(inputs, seconds, output), "--save-every", "1"]
        process = subprocess.Popen(program, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        if killed < kills:
            try:
                # Every life gets on by a part of the work, so that it does not end before the last kill.
                process.wait(timeout=startup + choose.uniform(-0.3 * startup, 1.5 * (wall - startup) / kills))
            except subprocess.TimeoutExpired:
                process.kill()
                killed += 1
        if process.wait() == 0:
            break
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "whole.mp4", output)}
    return killed, len(digests) == 1 and not (folder / "killed.parts").exists()


if __name__ == "__main__":
    main()
