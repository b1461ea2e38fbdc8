"""Stage 1 of the training: flow matching on single and joined clips, with averaged weights and exact resumption."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from anytalker.errors import AnyTalkerError
from anytalker.files import atomic_path
from anytalker.models.transformer import AnyTalkerTransformer3DModel
from anytalker.training.autoencoder import warmup_cosine
from anytalker.training.batches import Batch, BatchSettings, Clip, crop_to_face, make_batch
from anytalker.training.losses import add_noise, flow_matching_loss, sample_sigmas, timestep_weights


@dataclass(frozen=True)
class TrainingSettings:
    """How stage 1 runs.

    Attributes:
        steps: optimizer steps.
        batch_size: clips a step; a joined batch has as many clips, hence fewer scenes.
        window: latent frames of a training clip besides the picture.
        crop: side in latents of the square around the face that most batches are cut to; twice as many clips fit then.
        crop_probability: share of the batches that are cut; the others show whole clips.
        learning_rate: peak of a warm-up and cosine schedule (AdamW).
        warmup_steps: steps of the warm-up.
        weight_decay: of AdamW.
        shift: shift of the noise levels towards noise.
        average: decay of the exponential moving average of the weights that is saved.
        gradient_clip: largest norm of the gradient.
        seed: seed of everything random.
        save_every: steps between checkpoints.
        log_every: steps between lines of progress.
    """

    steps: int = 3500
    batch_size: int = 8
    window: int = 8
    crop: int = 8
    crop_probability: float = 0.8
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    shift: float = 3.0
    average: float = 0.998
    gradient_clip: float = 1.0
    seed: int = 0
    save_every: int = 250
    log_every: int = 25
    batches: BatchSettings = field(default_factory=BatchSettings)


class Conditioner(nn.Module):
    """The small encoders of text and picture, trained together with the transformer in the miniature.

    Args:
        text_encoder: a T5 encoder.
        tokenizer: its tokenizer.
        image_encoder: a CLIP vision model; its hidden states before the last layer are used.
        text_len: tokens a prompt is cut to.
    """

    def __init__(self, text_encoder: nn.Module, tokenizer, image_encoder: nn.Module, text_len: int) -> None:
        super().__init__()
        self.text_encoder = text_encoder.requires_grad_(False)
        self.image_encoder = image_encoder
        self.tokenizer = tokenizer
        self.text_len = text_len
        self._texts: dict[str, torch.Tensor] = {}

    def encode_text(self, prompts: Sequence[str]) -> torch.Tensor:
        """Text embeddings (B, text_len, channels), zero after each prompt's end."""
        for prompt in set(prompts) - set(self._texts):
            tokens = self.tokenizer(prompt, truncation=True, max_length=self.text_len, return_tensors="pt")
            with torch.no_grad():
                states = self.text_encoder(**tokens).last_hidden_state[0]
            self._texts[prompt] = nn.functional.pad(states, (0, 0, 0, self.text_len - len(states)))
        return torch.stack([self._texts[prompt] for prompt in prompts])

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """Hidden states (n, tokens, channels) before the image encoder's last layer, for pixels (n, 3, size, size)."""
        return self.image_encoder(pixels, output_hidden_states=True).hidden_states[-2]


