"""`anytalker miniature …`: the drawn world and what its training needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from anytalker.cli.console import check_output, check_range, quiet_libraries
from anytalker.cli.progress import progress_bar
from anytalker.errors import InputError

commands = typer.Typer(help="The drawn world of the built-in miniature.", no_args_is_help=True)


@commands.command(epilog="Example:  anytalker miniature picture --persons 3 --seed 1000007 --output three.png")
def picture(
    persons: Annotated[int, typer.Option(help="How many people, 1 to 20.")] = 2,
    seed: Annotated[int, typer.Option(help="Which people; seeds from 1,000,000 up were never trained on.")] = 1_000_000,
    output: Annotated[Path, typer.Option(help="The picture to write; its face boxes go to a .json beside it.")] = Path(
        "picture.png"
    ),
) -> None:
    """Draw people of the miniature's world, and say where their faces are."""
    check_output(output, ".png")
    check_range("--persons", persons, 1, 20)
    check_range("--seed", seed, 0, 2**31)
    from anytalker.files import check_replaceable_json
    from anytalker.miniature.demo import write_picture

    check_replaceable_json(output.with_suffix(".json"), _is_boxes, "a picture's face boxes")
    write_picture(persons, seed, output)
    typer.echo(f"Wrote {output} and {output.with_suffix('.json')}.")


def _is_boxes(value: Any) -> bool:
    return isinstance(value, dict) and list(value) == ["persons"]


@commands.command(epilog="Example:  anytalker miniature episode --seed 1000001 --minutes 5 --output episode.mp4")
def episode(
    seed: Annotated[int, typer.Option(help="Which episode; those from 1,000,000 up are for tests alone.")] = 1_000_000,
    minutes: Annotated[float, typer.Option(help="How long it is, up to 600.")] = 1.0,
    size: Annotated[str, typer.Option(metavar="WxH", help="Of the picture in pixels, both even.")] = "640x352",
    output: Annotated[
        Path, typer.Option(help="The video to write; the truth about it goes to a .json beside it.")
    ] = Path("episode.mp4"),
) -> None:
    """Draw raw footage of the miniature's world, with cuts, voices and music, and say what is true of it."""
    check_range("--seed", seed, 0, 2**31)
    if not 0 < minutes <= 600:
        raise InputError(f"--minutes is {minutes:g}; it must be more than 0 and at most 600.")
    width, height = _size(size)
    check_output(output, ".mp4")
    from anytalker.files import check_replaceable_json
    from anytalker.miniature.episodes.film import write_episode
    from anytalker.miniature.episodes.recipes import plan_episode

    check_replaceable_json(output.with_suffix(".json"), _is_episode, "what is true of an episode")
    plan = plan_episode(seed, minutes, width, height)
    with progress_bar("Drawing frames") as report:
        truth = write_episode(plan, output, report)
    good = sum(shot["end"] - shot["start"] for shot in truth["shots"] if shot["good"])
    typer.echo(
        f"Wrote {output}: {plan.frames / truth['fps']:.0f} s, {len(plan.shots)} shots, {len(plan.cast)} people, "
        f"{good:.0f} s good for training. The truth: {output.with_suffix('.json')}"
    )


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", text)
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (128 <= width <= 1920 and 128 <= height <= 1920) or width % 2 or height % 2:
        raise InputError(f"--size is {text}; give width and height as 640x352, both even and from 128 to 1920.")
    return width, height


def _is_episode(value: Any) -> bool:
    return isinstance(value, dict) and {"cuts", "shots"} <= value.keys()


@commands.command(
    "prepare",
    epilog="Examples:\n\n  anytalker miniature prepare runs/miniature\n\n  anytalker miniature prepare trial --quick",
)
def prepare_miniature(
    folder: Annotated[Path, typer.Argument(help="Where everything goes; run it again to continue.")],
    autoencoder_steps: Annotated[
        int | None, typer.Option(help="Steps of the autoencoder's training; left out: 4,000.")
    ] = None,
    clips: Annotated[int | None, typer.Option(help="Single clips; left out: 2,400.")] = None,
    framed: Annotated[
        bool, typer.Option("--framed", help="Also clips framed as the paper's: whole frames, and windows of them.")
    ] = False,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Only a trial: the shipped autoencoder, 18 short clips, and both stages' YAML."),
    ] = False,
) -> None:
    """Train the miniature's autoencoder, make its untrained model, render its clips: all that its training needs."""
    if quick and (framed or clips is not None or autoencoder_steps is not None):
        raise InputError("--quick trains nothing and says how many clips; leave the other options out.")
    if quick:
        _prepare_quick(folder)
        return
    autoencoder_steps = 4000 if autoencoder_steps is None else autoencoder_steps
    check_range("--autoencoder-steps", autoencoder_steps, 1, 10**6)
    from dataclasses import replace

    from anytalker.miniature import recipe
    from anytalker.training.autoencoder import AutoencoderTraining

    corpora = dict(recipe.CORPORA)
    if clips is not None:
        check_range("--clips", clips, 1, 10**6)
        corpora["single"] = replace(corpora["single"], clips=clips)
    if framed:
        corpora |= recipe.FRAMED_CORPORA
    training = AutoencoderTraining(autoencoder_steps, learning_rate=1.5e-3)
    recipe.prepare_miniature(folder, training, corpora=corpora, log=typer.echo)


