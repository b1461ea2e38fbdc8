"""What a run leaves behind to go on from: its configuration, and checkpoints, whole folders or none."""

from __future__ import annotations

import contextlib
import json
import pickle
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from pydantic import ValidationError
from safetensors import SafetensorError
from torch.distributed.checkpoint import CheckpointException

from anytalker.data.shards import shards_digest
from anytalker.errors import AnyTalkerError, InputError
from anytalker.files import write_json_atomic
from anytalker.training.config import TrainingConfig

UNREADABLE = (
    RuntimeError,
    ValueError,
    KeyError,
    OSError,
    EOFError,
    pickle.UnpicklingError,
    SafetensorError,
    CheckpointException,
)
"""What reading a damaged checkpoint raises."""
FREE = {"output", "steps", "save_every", "keep", "log_every", "validation", "compile", "gradient_checkpointing"}
"""Values of a configuration that may change while a run goes on; and `data.workers` and `data.in_memory`."""
ORDER = "whole epochs"
"""How clips are put in order, as `run.json` names it: what earlier versions did has no name there."""
_BEFORE_CHOICES = {"loss_weighting": "uniform_bump"}
"""What was done before it could be chosen, where that is not today's default."""
_DISK_REMEDY = "free some space if the disk is full, and run again"
_NAME = re.compile(r"step-(\d{8})")


def checkpoint_steps(folder: Path) -> list[int]:
    """Steps of the whole checkpoints in a run's `checkpoints` folder, oldest first."""
    found = [_NAME.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for match in found if match)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Folder of the checkpoint of a step."""
    return folder / f"step-{step:08d}"


def check_run(config: TrainingConfig, weights: Mapping[str, str], begun: bool, write: bool) -> None:
    """Hold a configuration against the one that its run was begun with, `run.json` in its folder.

    Args:
        config: the run's.
        weights: digests of the model that it starts from, whose frozen parts no checkpoint holds.
        begun: whether there is anything to go on from.
        write: whether this process keeps the configuration for later.

    Raises:
        InputError: if a value, the model or the shards were changed, which would make it another run.
    """
    path = config.output / "run.json"
    values = bound_values(config)
    shards = {
        str(folder): shards_digest(folder) for folder in dict.fromkeys([*config.data.single, *config.data.joined])
    }
    if begun and path.exists():
        stored = json.loads(path.read_text(encoding="utf-8"))
        named = stored | {"order": ORDER}
        earlier_shards, earlier_weights = stored.pop("shards", {}), stored.pop("weights", {})
        order = stored.pop("order", None)
        before = completed_values(config, stored)
        changed = changed_values(before, values)
        if changed:
            raise InputError(
                f"The run in {config.output} was begun with other settings: {', '.join(changed)} ({path}). "
                "Set them back, or choose another output."
            )
        if any(earlier_weights.get(name, digest) != digest for name, digest in weights.items()):
            raise InputError(
                f"{config.model} is another model now than when the run in {config.output} was begun with it. Put it "
                "back, or choose another output."
            )
        others = [folder for folder, digest in shards.items() if earlier_shards.get(folder, digest) != digest]
        if others:
            raise InputError(
                f"The shards in {others[0]} are not those that the run in {config.output} was begun with, so it can't "
                "go on as if nothing had happened. Put them back, or choose another output and start from its model."
            )
        if write and order is None:
            write_json_atomic(path, named)
    elif write:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, values | {"shards": shards, "weights": dict(weights), "order": ORDER})


def as_begun(config: TrainingConfig) -> TrainingConfig:
    """The configuration as the run in its folder was begun, where an earlier version had no such choice.

    Loss weights were "uniform_bump" before there was `loss_weighting`: such a run goes on with them unless the
    configuration names others, which `check_run` then refuses.
    """
    path = config.output / "run.json"
    begun = bool(checkpoint_steps(config.output / "checkpoints")) and path.exists()
    if not begun or "loss_weighting" in config.model_fields_set:
        return config
    stored = json.loads(path.read_text(encoding="utf-8"))
    return config if "loss_weighting" in stored else config.model_copy(update=_BEFORE_CHOICES)


def order_changes(config: TrainingConfig) -> bool:
    """Whether a run goes on for the first time after an earlier version read its clips in another order.

    Earlier versions drew from a few clips at a time; with `data.in_memory` their order was the same as today's.
    """
    path = config.output / "run.json"
    if not checkpoint_steps(config.output / "checkpoints") or not path.exists():
        return False
    stored = json.loads(path.read_text(encoding="utf-8"))
    return "order" not in stored and not stored.get("data", {}).get("in_memory", False)


def bound_values(config: TrainingConfig) -> dict[str, Any]:
    """The values that may not change while a run goes on: a cosine's length is one of them."""
    free = FREE - {"steps"} if config.optimizer.schedule == "cosine" else FREE
    values = json.loads(config.model_dump_json(exclude=free))
    del values["data"]["workers"], values["data"]["in_memory"]
    return values


def completed_values(config: TrainingConfig, stored: dict[str, Any]) -> dict[str, Any]:
    """`bound_values` as an earlier version wrote them, with what it did where a choice has been added since."""
    try:
        free = {"output": config.output, "steps": config.steps}
        return bound_values(type(config).model_validate(free | _BEFORE_CHOICES | stored))
    except ValidationError:
        return stored


def changed_values(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs, each as "key was … and is …"."""
    earlier, later = _leaves(before), _leaves(now)
    changed = [key for key in sorted(earlier | later) if earlier.get(key) != later.get(key)]
    return [f"{key} was {earlier.get(key)!r} and is {later.get(key)!r}" for key in changed]


def _leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by their dotted keys."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        leaves |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return leaves


def save_checkpoint(accelerator: Accelerator, folder: Path, step: int, keep: int, save: Callable[[Path], Any]) -> None:
    """Write a run's state, then show it under its name, then drop all but the newest `keep`.

    Args:
        accelerator: of the run.
        folder: for all checkpoints.
        step: of this one.
        keep: how many are kept.
        save: writes the state to a folder, on every process.

    Raises:
        AnyTalkerError: if it can't be written, for example on a full disk; older checkpoints are untouched.
    """
    target = checkpoint_path(folder, step)
    unfinished = folder / f"unfinished-{step:08d}"
    try:
        if accelerator.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(unfinished, ignore_errors=True)
        accelerator.wait_for_everyone()
        save(unfinished)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            write_json_atomic(unfinished / "step.json", {"step": step})
            shutil.rmtree(target, ignore_errors=True)
            unfinished.rename(target)
    except (OSError, RuntimeError, SafetensorError, CheckpointException) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        kept = checkpoint_steps(folder)
        rest = f"The one of step {kept[-1]} is whole" if kept else "There is none yet"
        remedy = "run again with less in memory" if isinstance(error, torch.OutOfMemoryError) else _DISK_REMEDY
        raise AnyTalkerError(
            f"The checkpoint of step {step} can't be written to {folder}: {error}. {rest}; {remedy}."
        ) from error
    if accelerator.is_main_process:
        _drop_older(folder, keep)


def _drop_older(folder: Path, keep: int) -> None:
    """Remove all but the newest; what can't be removed whole is no longer called a checkpoint, and ends no run."""
    for old in checkpoint_steps(folder)[:-keep]:
        dropped = folder / f"unfinished-{old:08d}"
        with contextlib.suppress(OSError):
            checkpoint_path(folder, old).rename(dropped)
        shutil.rmtree(dropped, ignore_errors=True)
