"""Checkpoints of a run: whole folders or none, the newest few kept."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from accelerate import Accelerator

from anytalker.errors import AnyTalkerError
from anytalker.files import write_json_atomic

_NAME = re.compile(r"step-(\d{8})")


def checkpoint_steps(folder: Path) -> list[int]:
    """Steps of the whole checkpoints in a run's `checkpoints` folder, oldest first."""
    found = [_NAME.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for match in found if match)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Folder of the checkpoint of a step."""
    return folder / f"step-{step:08d}"


def save_checkpoint(
    accelerator: Accelerator, folder: Path, step: int, keep: int, save: Callable[[Path], object] | None = None
) -> None:
    """Write a run's state, then show it under its name, then drop all but the newest `keep`.

    Args:
        accelerator: of the run.
        folder: for all checkpoints.
        step: of this one.
        keep: how many are kept.
        save: writes the state to a folder, on every process; None: all that the accelerator knows of.

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
        (save or (lambda place: accelerator.save_state(str(place))))(unfinished)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            write_json_atomic(unfinished / "step.json", {"step": step})
            shutil.rmtree(target, ignore_errors=True)
            unfinished.rename(target)
            for old in checkpoint_steps(folder)[:-keep]:
                shutil.rmtree(checkpoint_path(folder, old))
    except (OSError, RuntimeError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        kept = checkpoint_steps(folder)
        rest = f"The one of step {kept[-1]} is whole; free some space and run again." if kept else "There is none yet."
        raise AnyTalkerError(f"The checkpoint of step {step} can't be written to {folder}: {error}. {rest}") from error
