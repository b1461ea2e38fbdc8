"""What a run leaves behind to go on from: its configuration, and checkpoints, whole folders or none."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.distributed.checkpoint import CheckpointException

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
"""Values of a configuration that may change while a run goes on; and `data.workers`."""
_NAME = re.compile(r"step-(\d{8})")
_AVERAGE = "average.safetensors"


def checkpoint_steps(folder: Path) -> list[int]:
    """Steps of the whole checkpoints in a run's `checkpoints` folder, oldest first."""
    found = [_NAME.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for match in found if match)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Folder of the checkpoint of a step."""
    return folder / f"step-{step:08d}"


def check_run(config: TrainingConfig, begun: bool, write: bool) -> None:
    """Hold a configuration against the one that its run was begun with, `run.json` in its folder.

    Args:
        config: the run's.
        begun: whether there is anything to go on from.
        write: whether this process keeps the configuration for later.

    Raises:
        InputError: if a value was changed that would make it another run.
    """
    path = config.output / "run.json"
    values = _bound(config)
    if begun and path.exists():
        stored = json.loads(path.read_text(encoding="utf-8"))
        try:  # what a later version added has its default
            before = _bound(type(config).model_validate({"output": config.output, "steps": config.steps, **stored}))
        except ValidationError:
            before = stored
        earlier, now = _leaves(before), _leaves(values)
        changed = [key for key in sorted(earlier | now) if earlier.get(key) != now.get(key)]
        if changed:
            each = ", ".join(f"{key} was {earlier.get(key)!r} and is {now.get(key)!r}" for key in changed)
            raise InputError(
                f"The run in {config.output} was begun with other settings: {each} ({path}). "
                "Set them back, or choose another output."
            )
    elif write:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, values)


def _bound(config: TrainingConfig) -> dict[str, Any]:
    """The values that may not change while a run goes on."""
    values = json.loads(config.model_dump_json(exclude=FREE))
    del values["data"]["workers"]
    return values


def _leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by their dotted keys."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        leaves |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return leaves


def save_average(average: EMAModel, folder: Path) -> None:
    """Write averaged weights into a checkpoint's folder."""
    tensors = {str(index): value.contiguous() for index, value in enumerate(average.shadow_params)}
    save_file(tensors, folder / _AVERAGE, {"steps": str(average.optimization_step)})


def load_average(average: EMAModel, folder: Path) -> None:
    """Read what `save_average` wrote; the parameters must be the same ones in the same order.

    Raises:
        ValueError: if they aren't.
    """
    with safe_open(folder / _AVERAGE, "pt") as file:
        values = [file.get_tensor(str(index)) for index in range(len(file.keys()))]
        steps = int(file.metadata()["steps"])
    if [value.shape for value in values] != [value.shape for value in average.shadow_params]:
        raise ValueError("its average is of another model")
    average.shadow_params, average.optimization_step = values, steps


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
            for old in checkpoint_steps(folder)[:-keep]:
                shutil.rmtree(checkpoint_path(folder, old))
    except (OSError, RuntimeError, SafetensorError, CheckpointException) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        kept = checkpoint_steps(folder)
        rest = f"The one of step {kept[-1]} is whole; free some space and run again." if kept else "There is none yet."
        raise AnyTalkerError(f"The checkpoint of step {step} can't be written to {folder}: {error}. {rest}") from error
