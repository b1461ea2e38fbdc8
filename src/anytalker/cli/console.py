"""What the commands share: checks of options, loading models, progress, and the closing line."""

from __future__ import annotations

import time
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
import typer.core

from anytalker.errors import AnyTalkerError, InputError

if TYPE_CHECKING:
    from rich.progress import TaskID

    from anytalker.pipelines.inputs import Inputs
    from anytalker.pipelines.loading_options import LoadingOptions
    from anytalker.pipelines.options import GenerationOptions
    from anytalker.pipelines.pipeline import AnyTalkerPipeline
    from anytalker.pipelines.result import VideoFile

_STAGES = {"prepare": "Preparing", "denoise": "Making the video", "decode": "Decoding frames"}


class RunGroup(typer.core.TyperGroup):
    """A group whose command `run` needs no name: `anytalker train CONFIG` beside `anytalker train prepare`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take whatever is no command for the arguments of `run`."""
        if args and args[0] not in (*self.commands, "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


class Interrupted(AnyTalkerError):
    """Ctrl-C while a video was being made; the message says which parts are kept."""


class Device(str, Enum):
    """Where the model runs."""

    cpu = "cpu"
    cuda = "cuda"


def check_output(output: Path, suffix: str) -> None:
    """Make sure that a file, and the .json beside it, can be written."""
    from anytalker.files import check_writable_output

    check_writable_output(output, suffix)
    check_writable_output(output.with_suffix(".json"), ".json")


def check_video(output: Path, inputs: Iterable[str | Path] = ()) -> None:
    """Make sure that a video and its record can be written, and overwrite neither an input nor anything unrelated."""
    check_output(output, ".mp4")
    from anytalker.media.destination import check_destination

    check_destination(output, inputs)


def settle_output(
    output: Path | None, default: str, fingerprint: str, inputs: Iterable[str | Path] = (), force: bool = False
) -> Path:
    """The path of the video: the one asked for, or the default, or the next free name such as talk-2.mp4.

    Args:
        output: what was asked for.
        default: the name without that.
        fingerprint: what the video is made from; an earlier one of the same may be replaced.
        inputs: files that it is made from.
        force: replace any video.

    Raises:
        InputError: if an input or anything unrelated would be overwritten, or the file can't be written.
    """
    from anytalker.media.destination import check_replaceable_video, free_output

    chosen = output or Path(default)
    if output is None and not force:
        chosen = free_output(default, fingerprint)
        if chosen != Path(default):
            remark(f"{default} belongs to something else, so this video goes to {chosen} (--force replaces {default}).")
    check_video(chosen, inputs)
    if not force:
        check_replaceable_video(chosen, fingerprint)
    return chosen


def remark(message: str) -> None:
    """Print a warning or a note; of several processes that make one video, only the first prints it."""
    from anytalker.processes import is_first

    if is_first():
        typer.echo(message, err=True)


def check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InputError(f"{name} is {value}; it must be from {low} to {high}.")


def load_pipeline(model: str, device: Device | None = None, loading: LoadingOptions | None = None) -> AnyTalkerPipeline:
    """Load a model onto its device, for this process or for all that make one video together."""
    from anytalker.loading.components import model_folder

    model_folder(model)
    import torch

    quiet_libraries()
    if device is Device.cuda and not torch.cuda.is_available():
        raise InputError("--device is cuda, but no CUDA GPU can be used here; leave it out or give --device cpu.")
    from anytalker.pipelines import ready
    from anytalker.pipelines.loading_options import LoadingOptions
    from anytalker.processes import join_processes, processes_together

    chosen = device.value if device else ("cuda" if torch.cuda.is_available() else "cpu")
    together = processes_together() > 1
    if together:
        chosen = join_processes(chosen)
    return ready.load_for(model, chosen, loading or LoadingOptions(), together)


def quiet_libraries() -> None:
    import logging
    import os

    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else a connection that breaks is told with its C++ frames
    for library in ("diffusers", "transformers", "torchao", "torch.utils._pytree"):
        logging.getLogger(library).setLevel(logging.ERROR)
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    diffusers_logging.disable_progress_bar()


def make_video(
    pipeline: AnyTalkerPipeline,
    inputs: Inputs,
    options: GenerationOptions,
    seed: int,
    output: Path,
    fingerprint: str,
    save_every: float = 20.0,
    keep_latents: bool = False,
    edit_of: Path | None = None,
) -> VideoFile:
    """Make and write a video with a progress bar; of several processes the first one writes and prints.

    For the arguments see `AnyTalkerPipeline.generate_to`.

    Raises:
        typer.Exit: in the others, when they are done.
    """
    import torch
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from anytalker.cli.progress import StageLog
    from anytalker.processes import is_first, leave_processes

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<18}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not (console.is_terminal and is_first())) as progress:
        tasks: dict[str, TaskID] = {}
        log = StageLog(remark)

        def report(stage: str, done: int, total: int) -> None:
            if not console.is_terminal:
                log.report(_STAGES.get(stage, stage), done, total)
            if stage not in tasks:
                tasks[stage] = progress.add_task(_STAGES.get(stage, stage), total=total)
            progress.update(tasks[stage], completed=done, total=total)

        def say(message: str) -> None:
            console.print(message, markup=False, highlight=False, soft_wrap=True)

        generator = torch.Generator().manual_seed(seed)
        try:
            prepared = pipeline.prepare_inputs(inputs, options, generator, report)
            video = prepared.to_file(output, say, save_every, fingerprint, keep_latents, edit_of)
        except KeyboardInterrupt as error:  # typer would drop its message
            raise Interrupted(str(error)) from None
        finally:
            leave_processes()
    if not is_first():
        raise typer.Exit()
    return video


def finish(video: VideoFile, started: float) -> None:
    """The closing line; `started` is the `time.monotonic()` at which the command began."""
    output, record = video.path, video.path.with_suffix(".json")
    frames, (width, height) = video.inputs.frames, video.inputs.image.size
    seconds = sum(video.seconds.values())
    typer.echo(
        f"Wrote {output}: {frames / video.fps:.1f} s, {width}×{height}, {len(video.inputs.boxes)} "
        f"{'people' if len(video.inputs.boxes) > 1 else 'person'}, made in {seconds:.0f} s, "
        f"{time.monotonic() - started:.0f} s in all. How: {record}"
    )
