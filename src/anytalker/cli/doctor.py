"""`anytalker doctor`: is everything here, and what fits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from anytalker.cli.console import MemoryMode, WeightsMode, check_range, quiet_libraries
from anytalker.errors import InputError

commands = typer.Typer()


@commands.command(
    epilog="Examples:\n\n  anytalker doctor\n\n  anytalker doctor --model 14b --seconds 5 --persons 2\n\n"
    "  anytalker doctor --model 1.3b --card 24      # a card with 24 GiB that is not here\n\n"
    "  anytalker doctor --model 14b --card 24 --memory low",
)
def doctor(
    model: Annotated[str, typer.Option(help="tiny, 1.3b, 14b, a model's folder, or a published checkpoint.")] = "tiny",
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Video in pixels; left out: the model's own.")] = None,
    seconds: Annotated[float, typer.Option(help="Length of the video.")] = 5.0,
    persons: Annotated[int, typer.Option(help="How many people.")] = 2,
    memory: Annotated[MemoryMode, typer.Option(help="As for generate.")] = MemoryMode.high,
    weights: Annotated[WeightsMode, typer.Option(help="As for generate.")] = WeightsMode.full,
    card: Annotated[float | None, typer.Option(help="Plan for a GPU with so many GiB instead of this machine.")] = None,
) -> None:
    """Say what is installed, and whether a video fits into memory: the peak that is expected, and why."""
    check_range("--persons", persons, 1, 100)
    if not 0.2 <= seconds <= 6 * 3600:
        raise InputError(f"--seconds is {seconds:g}; it must be from 0.2 to 21600.")
    if card is not None and not 0.1 <= card <= 10000:
        raise InputError(f"--card is {card:g}; it must be from 0.1 to 10000 GiB.")
    pixels = _pixels(size)
    quiet_libraries()
    from anytalker.pipelines import doctor as examination
    from anytalker.pipelines.placement import Placement

    placement = Placement(memory.value, weights.value)
    machine = examination.with_memory(examination.this_machine(), card)
    findings = [] if card else examination.examine_machine(machine)
    for finding in [*examination.examine_installation(), *findings]:
        typer.echo(f"{'✓' if finding.good else '·'} {finding.subject:<10} {finding.text}")
    plan, chosen, frames = examination.plan_video(model, machine, pixels, seconds, persons, placement)
    name = Path(model).name
    people = f"{persons} {'people' if persons > 1 else 'person'}"
    typer.echo(
        f"\n{name}, {people}, {chosen[0]}×{chosen[1]}, {frames} frames, {'GPU' if machine.device == 'cuda' else 'CPU'}:"
    )
    for what, amount in (
        ("weights", plan.resident),
        ("keys and values", plan.context),
        ("a denoising step", plan.denoising),
        ("decoding", plan.decoding),
        ("latents", plan.latents),
        ("everything else", plan.rest),
    ):
        typer.echo(f"  {what:<18} {amount / 2**30:7.2f} GiB")
    typer.echo(f"  {'peak':<18} {plan.peak / 2**30:7.2f} GiB of {machine.memory / 2**30:.1f}, most of it {plan.reason}")
    if plan.peak <= machine.memory:
        typer.echo("It fits.")
    else:
        typer.echo(f"It does not fit. {examination.advice(model, machine, chosen, seconds, persons, placement)}")


def _pixels(size: str | None) -> tuple[int, int] | None:
    if size is None:
        return None
    match = re.fullmatch(r"(\d{2,5})[xX×](\d{2,5})", size)
    if match is None or int(match[1]) % 16 or int(match[2]) % 16:
        raise InputError(f"--size is {size!r}; it must be WIDTHxHEIGHT, multiples of 16, such as 832x480.")
    return int(match[1]), int(match[2])
