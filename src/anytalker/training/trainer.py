"""The training loop: both stages, one process or many, interrupted and resumed without a trace."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs, set_seed
from diffusers.training_utils import EMAModel

from anytalker.conditioning.audio_features import silent_rows
from anytalker.data.encoding import ClipEncoder
from anytalker.errors import AnyTalkerError, InputError
from anytalker.models.digest import weights_digest
from anytalker.pipelines.pipeline import AnyTalkerPipeline
from anytalker.training.adapters import add_adapter, save_adapter
from anytalker.training.autoencoder import warmup_cosine
from anytalker.training.batches import GENERIC_PROMPTS
from anytalker.training.checkpoints import (
    UNREADABLE,
    as_begun,
    check_run,
    checkpoint_path,
    checkpoint_steps,
    order_changes,
    save_checkpoint,
)
from anytalker.training.config import OptimizerConfig, TrainingConfig
from anytalker.training.export import filled_parts, merged_transformer, write_model
from anytalker.training.model import TextEmbeddings, TrainedModel, group_loss
from anytalker.training.reader import Group, GroupReader, check_shards, clip_lengths, group_loader
from anytalker.training.sharded import ShardedState, allow_on_cpu, fsdp_plugin
from anytalker.training.state import WholeState
from anytalker.training.validation import validate

_PATIENCE = timedelta(hours=3)
"""How long processes wait for the main one, which validates and writes the model alone."""


class Trainer:
    """One run of stage 1 or stage 2; which of them only the configuration knows.

    A run whose folder has checkpoints goes on from the newest.

    Args:
        config: the run.
        log: receives lines of progress, on the main process.

    Raises:
        InputError: if the model, the shards or the sharing among processes don't fit, or the checkpoint is damaged.
        AnyTalkerError: if the checkpoint can't be loaded now, for want of memory or of permission.
    """

    def __init__(self, config: TrainingConfig, log: Callable[[str], None] = print) -> None:
        given, config = config, as_begun(config)
        self.config = config
        self.accelerator = make_accelerator(config)
        self.log = log if self.accelerator.is_main_process else (lambda line: None)
        if config.loss_weighting != given.loss_weighting:
            self.log(f"loss_weighting is {config.loss_weighting}, with which an earlier version began this run")
        if order_changes(config):
            self.log("clips come in another order from here on than in the earlier version that began this run")
        set_seed(config.seed)
        self.pipeline = AnyTalkerPipeline.from_pretrained(config.model)
        settings = self.pipeline.settings
        features = self.pipeline.audio_features
        check_shards(config, ClipEncoder(self.pipeline.vae, features, settings.condition, settings.image_size))
        self.text = TextEmbeddings(self.pipeline.encode_text, ["", *GENERIC_PROMPTS], settings.text_len)
        with torch.no_grad():
            self.null_text = self.pipeline.encode_null_text(None)
        if not self.accelerator.is_main_process:
            self.pipeline.register_modules(text_encoder=None)
        self.begun_with = {
            name: weights_digest(self.pipeline.components[name]) for name in ("transformer", "image_encoder")
        }
        model = self._make_model()
        self.wrapped, self.optimizer = self.accelerator.prepare(model, make_optimizer(model, config.optimizer))
        self.model = model
        self.trained = [value for value in self.wrapped.parameters() if value.requires_grad]
        self.average = EMAModel(self.trained, decay=config.optimizer.average, foreach=not config.fsdp)
        self.state: ShardedState | WholeState
        if config.fsdp:
            self.state = ShardedState(self.wrapped, self.optimizer.optimizer, self.average)
        else:
            self.state = WholeState(self.accelerator, model, self.average)
        if config.validation.every and self.accelerator.is_main_process:
            self.pipeline.vae.to(self.accelerator.device)
        self.step = self._resume()
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        silence = {length: silent_rows(features, 4 * length - 3, settings.fps) for length in clip_lengths(config)}
        self.reader = GroupReader(config, features.window, self.step, rank, processes, silence)

    def _make_model(self) -> TrainedModel:
        config, transformer = self.config, self.pipeline.transformer
        if config.lora:
            add_adapter(transformer, config.lora, half=config.precision == "bf16")
        if config.gradient_checkpointing:
            transformer.enable_gradient_checkpointing()
        if config.compile:
            for block in transformer.blocks:
                block.compile(dynamic=False)
        return TrainedModel(transformer, self.pipeline.image_encoder, config.train_image_encoder).train()

    def _resume(self) -> int:
        steps = checkpoint_steps(self.checkpoints)
        check_run(self.config, self.begun_with, begun=bool(steps), write=self.accelerator.is_main_process)
        if not steps:
            return 0
        newest = checkpoint_path(self.checkpoints, steps[-1])
        try:
            self.state.load(newest)
        except (torch.OutOfMemoryError, PermissionError) as error:
            reason = str(error).splitlines()[0]
            raise AnyTalkerError(f"The checkpoint {newest} can't be loaded now ({reason}). It is kept.") from error
        except UNREADABLE as error:
            rest = f"goes on from step {steps[-2]}" if len(steps) > 1 else "begins anew"
            raise InputError(
                f"The checkpoint {newest} is damaged ({str(error).splitlines()[0]}). Remove it, and the run {rest}."
            ) from error
        self.average.to(self.accelerator.device)
        self.log(f"going on from step {steps[-1]}")
        return steps[-1]

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints of the run are."""
        return self.config.output / "checkpoints"

    def run(self) -> list[float]:
        """Train to the last step and export the model; the loss of every step made here is returned.

        Raises:
            AnyTalkerError: if the loss is not a number, or a checkpoint can't be written. The last checkpoint stays.
        """
        config, accelerator = self.config, self.accelerator
        accelerator.init_trackers("logs")
        groups = group_loader(self.reader, config.data.workers, accelerator.device.type == "cuda")
        losses: list[float] = []
        started, first = time.monotonic(), self.step
        while self.step < config.steps:
            loss = self._train_step(groups, len(self.reader.groups))
            if not math.isfinite(loss):
                raise AnyTalkerError(
                    f"The loss or its gradient became {loss} at step {self.step}. {self._newest()} Begin anew with "
                    "a lower learning rate and another output."
                )
            self.step += 1
            losses.append(loss)
            accelerator.log({"loss": loss, "learning_rate": self.optimizer.param_groups[0]["lr"]}, step=self.step)
            if self.step % config.log_every == 0 or self.step == config.steps:
                self._report(losses[-config.log_every :], (time.monotonic() - started) / (self.step - first))
            if self.step % config.save_every == 0 or self.step == config.steps:
                save_checkpoint(accelerator, self.checkpoints, self.step, config.keep, self.state.save)
            if config.validation.every and self.step % config.validation.every == 0:
                self._validate()
        self.export()
        accelerator.end_training()
        return losses

    def _newest(self) -> str:
        steps = checkpoint_steps(self.checkpoints)
        return f"The checkpoint of step {steps[-1]} is kept." if steps else "There is no checkpoint yet."

    def _train_step(self, groups: Any, count: int) -> float:
        rate = learning_rate(self.config, self.step)
        for part in self.optimizer.param_groups:
            part["lr"] = rate
        self.optimizer.zero_grad()
        losses = []
        for index in range(count):
            group: Group = next(groups)
            if index + 1 < count:
                with self.accelerator.no_sync(self.wrapped):
                    losses.append(self._backward(group, count))
            else:
                losses.append(self._backward(group, count))
        loss = float(self.accelerator.reduce(torch.stack(losses).mean(), "mean"))
        norm = self.accelerator.clip_grad_norm_(self.trained, self.config.optimizer.gradient_clip)
        if not math.isfinite(loss) or not math.isfinite(_whole(norm)):
            return math.nan
        self.optimizer.step()
        self.average.step(self.trained)
        return loss

    def _backward(self, group: Group, count: int) -> torch.Tensor:
        batch = group.batch.to(self.accelerator.device)
        seed = (self.config.seed * 1_000_003 + group.step) * 4099 + group.number
        generator = torch.Generator(self.accelerator.device).manual_seed(seed)
        with self.accelerator.autocast():
            prompts = self.text(batch.prompts).to(self.accelerator.device)
            loss = group_loss(self.wrapped, batch, prompts, self.config.shift, self.config.loss_weighting, generator)
        self.accelerator.backward(loss / count)
        return loss.detach()

    def _report(self, losses: list[float], pace: float) -> None:
        left = pace * (self.config.steps - self.step)
        self.log(
            f"step {self.step}/{self.config.steps}  loss {sum(losses) / len(losses):.4f}"
            f"  rate {self.optimizer.param_groups[0]['lr']:.1e}  {pace:.2f} s/step  left {left / 60:.1f} min"
        )

    def _validate(self) -> None:
        self.average.store(self.trained)
        self.average.copy_to(self.trained)
        if self.accelerator.is_main_process:
            folder = self.config.output / "validation" / f"step-{self.step:08d}"
            texts = (self.text, self.null_text)
            scores = validate(self.pipeline, self.model, texts, self.config, folder, self.accelerator.autocast)
            self.accelerator.log({f"validation/{name}": value for name, value in scores.items()}, step=self.step)
            self.log("validation  " + "  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
        self.average.restore(self.trained)
        self.accelerator.wait_for_everyone()

    def export(self) -> Path:
        """Write the model with averaged weights to `output`/model; with LoRA also the adapter alone beside it."""
        target = self.config.output / "model"
        self.average.store(self.trained)
        self.average.copy_to(self.trained)
        state = self.state.whole_model() if isinstance(self.state, ShardedState) else None
        if self.accelerator.is_main_process:
            trained: dict[str, Any] = {} if state is None else filled_parts(self.config.model, state)
            if self.config.lora:
                adapter = self.config.output / "adapter.safetensors"
                save_adapter(self.pipeline.transformer, adapter)
                begun_with = self.begun_with["transformer"]
                trained = {"transformer": merged_transformer(self.config.model, adapter, begun_with)}
            write_model(target, self.pipeline, **trained)
        self.average.restore(self.trained)
        self.accelerator.wait_for_everyone()
        return target


def _whole(norm: Any) -> float:
    """A norm that may be sharded over processes."""
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)


