"""Training data of the decoder: latents that a trained miniature predicts from noisy clips, and the clips.

In two steps of sampling a model answers with something near the mean of all that might be seen, which is softer than
the latents of any video. A decoder that has only met the latter draws a mosaic there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

from anytalker.denoising.denoiser import ContextCache, Denoiser
from anytalker.denoising.windows import Window
from anytalker.errors import InputError
from anytalker.files import atomic_path, write_json_atomic
from anytalker.media.recordings import SAMPLE_RATE
from anytalker.media.sound import Sound
from anytalker.miniature.corpus import CorpusSettings, RenderedClip, Renders
from anytalker.models.digest import encoder_digest, weights_digest
from anytalker.models.latents import encode_video
from anytalker.pipelines.inputs import Inputs, Voice
from anytalker.training.losses import add_noise

PIECE = 3
"""Latent frames of a lesson after the picture's."""
_INDEX = "index.json"


@dataclass(frozen=True)
class GuessSettings:
    """Which clips, and how noisy.

    Attributes:
        clips: how many; every third shows one person, the others two.
        frames: video frames a clip, 4n+1, at least 13 and no more than the model's window has.
        first: seed of the first clip; high, so that the transformer has not learned the clips by heart.
        finished: share of the clips that look less drawn, see `world.finish`.
        sigmas: noise levels that clips take in turns. A video of two steps is decoded from a guess at 0.875.
    """

    clips: int = 1000
    frames: int = 33
    first: int = 40_000
    finished: float = 0.3
    sigmas: tuple[float, ...] = (0.875, 0.875, 0.875, 1.0, 0.6)


