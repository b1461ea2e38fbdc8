"""How the small SyncNet of the evaluation is made: mouths and voices of the drawn world, and its training."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, IterableDataset

from anytalker.conditioning.log_mel import LogMelFeatures
from anytalker.conventions import corners
from anytalker.evaluation.lip_sync.crops import FaceCrop, crop_faces
from anytalker.evaluation.lip_sync.small_syncnet import (
    MEL_BINS,
    SUBSTEPS,
    WINDOW,
    SmallSyncModel,
    SmallSyncNet,
    normalize_tracks,
)
from anytalker.files import atomic_path
from anytalker.miniature.corpus import CorpusSettings, render_clip
from anytalker.training.autoencoder import warmup_cosine

CROP = FaceCrop(size=72, side=0.96, shift=(0.0, 0.26))
"""What is kept of a rendered face: the model's view with room around it to move and scale in."""

TRACKS: tuple[tuple[CorpusSettings, int], ...] = (
    (CorpusSettings(clips=1000, frames=65), 200_000),
    (CorpusSettings(clips=160, persons=2, frames=65), 300_000),
)
"""The clips of the shipped weights, and the seed of the first one of each kind."""


@dataclass(frozen=True)
class Tracks:
    """Faces and their voices.

    Attributes:
        crops: uint8 (tracks, T, 72, 72), see `CROP`.
        voices: int16 (tracks, samples) at 16 kHz.
        fps: video frames a second.
    """

    crops: torch.Tensor
    voices: torch.Tensor
    fps: float


class _Renders(IterableDataset):
    """Renders clips in a worker process and yields the crops (T, P, 72, 72) and voices of each."""

    def __init__(self, kinds: Sequence[tuple[CorpusSettings, int]]) -> None:
        self.kinds = kinds

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        torch.set_num_threads(1)
        for settings, first in self.kinds:
            for seed in range(first, first + settings.clips):
                clip = render_clip(seed, settings)
                crops, _ = crop_faces(clip.frames, corners(clip.boxes), CROP)
                yield crops, np.round(np.stack(clip.voices) * 32767).astype(np.int16)


def render_tracks(
    path: Path,
    kinds: Sequence[tuple[CorpusSettings, int]] = TRACKS,
    log: Callable[[str], None] = print,
) -> Tracks:
    """Render clips, or read them from `path` if that was done before; silent people are left out.

    Args:
        path: a safetensors file, written whole or not at all.
        kinds: what to render, all of the same number of frames and rate, and the seed of the first clip of each kind.
        log: receives lines of progress.
    """
    fps = kinds[0][0].fps
    if not path.exists():
        total = sum(settings.clips for settings, _ in kinds)
        faces, voices = [], []
        for done, (crops, heard) in enumerate(DataLoader(_Renders(kinds), batch_size=None, num_workers=1), 1):
            for person in np.flatnonzero(heard.any(dim=1).numpy()):
                faces.append(crops[:, person].clone())
                voices.append(heard[person].clone())
            if done % 100 == 0 or done == total:
                log(f"{done} of {total} clips rendered")
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as partial:
            save_file({"crops": torch.stack(faces), "voices": torch.stack(voices)}, partial)
    tensors = load_file(path)
    return Tracks(tensors["crops"], tensors["voices"], fps)


@dataclass(frozen=True)
class SyncTraining:
    """How the small SyncNet is trained.

    `batch_size` tracks of `frames` frames a step; `learning_rate` is the peak of a warm-up and cosine schedule;
    `reach` the largest delay in frames of the loss over whole tracks, `track_weight` that loss's weight.
    """

    steps: int = 900
    batch_size: int = 20
    frames: int = 36
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    reach: int = 10
    track_weight: float = 0.5
    seed: int = 0
    log_every: int = 20


