"""`anytalker doctor`: what is installed, and which models and videos fit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anytalker.cli.console import check_range, quiet_libraries
from anytalker.cli.options import takes
from anytalker.errors import InputError
from anytalker.pipelines.loading_options import PlacementOptions

if TYPE_CHECKING:
    from anytalker.doctor.report import Machine

commands = typer.Typer()


@commands.command(
    epilog="Examples:\n\n  anytalker doctor                             # every model: does it run here, and how\n\n"
    "  anytalker doctor --card 8                    # on a card with 8 GiB that is not here\n\n"
    "  anytalker doctor --model 14b --seconds 5 --persons 2\n\n"
    "  anytalker doctor --model 14b --card 24 --memory low",
)
@takes(placement=PlacementOptions)
def doctor(
    *,
    model: Annotated[
        str | None,
        typer.Option(help="tiny, 1.3b, 14b, a model's folder, or a published checkpoint; left out: all with a name."),
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Video in pixels; left out: the model's own.")] = None,
    scale: Annotated[
        float | None, typer.Option(help="Sides that many times as long as the model's own, 0.1 to 8.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of the video.")] = 5.0,
    persons: Annotated[int, typer.Option(help="How many people.")] = 2,
    placement: PlacementOptions,
    card: Annotated[float | None, typer.Option(help="Plan for a GPU with so many GiB instead of this machine.")] = None,
) -> None:
    """Say what is installed, which models run here with which command, and why a video does or doesn't fit."""
    check_range("--persons", persons, 1, 100)
    if not 0.2 <= seconds <= 6 * 3600:
        raise InputError(f"--seconds is {seconds:g}; it must be from 0.2 to 21600.")
    if card is not None and not 0.1 <= card <= 10000:
        raise InputError(f"--card is {card:g}; it must be from 0.1 to 10000 GiB.")
    if model is None and placement != PlacementOptions():
        raise InputError("--memory and --weights say how one model is run; name it with --model, or leave them out.")
    pixels = _pixels(size)
    if scale is not None:
        check_range("--scale", scale, 0.1, 8)
        if size is not None or model is None:
            raise InputError("--scale goes with --model and without --size, which says the same in pixels.")
    quiet_libraries()
    from anytalker.doctor import report as examination
    from anytalker.doctor.advice import model_size

    machine = examination.with_memory(examination.this_machine(), card)
    findings = [] if card else examination.examine_machine(machine)
    for finding in [*examination.examine_installation(), *findings]:
        typer.echo(f"{'✓' if finding.good else '·'} {finding.subject:<10} {finding.text}")
    typer.echo()
    if model is None:
        _all_models(machine, pixels, seconds, persons)
    else:
        pixels = model_size(model, scale) if scale is not None else pixels
        _one_model(model, machine, pixels, seconds, persons, placement)


def _all_models(machine: Machine, pixels: tuple[int, int] | None, seconds: float, persons: int) -> None:
    """A line a model, and below it the commands for those that run."""
    from anytalker.doctor.advice import MODELS, model_size, outlook

    where = "GPU" if machine.device == "cuda" else "CPU"
    typer.echo(f"{_people(persons)}, {seconds:g} s, {where} with {machine.memory / 2**30:.1f} GiB:")
    views = [outlook(model, machine, pixels, seconds, persons) for model in MODELS]
    for view in views:
        here = "here" if view.here else f"to download, {view.download_bytes / 1e9:.0f} GB or more"
        found = view.suggestion
        if found is None:
            typer.echo(f"  {view.model:<5} {here:<30} does not fit")
            continue
        how = [f"{found.seconds:.2g} s only"] if found.shortened else []
        smaller = found.size or model_size(found.model, found.scale)
        how += [f"{smaller[0]}×{smaller[1]}"] if found.scale != 1 or smaller == found.size != pixels else []
        how += [f"peak {found.plan.peak / 2**30:.1f} GiB"]
        how += [f"roughly {_hours(view.cpu_hours)} on this CPU"] if view.cpu_hours else []
        typer.echo(f"  {view.model:<5} {here:<30} fits: {', '.join(how)}")
    for view in views:
        if view.suggestion:
            download = [] if view.here else [f"anytalker download {view.model}"]
            typer.echo(f"\n{view.model}, {_taught(view.model)}:")
            for command in [*download, view.suggestion.generate()]:
                typer.echo(f"  {command}")
    typer.echo("\nWhy, and what takes most of the memory:  anytalker doctor --model NAME")


def _taught(model: str) -> str:
    return "which has only seen drawn people" if model == "tiny" else "for photographs"


def _hours(hours: float) -> str:
    return f"{hours:.0f} hours" if hours < 72 else f"{hours / 24:.0f} days"


def _one_model(
    model: str,
    machine: Machine,
    pixels: tuple[int, int] | None,
    seconds: float,
    persons: int,
    placement: PlacementOptions,
) -> None:
    """The peak of one video, what it is made of, and what to do if it doesn't fit."""
    from anytalker.doctor.advice import advice
    from anytalker.doctor.report import plan_video

    plan, chosen, frames = plan_video(model, machine, pixels, seconds, persons, placement.placement)
    where = "GPU" if machine.device == "cuda" else "CPU"
    typer.echo(f"{Path(model).name}, {_people(persons)}, {chosen[0]}×{chosen[1]}, {frames} frames, {where}:")
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
        typer.echo(f"It does not fit. {advice(model, machine, pixels, seconds, persons, placement.placement)}")


def _people(persons: int) -> str:
    return f"{persons} {'people' if persons > 1 else 'person'}"


def _pixels(size: str | None) -> tuple[int, int] | None:
    if size is None:
        return None
    match = re.fullmatch(r"(\d{2,5})[xX×](\d{2,5})", size)
    if match is None or int(match[1]) % 16 or int(match[2]) % 16:
        raise InputError(f"--size is {size!r}; it must be WIDTHxHEIGHT, multiples of 16, such as 832x480.")
    return int(match[1]), int(match[2])
