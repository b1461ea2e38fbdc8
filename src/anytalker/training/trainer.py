"""The training loop: both stages, one process or many, interrupted and resumed without a trace."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs, set_seed
from diffusers.training_utils import EMAModel

from anytalker.errors import AnyTalkerError, InputError
from anytalker.training.adapters import add_adapter, save_adapter
from anytalker.training.autoencoder import warmup_cosine
from anytalker.training.checkpoints import (
    UNREADABLE,
    CheckpointWriter,
    as_begun,
    cause_of,
    check_run,
    checkpoint_path,
    checkpoint_steps,
    order_changes,
)
from anytalker.training.config import OptimizerConfig, TrainingConfig
from anytalker.training.export import Save, merged_transformer, write_model, write_sharded
from anytalker.training.model import TrainedModel, group_loss
from anytalker.training.parts import (
    TRAINED,
    Common,
    empty_trained,
    fill_trained,
    load_once,
    load_trained,
    make_pipeline,
)
from anytalker.training.reader import Group, GroupReader, group_loader
from anytalker.training.sharded import ShardedState
from anytalker.training.sharded_model import ShardedAdamW, ShardedAverage, clip_gradients, shard, sum_gradients
from anytalker.training.state import WholeState
from anytalker.training.validation import validate
from anytalker.training.watch import Watch

_PATIENCE = timedelta(minutes=15)
"""How long processes wait for each other within a step: the slowest reads its clips and compiles its blocks meanwhile.