def train_sync(
    tracks: Tracks,
    config: SyncTraining,
    path: Path,
    start: SmallSyncNet | None = None,
    log: Callable[[str], None] = print,
) -> SmallSyncNet:
    """Train the small SyncNet and save it in half precision.

    The loss is InfoNCE in both directions over the windows of all tracks of a step: other moments of the same track
    teach time, other tracks teach who speaks. A second one does the same for whole tracks and their delays, which is
    what scores are made of.

    Args:
        tracks: faces and voices.
        config: steps and rates.
        path: the safetensors file to write.
        start: a network to go on with; None: a new one.
        log: receives a line of progress every `log_every` steps.
    """
    torch.manual_seed(config.seed)
    network = (start or SmallSyncNet()).train()
    network.mouth = network.mouth.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster
    sharpness = torch.nn.Parameter(torch.tensor([2.5, 3.0]))  # logarithms of the two losses' inverse temperatures
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1] + [sharpness]
    groups = [{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99))
    batches = sync_batches(tracks, config)
    started = time.monotonic()
    totals = torch.zeros(3)
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * warmup_cosine(step, config.warmup_steps, config.steps)
        crops, spectra = next(batches)
        faces = network.embed_mouths(network.encode_mouths(normalize_tracks(crops)))
        voices = network.embed_voices(spectra)
        windows, whole, hits = sync_losses(faces, voices, loud_windows(spectra), sharpness.exp(), config.reach)
        optimizer.zero_grad(set_to_none=True)
        (windows + config.track_weight * whole).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            sharpness.clamp_(max=4.6)
        totals += torch.stack([windows, whole, hits]).detach()
        if (step + 1) % config.log_every == 0:
            left = (time.monotonic() - started) / (step + 1) * (config.steps - step - 1)
            means = totals / config.log_every
            totals.zero_()
            log(
                f"step {step + 1}/{config.steps}  windows {means[0]:.3f}  tracks {means[1]:.3f}"
                f"  tracks in time {means[2]:.1%}  left {left:.0f} s"
            )
            save_sync(network, path)
    save_sync(network, path)
    return network.eval()


