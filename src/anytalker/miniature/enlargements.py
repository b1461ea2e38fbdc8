"""Training data of the upscaler: frames that a trained miniature makes of noisy clips, and the clips at twice the size.

Each file has a clip's picture, some of its frames as they are, and the same frames as the model predicts and the
autoencoder decodes them, see `guesses`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

from anytalker.errors import InputError
from anytalker.files import atomic_path
from anytalker.miniature.corpus import CorpusSettings, RenderedClip, Renders
from anytalker.miniature.guesses import GuessSettings, guess, missing_guesses
from anytalker.models.latents import decode_video
from anytalker.models.upscaler import SCALE, PictureWarp

KEPT = 8
"""Frames of a clip that are kept, besides its picture."""


def write_enlargements(
    folder: Path,
    pipeline: Any,
    settings: GuessSettings,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Render clips and write a file of each; clips already there are kept.

    A file has `picture` uint8 (2h, 2w, 3), `true` uint8 (KEPT, 2h, 2w, 3) and `decoded` uint8 (KEPT, h, w, 3).

    Args:
        folder: where the files go.
        pipeline: a trained miniature.
        settings: which clips; `frames` are rendered, of which some are kept.
        on_progress: called as (done, total).

    Raises:
        InputError: if the folder holds those of another model or with other settings.
    """
    missing = missing_guesses(folder, pipeline, settings)
    done = settings.clips - len(missing)
    for persons in (1, 2):
        size = SCALE * CorpusSettings.size
        corpus = CorpusSettings(persons=persons, frames=settings.frames, size=size, finished=settings.finished)
        seeds = [seed for seed in missing if ((seed - settings.first) % 3 == 0) == (persons == 1)]
        for seed, clip in DataLoader(Renders(seeds, corpus), batch_size=None, num_workers=1, prefetch_factor=4):
            sigma = settings.sigmas[seed % len(settings.sigmas)]
            with atomic_path(folder / f"{seed:08d}.safetensors") as partial:
                save_file(_enlargement(pipeline, clip, sigma, corpus.fps, seed), partial)
            done += 1
            on_progress(done, settings.clips)


def _enlargement(pipeline: Any, clip: RenderedClip, sigma: float, fps: float, seed: int) -> dict[str, torch.Tensor]:
    small = replace(clip, frames=np.stack([shrunk(frame) for frame in clip.frames]))
    predicted = guess(pipeline, small, sigma, fps, seed)["guess"][None].float()
    decoded = decode_video(pipeline.vae, predicted)[0].permute(1, 2, 3, 0).add(1).mul(127.5).round().to(torch.uint8)
    kept = np.sort(np.random.default_rng(seed).permutation(len(clip.frames) - 1)[:KEPT] + 1)
    return {
        "picture": torch.from_numpy(np.ascontiguousarray(clip.frames[0])),
        "true": torch.from_numpy(np.ascontiguousarray(clip.frames[kept])),
        "decoded": decoded[kept].contiguous(),
    }


def shrunk(frame: np.ndarray) -> np.ndarray:
    """A frame (2h, 2w, 3) at half the size."""
    height, width = frame.shape[:2]
    return cv2.resize(frame, (width // SCALE, height // SCALE), interpolation=cv2.INTER_AREA)


def enlargement_lessons(
    folder: Path, batch_size: int, side: int = 64, clips: slice = slice(None), seed: int = 0
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Endless random squares for `train_upscaler`.

    Args:
        folder: where `write_enlargements` wrote.
        batch_size: squares a batch.
        side: of a decoded square in pixels.
        clips: which ones, in the order of their seeds.
        seed: of the draws.

    Yields:
        Decoded (B, 3, side, side), picture, warped picture, and truth (B, 3, 2·side, 2·side), all in [-1, 1].

    Raises:
        InputError: if the folder holds none of these clips.
    """
    files = sorted(folder.glob("[0-9]*.safetensors"))[clips]
    if not files:
        raise InputError(f"{folder} holds no clips of these numbers.")
    rng = np.random.default_rng(seed)
    while True:
        squares = [_square(load_file(files[rng.integers(len(files))]), side, rng) for _ in range(batch_size)]
        yield tuple(torch.stack(parts) for parts in zip(*squares, strict=True))  # type: ignore[misc]


def _square(clip: dict[str, torch.Tensor], side: int, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
    number = int(rng.integers(len(clip["decoded"])))
    decoded, picture, true = (
        pixels.permute(2, 0, 1).float().div(127.5).sub(1)
        for pixels in (clip["decoded"][number], clip["picture"], clip["true"][number])
    )
    top, left = (int(rng.integers(0, size - side + 1)) for size in decoded.shape[1:])
    small = decoded[:, top : top + side, left : left + side]
    rows, columns = (slice(SCALE * start, SCALE * (start + side)) for start in (top, left))
    warped = PictureWarp(picture, decoded.shape[1:], (top, left, side))(decoded[None])[0]
    return small, picture[:, rows, columns], warped, true[:, rows, columns]