What one of them does alone, loading, validating, writing the model, they wait for in `Watch.barrier`, and one that is
gone is noticed by its `Watch`; so this only ends processes that live and yet never come.
"""


class Trainer:
    """One run of stage 1 or stage 2; which of them only the configuration knows.

    A run whose folder has checkpoints goes on from the newest.

    Args:
        config: the run.
        log: receives lines of progress, on the main process.

    Raises:
        InputError: if the model, the shards or the sharing among processes don't fit, or the checkpoint is damaged.
        AnyTalkerError: if the checkpoint can't be loaded now, for lack of memory or permission.
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
        self.watch = Watch(self.accelerator.process_index, self.accelerator.num_processes)
        self.sharded = config.fsdp and self.accelerator.num_processes > 1
        with self.watch.guard():
            self._prepare()

    def _prepare(self) -> None:
        config, accelerator = self.config, self.accelerator
        once, found = load_once(config) if accelerator.is_main_process else ({}, None)
        common: Common = self.watch.share(found)
        self.text, self.null_text = common.text, common.null_text
        self.model = self._load(once)
        self.optimizer: Any = make_optimizer(self.model, config.optimizer, self.sharded)
        self.wrapped: Any = self.model
        if not self.sharded:
            self.wrapped, self.optimizer = accelerator.prepare(self.model, self.optimizer)
        self.trained = [value for value in self.wrapped.parameters() if value.requires_grad]
        average = ShardedAverage if self.sharded else EMAModel
        self.average = average(self.trained, decay=config.optimizer.average, foreach=not config.fsdp)
        self.state: ShardedState | WholeState
        if config.fsdp:
            self.state = ShardedState(self.model, getattr(self.optimizer, "optimizer", self.optimizer), self.average)
        else:
            self.state = WholeState(accelerator, self.model, self.average)
        if config.validation.every and accelerator.is_main_process:
            self.pipeline.vae.to(accelerator.device)
        self.step = self._resume()
        self.writer = CheckpointWriter(self.checkpoints, config.keep, self.watch, self.state.save)
        rank, processes = accelerator.process_index, accelerator.num_processes
        self.reader = GroupReader(config, common.window, self.step, rank, processes, common.silence)

    def _load(self, once: dict[str, Any]) -> TrainedModel:
        """What is trained, on this process's device if it is sharded, and the pipeline around it."""
        config = self.config
        if self.sharded:
            parts, encoder = empty_trained(config, self.watch)
        else:
            parts, self.begun_with = load_trained(config)
        self.pipeline = make_pipeline(config, once | parts)
        model = self._make_model()
        if self.sharded:
            shard(model, half=config.precision == "bf16")
            self.begun_with = fill_trained(config, model, encoder, self.accelerator.device)
        return model

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
        if self.accelerator.is_main_process:
            check_run(self.config, self.begun_with, begun=bool(steps))
        self.watch.barrier()
        if not steps:
            return 0
        newest = checkpoint_path(self.checkpoints, steps[-1])
        try:
            self.state.load(newest)
        except UNREADABLE as error:
            cause = cause_of(error)
            reason = (str(cause).splitlines() or [type(cause).__name__])[0]
            if isinstance(cause, (torch.OutOfMemoryError, PermissionError)):
                raise AnyTalkerError(f"The checkpoint {newest} can't be loaded now ({reason}). It is kept.") from error
            rest = f"goes on from step {steps[-2]}" if len(steps) > 1 else "begins anew"
            raise InputError(
                f"The checkpoint {newest} is damaged ({reason}). Remove it, and the run {rest}."
            ) from error
        if not self.sharded:  # else it was read into where it is
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
        with self.watch.guard():
            losses = self._train()
            self.export()
            self.accelerator.end_training()
            self.watch.close()
        return losses

    def _train(self) -> list[float]:
        config, accelerator = self.config, self.accelerator
        accelerator.init_trackers("logs")
        groups = group_loader(self.reader, config.data.workers, accelerator.device.type == "cuda")
        losses: list[float] = []
        started, first = time.monotonic(), self.step
        while self.step < config.steps:
            loss = self._train_step(groups, len(self.reader.groups))
            self.writer.check()
            if not math.isfinite(loss):
                self.writer.finish()
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
                self.writer.write(self.step)
            if config.validation.every and self.step % config.validation.every == 0:
                self._validate()
        self.writer.finish()
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
            # Sharded gradients are summed at once, even of what is accumulated: whole ones would fill the memory.
            alone = index + 1 < count and not self.sharded
            with self.accelerator.no_sync(self.wrapped) if alone else nullcontext():
                losses.append(self._backward(group, count))
        loss = float(self.accelerator.reduce(torch.stack(losses).mean(), "mean"))
        if not math.isfinite(loss) or not math.isfinite(self._clip()):
            return math.nan
        self.optimizer.step()
        self.average.step(self.trained)
        return loss

    def _clip(self) -> float:
        """Limit the gradient, once it is that of all processes; its norm before."""
        limit = self.config.optimizer.gradient_clip
        if not self.sharded:
            return float(self.accelerator.clip_grad_norm_(self.trained, limit))
        sum_gradients(self.trained)
        return clip_gradients(self.trained, limit)

    def _autocast(self) -> AbstractContextManager[Any]:
        """What makes a run's precision of its weights; a sharded model has it already."""
        return nullcontext() if self.sharded else self.accelerator.autocast()

    def _backward(self, group: Group, count: int) -> torch.Tensor:
        batch = group.batch.to(self.accelerator.device)
        seed = (self.config.seed * 1_000_003 + group.step) * 4099 + group.number
        generator = torch.Generator(self.accelerator.device).manual_seed(seed)
        with self._autocast():
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
            scores = validate(self.pipeline, self.model, texts, self.config, folder, self._autocast)
            self.accelerator.log({f"validation/{name}": value for name, value in scores.items()}, step=self.step)
            self.log("validation  " + "  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
        self.average.restore(self.trained)
        self.watch.barrier()

    def export(self) -> Path:
        """Write the model with averaged weights to `output`/model; with LoRA also the adapter alone beside it."""
        target = self.config.output / "model"
        if self.sharded:
            self._export_sharded(target)
        else:
            self.average.store(self.trained)
            self.average.copy_to(self.trained)
            if self.accelerator.is_main_process:
                write_model(target, self.config.model, self._changed())
            self.average.restore(self.trained)
        self.watch.barrier()
        return target

    def _changed(self) -> dict[str, Save]:
        """For each part that was trained what writes it."""
        if self.config.lora:
            adapter = self.config.output / "adapter.safetensors"
            save_adapter(self.pipeline.transformer, adapter)
            merged = merged_transformer(self.config.model, adapter, self.begun_with["transformer"])
            return {"transformer": merged.save_pretrained}
        names = TRAINED if self.config.train_image_encoder else ("transformer",)
        return {name: self.pipeline.components[name].save_pretrained for name in names}

    def _export_sharded(self, target: Path) -> None:
        trained = (name for name, value in self.model.named_parameters() if value.requires_grad)
        averages = dict(zip(trained, self.average.shadow_params, strict=True))
        write_sharded(target, self.config.model, self.model, averages, self.accelerator.is_main_process)


def make_accelerator(config: TrainingConfig) -> Accelerator:
    """The accelerator of a run: processes, precision, TensorBoard logs in the run's folder."""
    AcceleratorState._reset_state()  # an earlier run of this process may have had another precision
    return Accelerator(
        cpu=not torch.accelerator.is_available(),  # else processes that torchrun starts don't find each other
        mixed_precision="bf16" if config.precision == "bf16" else "no",
        log_with="tensorboard",
        project_dir=str(config.output),
        step_scheduler_with_optimizer=False,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
    )


def make_optimizer(model: torch.nn.Module, config: OptimizerConfig, sharded: bool = False) -> torch.optim.Optimizer:
    """AdamW over what is trained of a model; it decays matrices only, no tables of shifts and scales."""
    trained = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    decays = {name: value.ndim > 1 and not name.endswith("scale_shift_table") for name, value in trained}
    groups = [
        {"params": [value for name, value in trained if decays[name]], "weight_decay": config.weight_decay},
        {"params": [value for name, value in trained if not decays[name]], "weight_decay": 0.0},
    ]
    kept = [group for group in groups if group["params"]]
    if sharded:  # one tensor after the other, which takes the least memory
        return ShardedAdamW(kept, config.learning_rate, config.betas, foreach=False)
    return torch.optim.AdamW(kept, config.learning_rate, config.betas)


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Learning rate of a step: linear warm-up, then constant or a cosine."""
    optimizer = config.optimizer
    if optimizer.schedule == "cosine":
        return optimizer.learning_rate * warmup_cosine(step, optimizer.warmup_steps, config.steps)
    return optimizer.learning_rate * min(1.0, (step + 1) / max(1, optimizer.warmup_steps))
