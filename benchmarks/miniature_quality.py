"""Lip sync, silence and background of the miniature, on people it has never seen.

    python benchmarks/miniature_quality.py                       # synthetic voices it has never heard
    python benchmarks/miniature_quality.py a.wav b.wav c.wav     # your own recordings

Prints one line a number of people: correlation of speaking mouths with their voice's loudness (best lag within two
frames), motion of silent mouths relative to speaking ones, and PSNR outside the faces against the still picture.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from anytalker import AnyTalkerPipeline
from anytalker.evaluation.lip_sync.mouths import background_psnr, follows_voice, mouth_motion
from anytalker.media.recordings import load_audio
from anytalker.miniature.voices.augmentation import augment
from anytalker.miniature.voices.speech import random_utterance
from anytalker.miniature.world.scenes import UNSEEN_SEED, Scene


def voices_of(recordings: list[Path], seed: int) -> np.ndarray:
    """One voice: the seed's turn of the recordings, or a synthetic one."""
    if recordings:
        return load_audio(recordings[seed % len(recordings)])
    rng = np.random.default_rng(UNSEEN_SEED + seed)
    return augment(random_utterance(rng, 3.0, 5.0).waveform, rng)


def measure(pipeline: AnyTalkerPipeline, persons: int, scene_seed: int, speaker: int, voice: np.ndarray) -> list[float]:
    """Correlation, largest silent-to-speaking ratio (NaN for one person), and background PSNR of one video."""
    scene = Scene.random(persons, UNSEEN_SEED + scene_seed)
    audio = [voice if person == speaker else None for person in range(persons)]
    video = pipeline(
        Image.fromarray(scene.picture(288)),
        audio,
        faces=scene.boxes(288),
        generator=torch.Generator().manual_seed(scene_seed),
        max_frames=121,
        rounding="release",  # the numbers in the docs were measured on such lengths
    )
    boxes = video.inputs.boxes
    motion = [mouth_motion(video.frames, box) for box in boxes]
    silent = [value / motion[speaker] for person, value in enumerate(motion) if person != speaker]
    picture = np.asarray(video.inputs.image, dtype=np.float64) / 255
    follows = follows_voice(video.frames, boxes[speaker], voice, video.fps)
    return [follows, max(silent, default=np.nan), background_psnr(video.frames, picture, boxes)]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", nargs="*", type=Path)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--persons", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    pipeline = AnyTalkerPipeline.from_pretrained(options.model)
    print("people  r mean  r min   silent mean  silent max  PSNR mean  PSNR min")
    for persons in options.persons:
        rows = [
            measure(pipeline, persons, seed, seed % persons, voices_of(options.recordings, seed))
            for seed in range(options.scenes)
        ]
        follows, silent, psnr = np.array(rows).T
        quiet = "     –            –    " if persons == 1 else f"{silent.mean():10.2f}  {silent.max():10.2f}"
        print(
            f"{persons:6d}  {follows.mean():6.2f}  {follows.min():5.2f}   {quiet}"
            f"  {psnr.mean():8.1f}  {psnr.min():8.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
