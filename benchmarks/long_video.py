"""Long videos, measured: memory over length, seams of windows, lips and colours from minute to minute, and kill -9.

    python benchmarks/long_video.py                                  # ten minutes against ten seconds
    python benchmarks/long_video.py --minutes 1 --kills 10 --steps 2

Two drawn people whom nobody trained on repeat a conversation for as long as is asked. Every video is made by
`anytalker generate` with the model `tiny` in a process of its own, and its peak memory is that process's. For the last
part a run is killed at random moments, by a signal that no program can catch, and the same command is started again
until it ends by itself.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from anytalker.denoising.windows import plan_windows
from anytalker.evaluation.clips import VideoFrames
from anytalker.loading.components import model_folder
from anytalker.miniature.corpus import RenderedClip
from anytalker.miniature.exam import exam_clip
from anytalker.miniature.world.truth import FaceReader
from anytalker.models.settings import PipelineSettings

_SCENE_SECONDS = 30
_PICTURE_HEIGHT = 288


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
        minutes = minutes_of(folder / "talk.mp4")
        drift = np.ptp([colour for _, colour in minutes], axis=0).max()
        fits = ", ".join(f"{fit:.3f}" for fit, _ in minutes)
        print(f"\nLip sync r, minute by minute: {fits}")
        print(f"Mean colour outside of faces: within {drift:.2f} of 255 from minute to minute")
        short, long = peaks.values()
        print(f"\nPeak memory at {options.minutes:g} min / at 10 s: {long / short:.2f}", flush=True)
        if options.kills:
            killed, same = kill_and_resume(inputs, options.kill_seconds, options.kills, options.seed, folder)
            print(f"Killed {killed} times and started again: {'the same bytes' if same else 'ANOTHER VIDEO'}")


def make_inputs(folder: Path, seconds: float) -> list[str]:
    """A picture and two voices that long; the arguments of `anytalker generate` for them."""
    clip = scene()
    Image.fromarray(clip.scene.picture(_PICTURE_HEIGHT)).save(folder / "two.png")
    arguments = ["--image", str(folder / "two.png"), "--prompt", "people are talking"]
    for number, (box, voice) in enumerate(zip(clip.scene.boxes(_PICTURE_HEIGHT), clip.voices, strict=True)):
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


@cache
def scene() -> RenderedClip:
    """The conversation that is repeated, with its truth."""
    return exam_clip(2, 0, frames=24 * _SCENE_SECONDS + 1)


def minutes_of(path: Path) -> list[tuple[float, np.ndarray]]:
    """For every minute the correlation of mouths with the truth, and the mean colour (3,) outside faces, 0 to 255."""
    clip = scene()
    truth = np.array([[state.opening for state in person] for person in clip.states])[:, : 24 * _SCENE_SECONDS]
    found, readers, background = [], [], None
    for minute in batched_frames(path, 60 * 24):
        height = minute.shape[1]
        if background is None:
            readers = [FaceReader(clip.scene, person, height) for person in range(2)]
            background = np.ones(minute.shape[1:3], bool)
            for x, y, width, tall in clip.scene.boxes(height):
                background[max(0, y - tall // 2) : y + 2 * tall, max(0, x - width // 2) : x + 2 * width] = False
        spoken = np.tile(truth, (1, -(-len(minute) // truth.shape[1])))[:, : len(minute)]
        mouths = [reader.openings(minute.astype(np.float32) / 255) for reader in readers]
        fits = [np.corrcoef(mouth, said)[0, 1] for mouth, said in zip(mouths, spoken, strict=True)]
        found.append((float(np.mean(fits)), minute[:, background].reshape(-1, 3).mean(axis=0)))
    return found


def batched_frames(path: Path, count: int) -> Iterator[np.ndarray]:
    """Frames of a video, uint8 (up to `count`, H, W, 3) at a time; a rest shorter than half of that is left out."""
    frames: list[np.ndarray] = []
    for frame in VideoFrames(path):
        frames.append(frame)
        if len(frames) == count:
            yield np.stack(frames)
            frames = []
    if len(frames) >= count / 2:
        yield np.stack(frames)


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
    settings = PipelineSettings.load(model_folder("tiny"))
    frames = (frame.astype(np.int16) for frame in VideoFrames(path))
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
