"""What the upscaler of a miniature gains on clips it never saw: python benchmarks/upscaler.py [MODEL] [CLIPS].

Frames are what the model makes of noisy clips of unseen people, as in a video of two steps. They are enlarged by
bicubic interpolation, and by the upscaler, and compared with the truth at twice the size. Sharpness is the mean
magnitude of the gradient, relative to the truth's. Time is that of one frame of 272×128.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import numpy as np
import torch

from anytalker import AnyTalkerPipeline
from anytalker.miniature.corpus import CorpusSettings, RenderedClip, render_clip
from anytalker.miniature.enlargements import shrunk
from anytalker.miniature.guesses import guess
from anytalker.models.latents import decode_video

FIRST, FRAMES, SIGMA = 6_000_000, 17, 0.875


def sharpness(frames: torch.Tensor) -> float:
    """Mean magnitude of the gradient of frames (n, 3, h, w)."""
    across, down = frames.diff(dim=-1)[..., :-1, :], frames.diff(dim=-2)[..., :-1]
    return float((across.square() + down.square()).sqrt().mean())


def decibels(frames: torch.Tensor, true: torch.Tensor) -> float:
    """PSNR of frames in [-1, 1]."""
    return float(-10 * torch.log10((frames - true).square().mean() / 4))


def measured(pipeline: AnyTalkerPipeline, clip: RenderedClip, seed: int) -> dict[str, list[float]]:
    """PSNR and sharpness of all frames, and within the faces, by each way of enlarging."""
    small = replace(clip, frames=np.stack([shrunk(frame) for frame in clip.frames]))
    decoded = decode_video(pipeline.vae, guess(pipeline, small, SIGMA, 24.0, seed)["guess"][None].float())
    frames = decoded[0].transpose(0, 1)
    true = torch.from_numpy(clip.frames).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    ways = {
        "bicubic": torch.nn.functional.interpolate(frames, scale_factor=2, mode="bicubic").clamp(-1, 1),
        "upscaler": pipeline.vae.upscaler.enlarge(frames, true[0]),
    }
    found = {}
    for name, made in ways.items():
        faces = []
        for left, top, width, height in clip.boxes:
            part = (slice(1, None), slice(None), slice(top, top + height), slice(left, left + width))
            faces.append([decibels(made[part], true[part]), sharpness(made[part]) / sharpness(true[part])])
        whole = [decibels(made[1:], true[1:]), sharpness(made[1:]) / sharpness(true[1:])]
        found[name] = whole + np.mean(faces, axis=0).tolist()
    return found


def main() -> None:
    """Measure and print a table."""
    pipeline = AnyTalkerPipeline.from_pretrained(sys.argv[1] if len(sys.argv) > 1 else "tiny")
    clips = int(sys.argv[2]) if len(sys.argv) > 2 else 40
    rows: dict[str, list[list[float]]] = {}
    for number in range(clips):
        settings = CorpusSettings(persons=1 + number % 2, frames=FRAMES, size=256, unseen=True, silent_share=0.0)
        clip = render_clip(FIRST + number, settings)
        for name, values in measured(pipeline, clip, number).items():
            rows.setdefault(name, []).append(values)
    print("| | PSNR dB | sharpness | PSNR dB of faces | sharpness of faces |")
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in np.mean(values, axis=0)) + " |")
    frames, picture = torch.rand(20, 3, 128, 272) * 2 - 1, torch.rand(3, 256, 544) * 2 - 1
    pipeline.vae.upscaler.enlarge(frames[:2], picture)
    started = time.perf_counter()
    pipeline.vae.upscaler.enlarge(frames, picture)
    print(f"{(time.perf_counter() - started) / len(frames) * 1000:.0f} ms a frame")


if __name__ == "__main__":
    main()
