"""What is measured on held-out clips while a run goes on: the loss at fixed noise, and whether lips follow voices."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anytalker.conventions import SAMPLE_RATE
from anytalker.data.encoding import Clip
from anytalker.data.shards import read_all
from anytalker.denoising.denoiser import Conditioning, Denoiser
from anytalker.denoising.guidance import Guidance
from anytalker.evaluation.lip_sync.mouths import follows_voice
from anytalker.media.video import write_video
from anytalker.models.latents import decode_video
from anytalker.training.batches import Batch, make_batch, window_of
from anytalker.training.config import BatchConfig, TrainingConfig
from anytalker.training.model import TextEmbeddings, TrainedModel, group_loss

_PLAIN = BatchConfig(join=[1], audio_dropout=0, text_dropout=0, widen_probability=0)


@torch.no_grad()
def validate(
    pipeline: Any,
    model: TrainedModel,
    texts: tuple[TextEmbeddings, torch.Tensor],
    config: TrainingConfig,
    folder: Path,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> dict[str, float]:
    """Measure a model on held-out clips, and write videos of the first ones into `folder`.

    Args:
        pipeline: whose parts are used; its transformer is the model's.
        model: what is trained.
        texts: embeds prompts, and the text embeddings (1, L, channels) of guidance's null branch.
        config: the run; its `validation` says how much is measured. The loss is that of windows as the run trains on,
            the first one of each clip.
        folder: where the videos go.
        autocast: the run's precision.

    Returns:
        "loss", and "lip_sync": the mean correlation of speaking mouths with their voice's loudness in the videos.
    """
    model.eval()
    text, null_text = texts
    samples = list(itertools.islice(_in_turn(config.validation.data), config.validation.clips))
    losses, follows = [], []
    device = next(model.parameters()).device
    for number, (source, sample) in enumerate(samples):
        fps = float(sample["record"].get("fps", pipeline.settings.fps))
        clip = Clip.from_sample(sample, pipeline.audio_features.window)
        batch, windowed = (_plain_batch(part, number, device) for part in (clip, _windowed(clip, config.data.window)))
        prompts = text(batch.prompts).to(device)
        generator = torch.Generator().manual_seed(number)
        with autocast(), torch.compiler.set_stance("force_eager"):
            loss = group_loss(model, windowed, prompts, config.shift, config.loss_weighting, generator)
            losses.append(float(loss))
        if number < config.validation.videos:
            with autocast(), torch.compiler.set_stance("force_eager"):
                latents = _denoised(pipeline, batch, prompts, null_text, generator)
            pixels = decode_video(pipeline.vae, latents.float())[0]
            frames = pixels.add(1).div(2).permute(1, 2, 3, 0).float().cpu().numpy()
            voices = sample["voices"].numpy().astype(np.float32) / 32767
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{source.name}-{sample['key']}.mp4"
            write_video(path, frames, fps, voices.sum(0).clip(-1, 1), SAMPLE_RATE)
            follows += [
                follows_voice(frames, box, voice, fps)
                for box, voice in zip(clip.boxes, voices, strict=True)
                if np.abs(voice).max() > 0.01
            ]
    model.train()
    return {"loss": float(np.mean(losses))} | ({"lip_sync": float(np.mean(follows))} if follows else {})


def _in_turn(folders: list[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The first clip of every folder, then the second, until all are through."""
    for clips in itertools.zip_longest(*(read_all(folder) for folder in folders)):
        yield from ((folder, clip) for folder, clip in zip(folders, clips, strict=True) if clip is not None)


def _windowed(clip: Clip, length: int | None) -> Clip:
    """The start of a clip, as long as a run's windows; held-out clips may be shorter."""
    return clip if length is None or clip.latents.shape[1] <= length else window_of(clip, 1, length)


def _plain_batch(clip: Clip, number: int, device: torch.device) -> Batch:
    return make_batch([clip], 1, _PLAIN, np.random.default_rng(number)).to(device)


def _denoised(
    pipeline: Any, batch: Batch, prompts: torch.Tensor, null_text: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Latents (1, channels, f, h, w) of the whole clip, as the pipeline makes them."""
    count, people = batch.faces.shape[:2]
    pixels = torch.cat([batch.pictures, batch.faces.flatten(0, 1)])
    states = pipeline.image_encoder(pixels, output_hidden_states=True).hidden_states[-2]
    conditioning = Conditioning(
        condition=torch.cat([batch.mask, batch.condition], dim=1),
        prompt_embeds=prompts,
        negative_prompt_embeds=null_text.to(prompts),
        image_embeds=states[:count],
        face_embeds=states[count:].unflatten(0, (count, people)),
        audio_embeds=batch.audio,
        face_masks=batch.face_masks,
    )
    settings = pipeline.settings
    denoise = Denoiser(
        pipeline.transformer,
        pipeline.scheduler,
        settings.num_inference_steps,
        Guidance(settings.guidance_scale, settings.guidance_scale),
        settings.window,
        settings.window_overlap,
    )
    noise = torch.randn(batch.latents.shape, generator=generator).to(batch.latents)
    return denoise(noise, conditioning)
