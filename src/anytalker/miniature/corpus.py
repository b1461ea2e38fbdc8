"""The clips that stage 1 trains on: drawn people speaking synthetic sentences, encoded once and kept in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, IterableDataset

from anytalker.conditioning.log_mel import LogMelFeatures, windows
from anytalker.files import atomic_path
from anytalker.miniature.behaviour import talk
from anytalker.miniature.scenes import UNSEEN_SEED, Scene
from anytalker.miniature.voices import SAMPLE_RATE, augment, random_utterance, resample_visemes
from anytalker.pipelines.latents import encode_video, still_latents
from anytalker.training.batches import Box, Clip


@dataclass(frozen=True)
class CorpusSettings:
    """Size and shape of the corpus.

    Attributes:
        clips: number of clips.
        frames: video frames a clip, 4n+1; frame 0 is the neutral picture, the others any moment of speech.
        size: height and width of a clip in pixels.
        fps: video frames a second.
        silent_share: share of the clips in which nobody speaks.
    """

    clips: int = 1200
    frames: int = 65
    size: int = 128
    fps: float = 24.0
    silent_share: float = 0.08


@dataclass(frozen=True)
class RenderedClip:
    """A clip before it is encoded: `frames` uint8 (T, H, W, 3), `audio` features (T, window, blocks, channels)."""

    frames: np.ndarray
    audio: torch.Tensor
    box: Box
    opening: np.ndarray


def render_clip(seed: int, settings: CorpusSettings, features: LogMelFeatures) -> RenderedClip:
    """Render one clip of one person; the same seed gives the same clip.

    The voice starts at a random moment and is augmented (noise, room, gain); the lips follow the clean voice.
    """
    rng = np.random.default_rng([seed, 11])
    scene = Scene.random(1, int(rng.integers(UNSEEN_SEED)))
    seconds = settings.frames / settings.fps
    waveform = np.zeros(int(round(seconds * SAMPLE_RATE)), dtype=np.float32)
    visemes = np.zeros((settings.frames, 4), dtype=np.float32)
    if rng.random() >= settings.silent_share:
        utterance = random_utterance(rng, 0.6 * seconds, 1.6 * seconds)
        start = int(rng.uniform(-0.4, 0.35) * seconds * settings.fps)
        aligned = resample_visemes(utterance.visemes, settings.frames + abs(start), settings.fps)
        spoken = utterance.waveform
        skip = int(round(abs(start) / settings.fps * SAMPLE_RATE))
        if start >= 0:
            visemes[start:] = aligned[: settings.frames - start]
            spoken = np.concatenate([np.zeros(skip, dtype=np.float32), spoken])
        else:
            visemes[:] = aligned[-start : -start + settings.frames]
            spoken = spoken[skip:]
        waveform[: len(spoken)] = spoken[: len(waveform)]
        waveform = augment(waveform, rng)
    gaze = scene.gazes[0]
    states = talk(visemes, settings.fps, rng, gaze)
    states[0] = scene.neutral(0)
    frames = np.stack(list(scene.render([states], settings.size)))
    audio = features(waveform, settings.frames, settings.fps)
    return RenderedClip(frames, audio, scene.boxes(settings.size)[0], visemes[:, 0])


class _Renders(IterableDataset):
    """Renders clips in a worker process, so that encoding never waits."""

    def __init__(self, seeds: range, settings: CorpusSettings, features: LogMelFeatures) -> None:
        self.seeds, self.settings, self.features = seeds, settings, features

    def __iter__(self) -> Iterator[tuple[int, RenderedClip]]:
        torch.set_num_threads(1)
        for seed in self.seeds:
            yield seed, render_clip(seed, self.settings, self.features)


def build_corpus(
    folder: Path,
    settings: CorpusSettings,
    vae: AutoencoderKLWan,
    features: LogMelFeatures,
    clips_per_file: int = 50,
) -> None:
    """Render and encode the corpus into safetensors files in `folder`; files already there are kept.

    Args:
        folder: where the files go; made if missing.
        settings: what to render.
        vae: trained autoencoder with latent statistics in its configuration.
        features: audio features of the pipeline that will be trained.
        clips_per_file: how many clips share a file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, settings.clips, clips_per_file):
        path = folder / f"clips-{first:06d}.safetensors"
        if path.exists():
            continue
        seeds = range(first, min(first + clips_per_file, settings.clips))
        rendered = DataLoader(_Renders(seeds, settings, features), batch_size=None, num_workers=1, prefetch_factor=4)
        tensors: dict[str, torch.Tensor] = {}
        for seed, clip in rendered:
            tensors |= {f"{seed}.{key}": value for key, value in _encode(clip, vae).items()}
        with atomic_path(path) as partial:
            save_file(tensors, partial)


@torch.no_grad()
def _encode(clip: RenderedClip, vae: AutoencoderKLWan) -> dict[str, torch.Tensor]:
    pixels = torch.from_numpy(clip.frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    latents = encode_video(vae, pixels)[0]
    condition = still_latents(vae, pixels[:, :, :1], latents.shape[1])[0]
    return {
        "latents": latents.half().contiguous(),
        "condition": condition.half().contiguous(),
        "audio": clip.audio[:, clip.audio.shape[1] // 2].half().contiguous(),
        "picture": torch.from_numpy(clip.frames[0].copy()),
        "box": torch.tensor(clip.box, dtype=torch.float32),
        "opening": torch.from_numpy(clip.opening.copy()),
    }


def load_corpus(folder: Path, clip_image_size: int, window: int) -> list[Clip]:
    """Read every clip of a corpus.

    Args:
        folder: made by `build_corpus`.
        clip_image_size: side in pixels of the image encoder's input.
        window: audio frames in a window; the stored centre rows are widened to it again.
    """
    from PIL import Image

    from anytalker.conditioning.faces import clip_pixels, crop_face

    clips = []
    for path in sorted(folder.glob("clips-*.safetensors")):
        stored = load_file(path)
        for seed in sorted({key.split(".")[0] for key in stored}, key=int):
            box = tuple(stored[f"{seed}.box"].tolist())
            picture = Image.fromarray(stored[f"{seed}.picture"].numpy())
            pixels = clip_pixels([picture, crop_face(picture, box)], clip_image_size)
            clips.append(
                Clip(
                    latents=stored[f"{seed}.latents"],
                    condition=stored[f"{seed}.condition"],
                    audio=windows(stored[f"{seed}.audio"], window),
                    picture=pixels[0],
                    face=pixels[1],
                    box=box,  # type: ignore[arg-type]
                )
            )
    return clips
