"""`anytalker curate …`: from raw footage to a training set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from anytalker.cli.console import RunGroup, check_range, quiet_libraries
from anytalker.cli.progress import progress_bar
from anytalker.errors import InputError

commands = typer.Typer(
    cls=RunGroup,
    help="Make a training set of raw footage:  anytalker curate FOOTAGE DATASET",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@commands.command(
    "run",
    hidden=True,
    epilog="Examples:\n\n  anytalker curate footage dataset\n\n"
    "  anytalker curate footage dataset --config curate.yaml --workers 8\n\n"
    "  anytalker curate footage dataset --dry-run\n\n"
    "  anytalker curate footage dataset --ray auto --require-licence",
)
def curate_run(
    footage: Annotated[list[Path], typer.Argument(metavar="FOOTAGE... DATASET", help="Videos or folders of them.")],
    config: Annotated[Path | None, typer.Option(help="Settings, a YAML file; left out: the defaults.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only look at a sample, and say what there is.")] = False,
    workers: Annotated[int | None, typer.Option(help="Processes; left out: one a core.")] = None,
    ray: Annotated[str | None, typer.Option(help="Ray cluster to run on: auto, local, or its address.")] = None,
    require_licence: Annotated[
        bool, typer.Option("--require-licence", help="Leave out files without a licence in their notes.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if any file could not be used.")] = False,
) -> None:
    """Find the clips in footage that talking videos can be trained on. Run again, and it goes on."""
    if len(footage) < 2:
        raise InputError("Give the footage and then the folder of the dataset:  anytalker curate FOOTAGE DATASET")
    *places, folder = footage
    workers = max(1, os.cpu_count() or 1) if workers is None else workers
    check_range("--workers", workers, 0, 256)
    from anytalker.curation.config import load_config
    from anytalker.curation.run import curate, find_footage

    settings, files = load_config(config), find_footage(places)
    quiet_libraries()
    if dry_run:
        from anytalker.curation.sample import describe_sample

        describe_sample(files, settings, typer.echo)
        return
    with progress_bar("Seconds of footage") as show:
        outcome = curate(
            files,
            folder,
            settings,
            workers,
            ray,
            require_licence,
            lambda step, done, total: show(round(done), round(total)) if step == "shots" else None,
        )
    _summarize(outcome, folder)
    if strict and outcome.dataset.failed:
        raise typer.Exit(1)


@commands.command(
    "explain",
    epilog="Examples:\n\n  anytalker curate explain dataset/clips/talk-1f2e3d4c/talk-1f2e3d4c-0000100-0000200.mp4\n\n"
    "  anytalker curate explain talk.mp4@83.5 --dataset dataset",
)
def curate_explain(
    clip: Annotated[str, typer.Argument(help="A clip's name or video, or FOOTAGE@SECONDS: a moment of a file.")],
    dataset: Annotated[
        Path | None, typer.Option(help="The dataset's folder; left out: the one that the clip lies in, or this one.")
    ] = None,
) -> None:
    """Say why a clip was kept, or a moment of footage dropped: each number against its threshold."""
    from anytalker.curation.explain import explain_clip

    for line in explain_clip(clip, dataset):
        typer.echo(line)


def _summarize(outcome: Any, folder: Path) -> None:
    """The closing lines: what was kept, what could not be used, and where to look."""
    dataset = outcome.dataset
    seconds = {1: 0.0, 2: 0.0}
    counts = {1: 0, 2: 0}
    for clip in dataset.kept:
        kind = min(2, len(clip.persons))
        seconds[kind] += clip.n_frames / 25
        counts[kind] += 1
    typer.echo(f"Kept {counts[1]} clips of one person ({seconds[1] / 60:.1f} min), in {folder / 'single.jsonl'}.")
    typer.echo(f"Kept {counts[2]} clips of several ({seconds[2] / 60:.1f} min), in {folder / 'multi.jsonl'}.")
    for path in outcome.unlicensed:
        typer.echo(f"{path.name} has no licence in its notes, so it was left out.", err=True)
    for reason in dict.fromkeys(dataset.failed):
        typer.echo(reason, err=True)
    if dataset.failed:
        typer.echo(f"{len(dataset.failed)} files, or parts of them, could not be used.", err=True)
    typer.echo(f"Why everything was kept or dropped: {folder / 'report' / 'index.html'}")
