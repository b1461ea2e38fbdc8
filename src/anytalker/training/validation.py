"""What is measured on held-out clips while a run goes on: the loss at fixed noise, and whether lips follow voices."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anytalker.data.encoding import Clip
from anytalker.data.shards import read_all
from anytalker.evaluation.mouths import follows_voice
from anytalker.models.latents import decode_video
from anytalker.pipelines.denoising import Conditioning, Denoiser
from anytalker.pipelines.guidance import Guidance
from anytalker.pipelines.output import write_video
from anytalker.training.batches import make_batch
from anytalker.training.config import BatchConfig, TrainingConfig
from anytalker.training.model import TextEmbeddings, TrainedModel, group_loss

_PLAIN = BatchConfig(join=[1], audio_dropout=0, text_dropout=0, widen_probability=0)


@torch.no_grad()
def validate(
    pipeline: Any, model: TrainedModel, text: TextEmbeddings, config: TrainingConfig, folder: Path
) -> dict[str, float]:
    """Measure a model on held-out clips, and write videos of the first ones into `folder`.

    Args:
        pipeline: whose parts are used; its transformer is the model's.
        model: what is trained.
        text: embeds prompts.
        config: the run; its `validation` says how much is measured.
        folder: where the videos go.

    Returns:
        "loss", and "lip_sync": the mean correlation of speaking mouths with their voice's loudness in the videos.
    """
    model.eval()
    samples = list(itertools.islice(_in_turn(config.validation.data), config.validation.clips))
    losses, follows = [], []
    device = next(model.parameters()).device
    for number, (source, sample) in enumerate(samples):
        clip = Clip.from_sample(sample, pipeline.audio_features.window)
        batch = make_batch([clip], 1, _PLAIN, np.random.default_rng(number)).to(device)
        prompts = text(batch.prompts).to(device)
        generator = torch.Generator().manual_seed(number)
        losses.append(float(group_loss(model, batch, prompts, config.shift, generator)))
        if number < config.validation.videos:
            frames = _video(pipeline, batch, prompts, generator)
            voices = sample["voices"].numpy().astype(np.float32) / 32767
            fps = float(sample["record"].get("fps", pipeline.settings.fps))
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{source.name}-{sample['key']}.mp4"
            write_video(path, frames, fps, voices.sum(0).clip(-1, 1), 16000)
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


def _video(pipeline: Any, batch: Any, prompts: torch.Tensor, generator: torch.Generator) -> np.ndarray:
    count, people = batch.faces.shape[:2]
    pixels = torch.cat([batch.pictures, batch.faces.flatten(0, 1)])
    states = pipeline.image_encoder(pixels, output_hidden_states=True).hidden_states[-2]
    conditioning = Conditioning(
        condition=torch.cat([batch.mask, batch.condition], dim=1),
        prompt_embeds=prompts,
        negative_prompt_embeds=torch.zeros_like(prompts),
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
    pixels = decode_video(pipeline.vae, denoise(noise, conditioning))[0]
    return pixels.add(1).div(2).permute(1, 2, 3, 0).float().cpu().numpy()
