"""A training step at true size: forward, backward and AdamW, one clip, whole or by a low-rank adapter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from anytalker.models.transformer import AnyTalkerTransformer3DModel
from anytalker.training.adapters import add_adapter
from anytalker.training.config import LoraConfig, OptimizerConfig
from anytalker.training.losses import add_noise, flow_matching_loss
from anytalker.training.trainer import make_optimizer
from gpu_parts.scale import Row, Scale, made_on, random_transformer, reset_peak, shape_of, taken, timed

_REPEATS = 2


def measure_training(name: str, lora: bool, scale: Scale, device: str) -> Iterator[Row]:
    """Seconds and memory of a step on one clip of two people, with gradient checkpointing, in bfloat16."""
    reset_peak()
    config = shape_of(name, scale).transformer
    if lora:
        model = random_transformer(config, device)
        add_adapter(model, LoraConfig(), half=True)
    else:
        model = made_on(device, torch.float32, lambda: AnyTalkerTransformer3DModel(**config)).requires_grad_(True)
    model.train()
    model.enable_gradient_checkpointing()
    optimizer = make_optimizer(model, OptimizerConfig())
    given = _batch(model.config, scale, device)
    latents = torch.randn(given["hidden_states"].shape[0], 16, *given["hidden_states"].shape[2:], device=device)

    def step() -> float:
        noise, sigmas = torch.randn_like(latents), torch.full((1,), 0.6, device=device)
        hidden_states = torch.cat([add_noise(latents, noise, sigmas), given["hidden_states"][:, 16:]], dim=1)
        with torch.autocast(device, torch.bfloat16):
            velocity = model(**given | {"hidden_states": hidden_states}, return_dict=False)[0]
        loss = flow_matching_loss(velocity, latents, noise, torch.ones_like(sigmas), torch.ones_like(latents[:, :1]))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    step()
    seconds, losses = timed(lambda: [step() for _ in range(_REPEATS)])
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    row: Row = {"what": f"{name}, {'LoRA' if lora else 'whole'}", "s": round(seconds / _REPEATS, 3)}
    yield row | {"trained, millions": round(trained / 1e6), "peak GiB": taken(), "loss": round(losses[-1], 3)}


def _batch(config: Any, scale: Scale, device: str) -> dict[str, torch.Tensor]:
    frames, rows, columns = scale.grid
    masks = torch.zeros(1, 2, frames, rows, columns, device=device)
    masks[:, 0, :, : rows // 2, : columns // 2] = 1
    masks[:, 1, :, : rows // 2, columns // 2 :] = 1
    voices = (config.audio_window, config.audio_blocks, config.audio_channels)
    shapes = {
        "hidden_states": (1, config.in_channels, frames, 2 * rows, 2 * columns),
        "encoder_hidden_states": (1, config.text_len, config.text_dim),
        "encoder_hidden_states_image": (1, 257, config.image_dim),
        "face_embeds": (1, 2, 257, config.image_dim),
        "audio_embeds": (1, 2, scale.frames, *voices),
    }
    drawn = {name: torch.randn(shape, device=device) for name, shape in shapes.items()}
    return drawn | {"timestep": torch.tensor([600.0], device=device), "face_masks": masks}
