"""`anytalker train CONFIG --dry-run`: the memory and time that a run will need, and which inputs are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from anytalker.training.config import TrainingConfig
    from anytalker.training.estimate import RunEstimate
    from anytalker.training.run_shape import BatchKind

TFLOPS = 400.0
"""Speed of a process unless another is given: about 40% of what an H100 computes in bf16 at best."""


def print_estimate(source: Path, config: TrainingConfig, processes: int, like: str | None, tflops: float) -> None:
    """Print what a run takes, counted from its configuration and the model's alone.

    Raises:
        InputError: if the processes can't share its groups, or nothing says of which size the model is.
    """
    from anytalker.training.estimate import estimate_run
    from anytalker.training.run_shape import batch_kinds, training_shape

    shape, missing = training_shape(config.model, like)
    kinds, lacking = batch_kinds(config, shape.settings)
    estimate = estimate_run(config, shape, kinds, processes)
    typer.echo(f"{source} is valid.")
    for line in [*missing, *lacking]:
        typer.echo(f"Missing: {line}")
    for name, text in _rows(config, estimate):
        typer.echo(f"{name:<20} {text}")
    typer.echo("memory of a process:")
    for name, size in {**estimate.states, **estimate.computing, "the GPU's own": estimate.rest}.items():
        typer.echo(f"  {name:<18} {_bytes(size):>12}")
    typer.echo(f"  {'peak, about':<18} {_bytes(estimate.peak):>12}")
    hours = estimate.hours(tflops)
    typer.echo(
        f"{'time':<20} {_time(hours)}, {3600 * hours / config.steps:.3g} s a step, if every process computes "
        f"{tflops:g} TFLOP/s (--tflops; nothing was measured)"
    )


def _rows(config: TrainingConfig, estimate: RunEstimate) -> list[tuple[str, str]]:
    return [
        ("parameters", f"{_count(estimate.trained)} trained, {_count(estimate.frozen)} frozen"),
        ("processes", _sharing(config, estimate)),
        ("clips a step", f"{estimate.clips} (groups {config.groups} × batch_size {config.batch_size})"),
        *((f"{kind.chance:.0%} of the batches".replace("%", " %"), _kind(kind)) for kind in estimate.kinds),
        ("steps", f"{config.steps:,}"),
        ("operations a step", f"{estimate.flops:.3g} FLOP, of all processes together"),
        ("a checkpoint", f"{_bytes(estimate.checkpoint)} of disk; {config.keep} are kept, and one more while writing"),
    ]


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.3f} billion" if parameters >= 1e8 else f"{parameters:,}"


def _sharing(config: TrainingConfig, estimate: RunEstimate) -> str:
    if estimate.processes == 1:
        alone = "1, which holds everything"
        return f"{alone}; fsdp shards over several (--processes)" if config.fsdp else alone
    how = "weights, gradients, optimizer and averages sharded (FSDP2)" if estimate.sharded else "each holds everything"
    groups = "one group" if estimate.groups == 1 else f"{estimate.groups} groups"
    return f"{estimate.processes}, {how}; {groups} a step each"


def _kind(kind: BatchKind) -> str:
    people = "1 person" if kind.people == 1 else f"{kind.people} people"
    scenes = "1 scene" if kind.scenes == 1 else f"{kind.scenes} scenes"
    return f"{scenes} of {people}, {8 * kind.columns}×{8 * kind.rows}, {4 * kind.frames - 3} frames: " + (
        f"{kind.tokens:,} tokens each"
    )


def _bytes(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**27 else f"{size / 2**20:.2f} MiB"


def _time(hours: float) -> str:
    if hours < 1:
        return f"{60 * hours:.1f} minutes"
    return f"{hours:,.1f} hours" if hours < 100 else f"{hours:,.0f} hours ({hours / 24:,.0f} days)"