def _prepare_quick(folder: Path) -> None:
    quiet_libraries()
    from anytalker.miniature.recipe import prepare_trial

    first, second = prepare_trial(folder, typer.echo)
    typer.echo(f"Now:  anytalker train {first}\nThen: anytalker train {second}")


@commands.command("decoder", epilog="Example:  anytalker miniature decoder runs/miniature/stage2/model runs/decoder")
def tune_decoder(
    model: Annotated[Path, typer.Argument(help="A trained miniature: the folder of the last stage's model.")],
    folder: Annotated[Path, typer.Argument(help="For guesses/ and the result, model/; run again, guesses are kept.")],
    steps: Annotated[int | None, typer.Option(help="Steps of training; left out: as for the shipped weights.")] = None,
    clips: Annotated[int | None, typer.Option(help="Clips to guess; left out: as for the shipped weights.")] = None,
) -> None:
    """Sharpen a trained miniature's pictures: its decoder learns from the model's own guesses."""
    from dataclasses import replace

    from anytalker.miniature import recipe
    from anytalker.miniature.guesses import GuessSettings
    from anytalker.training.decoder import DecoderTraining

    training, guesses = DecoderTraining(), GuessSettings()
    if steps is not None:
        check_range("--steps", steps, 1, 10**6)
        training = replace(training, steps=steps)
    if clips is not None:
        check_range("--clips", clips, 1, 10**6)
        guesses = replace(guesses, clips=clips)
    quiet_libraries()
    recipe.tune_decoder(model, folder, training, guesses, typer.echo)
    typer.echo(f"Wrote {folder / 'model'}.")


@commands.command("upscaler", epilog="Example:  anytalker miniature upscaler runs/decoder/model runs/upscaler")
def add_upscaler(
    model: Annotated[Path, typer.Argument(help="A trained miniature, best with its decoder sharpened.")],
    folder: Annotated[Path, typer.Argument(help="For enlargements/ and the result, model/; run again, they are kept.")],
    steps: Annotated[int | None, typer.Option(help="Steps of training; left out: as for the shipped weights.")] = None,
    clips: Annotated[int | None, typer.Option(help="Clips to render; left out: as for the shipped weights.")] = None,
) -> None:
    """Make a trained miniature's videos twice as large: its upscaler learns to use the picture's detail.

    A model that has an upscaler continues with it.
    """
    from dataclasses import replace

    from anytalker.miniature import recipe
    from anytalker.training.upscaler import UpscalerTraining

    training, rendered = UpscalerTraining(), recipe.ENLARGEMENTS
    if steps is not None:
        check_range("--steps", steps, 1, 10**6)
        training = replace(training, steps=steps)
    if clips is not None:
        check_range("--clips", clips, 1, 10**6)
        rendered = replace(rendered, clips=clips)
    quiet_libraries()
    recipe.add_upscaler(model, folder, training, rendered, typer.echo)
    typer.echo(f"Wrote {folder / 'model'}.")


@commands.command("syncnet", epilog="Example:  anytalker miniature syncnet runs/syncnet")
def train_syncnet(
    folder: Annotated[Path, typer.Argument(help="Where the rendered faces and the weights go.")],
    steps: Annotated[int | None, typer.Option(help="Steps of training; left out: as for the shipped weights.")] = None,
    clips: Annotated[int | None, typer.Option(help="Clips of each kind; left out: as for the shipped weights.")] = None,
) -> None:
    """Train the small SyncNet that judges lip sync offline, on faces and voices of the drawn world."""
    from dataclasses import replace

    from anytalker.miniature import sync_recipe

    training, kinds = sync_recipe.SyncTraining(), sync_recipe.TRACKS
    if steps is not None:
        check_range("--steps", steps, 1, 10**6)
        training = replace(training, steps=steps)
    if clips is not None:
        check_range("--clips", clips, 1, 10**6)
        kinds = tuple((replace(settings, clips=clips), seed) for settings, seed in kinds)
    tracks = sync_recipe.render_tracks(folder / "tracks.safetensors", kinds, log=typer.echo)
    sync_recipe.train_sync(tracks, training, folder / "syncnet_small.safetensors", log=typer.echo)
    typer.echo(f"Wrote {folder / 'syncnet_small.safetensors'}.")