@dataclass
class TrainingState:
    """All that a checkpoint holds: weights, their average, optimizer, and the state of every source of chance."""

    transformer: AnyTalkerTransformer3DModel
    conditioner: Conditioner
    optimizer: torch.optim.Optimizer
    averaged: dict[str, torch.Tensor]
    chance: np.random.Generator
    noise: torch.Generator
    step: int = 0

    @classmethod
    def start(
        cls, transformer: AnyTalkerTransformer3DModel, conditioner: Conditioner, settings: TrainingSettings
    ) -> TrainingState:
        """A fresh state with an AdamW optimizer that decays matrices only."""
        parameters = [p for p in _trained(transformer, conditioner).parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98))
        averaged = {
            key: value.detach().clone() for key, value in _trained(transformer, conditioner).state_dict().items()
        }
        return cls(
            transformer,
            conditioner,
            optimizer,
            averaged,
            np.random.default_rng([settings.seed, 3]),
            torch.Generator().manual_seed(settings.seed),
        )

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {
            "weights": _trained(self.transformer, self.conditioner).state_dict(),
            "averaged": self.averaged,
            "optimizer": self.optimizer.state_dict(),
            "noise": self.noise.get_state(),
            "step": self.step,
            "chance": copy.deepcopy(self.chance.bit_generator.state),
        }
        with atomic_path(path) as partial:
            torch.save(state, partial)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, weights_only=True)
        _trained(self.transformer, self.conditioner).load_state_dict(state["weights"])
        self.averaged = state["averaged"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.noise.set_state(state["noise"])
        self.step = state["step"]
        self.chance.bit_generator.state = state["chance"]

    def start_from(self, path: Path) -> None:
        """Begin with another run's averaged weights; step, optimizer and sources of chance stay fresh."""
        averaged = torch.load(path, weights_only=True)["averaged"]
        _trained(self.transformer, self.conditioner).load_state_dict(averaged)
        self.averaged = {key: value.clone() for key, value in averaged.items()}

    def averaged_models(self) -> tuple[AnyTalkerTransformer3DModel, nn.Module]:
        """Copies of the transformer and the image encoder with the averaged weights."""
        both = copy.deepcopy(_trained(self.transformer, self.conditioner))
        both.load_state_dict(self.averaged)
        return both["transformer"].eval(), both["image_encoder"].eval()  # type: ignore[index,return-value]


def _trained(transformer: nn.Module, conditioner: Conditioner) -> nn.ModuleDict:
    return nn.ModuleDict({"transformer": transformer, "image_encoder": conditioner.image_encoder})


def train(
    state: TrainingState,
    clips: Sequence[Clip],
    settings: TrainingSettings,
    checkpoint: Path,
    log: Callable[[str], None] = print,
) -> TrainingState:
    """Train until `settings.steps`, saving to `checkpoint` on the way; a state with steps behind it goes on.

    Raises:
        AnyTalkerError: if the loss is not a number; the checkpoint then still holds the last good state.
    """
    started, first = time.monotonic(), state.step
    recent: list[float] = []
    while state.step < settings.steps:
        rate = settings.learning_rate * warmup_cosine(state.step, settings.warmup_steps, settings.steps)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        loss = _step(state, _draw_batch(state, clips, settings), settings)
        if not np.isfinite(loss):
            raise AnyTalkerError(
                f"The loss became {loss} at step {state.step}. Go on from {checkpoint} with a lower learning rate."
            )
        state.step += 1
        recent.append(loss)
        if state.step % settings.log_every == 0:
            pace = (time.monotonic() - started) / (state.step - first)
            log(
                f"step {state.step}/{settings.steps}  loss {np.mean(recent):.4f}  rate {rate:.1e}"
                f"  {pace:.2f} s/step  left {pace * (settings.steps - state.step) / 60:.1f} min"
            )
            recent = []
        if state.step % settings.save_every == 0 or state.step == settings.steps:
            state.save(checkpoint)
    return state


def _draw_batch(state: TrainingState, clips: Sequence[Clip], settings: TrainingSettings) -> Batch:
    cut = state.chance.random() < settings.crop_probability
    chosen = state.chance.choice(len(clips), settings.batch_size * (2 if cut else 1), replace=False)
    windows = []
    for index in chosen:
        clip = clips[index]
        last = clip.latents.shape[1] - settings.window
        window = clip.window(int(state.chance.integers(1, last + 1)), settings.window)
        windows.append(crop_to_face(window, settings.crop, state.chance) if cut else window)
    return make_batch(windows, settings.batches, state.chance)


def _step(state: TrainingState, batch: Batch, settings: TrainingSettings) -> float:
    sigmas = sample_sigmas(len(batch.latents), settings.shift, state.noise)
    noise = torch.randn(batch.latents.shape, generator=state.noise)
    noisy = add_noise(batch.latents, noise, sigmas)
    count, people = batch.faces.shape[:2]
    images = state.conditioner.encode_images(torch.cat([batch.pictures, batch.faces.flatten(0, 1)]))
    velocity = state.transformer(
        torch.cat([noisy, batch.mask, batch.condition], dim=1),
        sigmas * 1000,
        state.conditioner.encode_text(batch.prompts),
        images[:count],
        images[count:].unflatten(0, (count, people)),
        batch.audio,
        batch.face_masks,
        return_dict=False,
    )[0]
    weights = timestep_weights(sigmas, settings.shift)
    loss = flow_matching_loss(velocity, batch.latents, noise, weights, batch.loss_weights)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    trained = _trained(state.transformer, state.conditioner)
    nn.utils.clip_grad_norm_(trained.parameters(), settings.gradient_clip)
    state.optimizer.step()
    decay = min(settings.average, (state.step + 1) / (state.step + 10))
    with torch.no_grad():
        for key, value in trained.state_dict().items():
            if value.is_floating_point():
                state.averaged[key].lerp_(value, 1 - decay)
    return float(loss.detach())