def write_guesses(
    folder: Path,
    pipeline: Any,
    settings: GuessSettings,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Render clips and write a file of each with `guess`, `true` (channels, f, h, w) and `frames` uint8 (T, H, W, 3).

    Clips already there are kept.

    Args:
        folder: where the files go.
        pipeline: a trained miniature.
        settings: which clips.
        on_progress: called as (done, total).

    Raises:
        InputError: if the folder holds guesses of another model or with other settings, or clips are too long or short.
    """
    missing = missing_guesses(folder, pipeline, settings)
    done = settings.clips - len(missing)
    for persons in (1, 2):
        corpus = CorpusSettings(persons=persons, frames=settings.frames, finished=settings.finished)
        seeds = [seed for seed in missing if ((seed - settings.first) % 3 == 0) == (persons == 1)]
        for seed, clip in DataLoader(Renders(seeds, corpus), batch_size=None, num_workers=1, prefetch_factor=4):
            sigma = settings.sigmas[seed % len(settings.sigmas)]
            with atomic_path(_file(folder, seed)) as partial:
                save_file(guess(pipeline, clip, sigma, corpus.fps, seed), partial)
            done += 1
            on_progress(done, settings.clips)


def missing_guesses(folder: Path, pipeline: Any, settings: GuessSettings) -> list[int]:
    """Seeds of the clips that are still to be made; the folder is begun if there is none.

    Raises:
        InputError: if the folder holds guesses of another model or with other settings, or clips are too long or short.
    """
    if settings.frames % 4 != 1 or settings.frames < 4 * PIECE + 1:
        raise InputError(f"frames is {settings.frames}; it must be 4n+1 and at least {4 * PIECE + 1}.")
    window = pipeline.settings.window
    if window is not None and settings.frames > 4 * window + 1:
        raise InputError(f"frames is {settings.frames}; the model sees {4 * window + 1} at once.")
    about = asdict(settings) | {
        "sigmas": list(settings.sigmas),
        "transformer": weights_digest(pipeline.transformer),
        "image_encoder": weights_digest(pipeline.image_encoder),
        "autoencoder": encoder_digest(pipeline.vae),
    }
    del about["clips"]
    index = folder / _INDEX
    if index.exists() and (known := _read(index)) != about:
        changed = ", ".join(name for name in about if known.get(name) != about[name])
        raise InputError(f"{folder} holds guesses with another {changed}; remove it or choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    write_json_atomic(index, about)
    seeds = range(settings.first, settings.first + settings.clips)
    return [seed for seed in seeds if not _file(folder, seed).exists()]


@torch.no_grad()
def guess(pipeline: Any, clip: RenderedClip, sigma: float, fps: float, seed: int) -> dict[str, torch.Tensor]:
    """The model's guess of a clip that noise has made unrecognisable to the degree `sigma`; see `write_guesses`."""
    length = int(round(len(clip.frames) / fps * SAMPLE_RATE))
    voices = [Voice("voice", Sound(voice).placed(0, length)) for voice in clip.voices]
    boxes = clip.scene.boxes(clip.frames.shape[1])
    inputs = Inputs(Image.fromarray(clip.frames[0]), boxes, voices, len(clip.frames), fps)
    conditioning = pipeline.encode(inputs, "")
    pixels = torch.from_numpy(clip.frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    true = encode_video(pipeline.vae, pixels)
    noise = torch.randn(true.shape, generator=torch.Generator().manual_seed(seed))
    noisy = add_noise(true, noise, torch.tensor([sigma]))
    denoiser = Denoiser(pipeline.transformer, pipeline.scheduler, 1)
    whole = conditioning.window(Window(1, true.shape[2]))
    contexts = ContextCache(pipeline.transformer, denoiser.context_budget)
    velocity = denoiser.velocity(noisy, 0, torch.tensor([1000 * sigma]), 0, whole, contexts)
    return {
        "guess": (noisy - sigma * velocity)[0].half().contiguous(),
        "true": true[0].half().contiguous(),
        "frames": torch.from_numpy(np.ascontiguousarray(clip.frames)),
    }


def lessons(
    folder: Path, batch_size: int, side: int = 16, clips: int | None = None, seed: int = 0
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Endless random pieces for `train_decoder`: the picture and `PIECE` latent frames, squares of `side` latents.

    Args:
        folder: where `write_guesses` wrote.
        batch_size: pieces a batch.
        side: in latents, no more than the clips have.
        clips: only the first ones; None: all.
        seed: of the draws.

    Yields:
        Guesses and true latents (B, channels, 1 + PIECE, side, side), pixels (B, 3, 1 + 4·PIECE, 8·side, 8·side).

    Raises:
        InputError: if the folder holds no guesses, or these are smaller than `side`.
    """
    files = sorted(folder.glob("[0-9]*.safetensors"))[:clips]
    if not files:
        raise InputError(f"{folder} holds no guesses.")
    rng = np.random.default_rng(seed)
    while True:
        pieces = [_piece(load_file(files[rng.integers(len(files))]), side, rng) for _ in range(batch_size)]
        yield tuple(torch.stack(parts) for parts in zip(*pieces, strict=True))  # type: ignore[misc]


def _piece(
    clip: dict[str, torch.Tensor], side: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    _, frames, height, width = clip["true"].shape
    if side > min(height, width):
        raise InputError(f"side is {side}, but a clip has {height}×{width} latents.")
    first = int(rng.integers(1, frames - PIECE + 1))
    top, left = (int(rng.integers(0, size - side + 1)) for size in (height, width))
    chosen, rows, columns = [0, *range(first, first + PIECE)], slice(top, top + side), slice(left, left + side)
    shown = clip["frames"][[0, *range(4 * first - 3, 4 * (first + PIECE) - 3)]]
    shown = shown[:, 8 * top : 8 * (top + side), 8 * left : 8 * (left + side)]
    pixels = shown.permute(3, 0, 1, 2).float() / 127.5 - 1
    return clip["guess"][:, chosen, rows, columns].float(), clip["true"][:, chosen, rows, columns].float(), pixels


def _file(folder: Path, seed: int) -> Path:
    return folder / f"{seed:08d}.safetensors"


def _read(index: Path) -> dict[str, Any]:
    return json.loads(index.read_text(encoding="utf-8"))