def make_accelerator(config: TrainingConfig) -> Accelerator:
    """The accelerator of a run: precision, FSDP2, TensorBoard logs in the run's folder."""
    plugin = fsdp_plugin() if config.fsdp else None
    AcceleratorState._reset_state()  # an earlier run of this process may have had another precision
    accelerator = Accelerator(
        mixed_precision="bf16" if config.precision == "bf16" else "no",
        fsdp_plugin=plugin,
        log_with="tensorboard",
        project_dir=str(config.output),
        step_scheduler_with_optimizer=False,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
    )
    if plugin is not None:
        allow_on_cpu(accelerator, plugin)
    return accelerator


def make_optimizer(model: torch.nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW over what is trained of a model; it decays matrices only, no tables of shifts and scales."""
    trained = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    decays = {name: value.ndim > 1 and not name.endswith("scale_shift_table") for name, value in trained}
    groups = [
        {"params": [value for name, value in trained if decays[name]], "weight_decay": config.weight_decay},
        {"params": [value for name, value in trained if not decays[name]], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], config.learning_rate, config.betas)


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Learning rate of a step: linear warm-up, then constant or a cosine."""
    optimizer = config.optimizer
    if optimizer.schedule == "cosine":
        return optimizer.learning_rate * warmup_cosine(step, optimizer.warmup_steps, config.steps)
    return optimizer.learning_rate * min(1.0, (step + 1) / max(1, optimizer.warmup_steps))