def save_sync(network: SmallSyncNet, path: Path) -> None:
    """Write a network's weights in half precision, whole or not at all."""
    state = {
        name: value.half().contiguous() for name, value in network.state_dict().items() if value.is_floating_point()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial:
        save_file(state, partial)


def sync_losses(
    faces: torch.Tensor, voices: torch.Tensor, loud: torch.Tensor, sharpness: torch.Tensor, reach: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Both contrastive losses and the share of tracks whose own voice without delay fits best.

    Args:
        faces, voices: unit vectors (B, W, channels).
        loud: boolean (B, W), windows with sound. Nobody can tell one silent window from another, so that these count
            little.
        sharpness: (2,) factors on the similarities, for windows and for tracks.
        reach: largest delay in windows.
    """
    count, length = faces.shape[:2]
    similar = faces.flatten(0, 1) @ voices.flatten(0, 1).T
    weights = torch.where(loud, 1.0, 0.05).flatten()
    target = torch.arange(len(similar))
    forward = torch.nn.functional.cross_entropy(sharpness[0] * similar, target, reduction="none")
    backward = torch.nn.functional.cross_entropy(sharpness[0] * similar.T, target, reduction="none")
    windows = ((forward + backward) / 2 * weights).sum() / weights.sum()
    grid = similar.view(count, length, count, length).transpose(1, 2)
    delays = [grid.diagonal(delay, 2, 3).mean(dim=2) for delay in range(-reach, reach + 1)]
    logits = sharpness[1] * torch.stack(delays, dim=2)
    own = torch.arange(count)
    target = own * (2 * reach + 1) + reach
    speaking = loud.float().mean(dim=1) > 0.3
    by_face = torch.nn.functional.cross_entropy(logits.flatten(1)[speaking], target[speaking])
    by_voice = torch.nn.functional.cross_entropy(logits.transpose(0, 1).flatten(1)[speaking], target[speaking])
    hits = (logits.flatten(1)[speaking].argmax(dim=1) == target[speaking]).float().mean()
    return windows, (by_face + by_voice) / 2, hits


def loud_windows(spectra: torch.Tensor) -> torch.Tensor:
    """Boolean (B, T-4): windows of log-mel spectra (B, T, channels) that are clearly above the track's noise."""
    level = spectra.mean(dim=2)
    floor = level.amin(dim=1, keepdim=True)
    height = level.amax(dim=1, keepdim=True) - floor
    loud = (level > floor + 0.25 * height) & (height > 0.1)
    return loud.unfold(1, WINDOW, 1).float().mean(dim=2) >= 0.4


def sync_batches(tracks: Tracks, config: SyncTraining) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches: changed crops float (B, T, 48, 48), and log-mel spectra (B, T, channels) of the same frames."""
    generator = torch.Generator().manual_seed(config.seed)
    features = LogMelFeatures(mel_bins=MEL_BINS, substeps=SUBSTEPS, window=1)
    count, frames = tracks.crops.shape[:2]
    spectra = torch.stack([features(voice.float() / 32767, frames, tracks.fps)[:, 0, 0] for voice in tracks.voices])
    while True:
        chosen = torch.randperm(count, generator=generator)[: config.batch_size]
        starts = torch.randint(0, frames - config.frames + 1, (len(chosen),), generator=generator)
        span = starts[:, None] + torch.arange(config.frames)
        crops = tracks.crops[chosen[:, None], span]
        heard = spectra[chosen[:, None], span]
        heard = heard + 0.03 * torch.randn(heard.shape, generator=generator) * (heard > 0)
        yield vary_crops(crops, generator), heard


def vary_crops(crops: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Place, scale, turn, soften, light and disturb crops uint8 (B, T, 72, 72): float (B, T, 48, 48).

    Soft in space and in time, as generated videos are; noisy in pixels and in blocks, as compressed ones are.
    """
    count, frames = crops.shape[:2]
    size = SmallSyncModel.crop.size

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    def some(share: float) -> torch.Tensor:
        return (torch.rand(count, generator=generator) < share).float()

    pixels = _place(crops.float(), size, uniform, some, generator)
    soft = uniform(0, 0.3) * some(0.3)
    padded = torch.nn.functional.pad(pixels, (0, 0, 0, 0, 1, 1), mode="replicate")
    around = (padded[:, :-2] + padded[:, 2:]) / 2
    pixels = pixels + soft[:, None, None, None] * (around - pixels)
    low = int(torch.randint(12, 44, (1,), generator=generator))
    half = some(0.5)[:, None, None, None]
    small = torch.nn.functional.interpolate(pixels, size=(low, low), mode="area")
    pixels = pixels + half * (
        torch.nn.functional.interpolate(small, size=(size, size), mode="bilinear", align_corners=False) - pixels
    )
    gamma = torch.exp(uniform(-0.4, 0.4))[:, None, None, None]
    pixels = 255 * (pixels / 255).clamp(0, 1) ** gamma
    pixels = pixels * uniform(0.6, 1.2)[:, None, None, None] + uniform(-20, 20)[:, None, None, None]
    grain = uniform(0, 7)[:, None, None, None] * some(0.6)[:, None, None, None]
    pixels = pixels + grain * torch.randn(pixels.shape, generator=generator)
    blocks = torch.randn(count, frames, size // 8, size // 8, generator=generator)
    strength = uniform(0, 5)[:, None, None, None] * some(0.3)[:, None, None, None]
    blocky = torch.nn.functional.interpolate(blocks, size=(size, size), mode="nearest")
    return (pixels + strength * blocky).clamp(0, 255)


def _place(
    crops: torch.Tensor,
    size: int,
    uniform: Callable[..., torch.Tensor],
    some: Callable[[float], torch.Tensor],
    generator: torch.Generator,
) -> torch.Tensor:
    """The model's view of float crops (B, T, S, S): moved, scaled, turned, mirrored, and trembling like a detector."""
    count, frames, side = crops.shape[:3]
    zoom = size / side * torch.exp(uniform(-0.16, 0.16))
    angle = uniform(-0.08, 0.08)
    mirror = 1 - 2 * some(0.5)
    tremble = torch.randn(count, frames, 2, generator=generator) * (uniform(0, 0.025) * some(0.5))[:, None, None]
    place = uniform(-0.1, 0.1, 1, 2) + tremble
    matrix = torch.stack(
        [zoom * angle.cos() * mirror, -zoom * angle.sin(), zoom * angle.sin() * mirror, zoom * angle.cos()], dim=1
    )
    theta = torch.cat([matrix.view(count, 1, 2, 2).expand(-1, frames, -1, -1), place[..., None]], dim=3)
    grid = torch.nn.functional.affine_grid(theta.flatten(0, 1), [count * frames, 1, size, size], align_corners=False)
    views = torch.nn.functional.grid_sample(
        crops.flatten(0, 1)[:, None], grid, padding_mode="border", align_corners=False
    )
    return views[:, 0].unflatten(0, (count, frames))
