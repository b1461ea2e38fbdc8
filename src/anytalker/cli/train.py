"""`anytalker train …`: training, its preparation, and the ablation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anytalker.cli.console import RunGroup, check_range, load_pipeline, quiet_libraries
from anytalker.cli.dry_run import TFLOPS, print_estimate
from anytalker.cli.progress import progress_bar
from anytalker.errors import InputError

commands = typer.Typer(
    cls=RunGroup,
    help="Train a model:  anytalker train CONFIG [--set key=value]",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@commands.command(
    "run",
    hidden=True,
    epilog="Examples:\n\n  anytalker train configs/miniature-stage1.yaml\n\n"
    "  anytalker train run.yaml --set optimizer.learning_rate=1e-5 --set lora.rank=16\n\n"
    "  accelerate launch -m anytalker train run.yaml\n\n"
    "  anytalker train configs/14b-stage1.yaml --dry-run --processes 16",
)
def train_run(
    config: Annotated[Path, typer.Argument(help="The run's YAML file, see configs/.")],
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a value.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what the run would take, and what is missing.")
    ] = False,
    processes: Annotated[
        int | None, typer.Option(help="With --dry-run: how many share the run; left out: as many as were started.")
    ] = None,
    like: Annotated[
        str | None, typer.Option(help="With --dry-run: a model of the same size, where the run's isn't there yet.")
    ] = None,
    tflops: Annotated[
        float | None, typer.Option(help=f"With --dry-run: speed of a process, 10¹² operations a second; {TFLOPS:g}.")
    ] = None,
) -> None:
    """Train a model, or go on with an interrupted run."""
    from anytalker.training.config import load_config

    given = {"--processes": processes, "--like": like, "--tflops": tflops}
    if not dry_run and (vain := [name for name, value in given.items() if value is not None]):
        raise InputError(f"{vain[0]} goes with --dry-run, which says what the run would take.")
    run = load_config(config, set_ or ())
    if dry_run:
        from anytalker.processes import processes_together

        processes = processes_together() if processes is None else processes
        tflops = TFLOPS if tflops is None else tflops
        check_range("--processes", processes, 1, 100_000)
        check_range("--tflops", tflops, 0.001, 1_000_000)
        quiet_libraries()
        print_estimate(config, run, processes, like, tflops)
        return
    from anytalker.processes import is_first

    say = typer.echo if is_first() else lambda line: None
    say(run.model_dump_json(indent=2))
    _prepare_process()
    from anytalker.training.trainer import Trainer

    trainer = Trainer(run, say)
    trainer.run()
    say(f"Done. The model: {run.output / 'model'}")


@commands.command(
    "start",
    epilog="Examples:\n\n  anytalker train start Wan2.1-Fun-V1.1-1.3B-InP runs/start --like 1.3b\n\n"
    "  anytalker train start Wan2.1-I2V-14B-480P-Diffusers runs/start --like 14b",
)
def train_start(
    wan: Annotated[Path, typer.Argument(help="A Wan image-to-video model: Diffusers' folder, or the original's.")],
    folder: Annotated[Path, typer.Argument(help="For the model that stage 1 starts from.")],
    like: Annotated[str, typer.Option(help="The AnyTalker model of the same size: 1.3b, 14b, or a folder.")] = "1.3b",
    seed: Annotated[int, typer.Option(help="Of the new layers.")] = 0,
) -> None:
    """Make the model that stage 1 starts from: Wan with audio-face layers that add nothing yet."""
    from anytalker.loading.start import start_from_wan

    start_from_wan(wan, like, folder, seed, typer.echo)
    typer.echo(f"Wrote {folder}. In the run's configuration:  model: {folder}")


@commands.command(
    "ablation",
    epilog="Example:  anytalker train ablation configs/miniature-stage1.yaml runs/miniature/shards/duo runs/ablation "
    "--set steps=1200",
)
def train_ablation(
    config: Annotated[Path, typer.Argument(help="A stage 1 configuration; its steps are each row's whole budget.")],
    multi: Annotated[Path, typer.Argument(help="Shards of real clips of several people, for the rows that have them.")],
    output: Annotated[Path, typer.Argument(help="Folder for runs, table.md and plot.png; run it again to continue.")],
    scenes: Annotated[int, typer.Option(help="Held-out conversations to measure each row on.")] = 40,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a value.")] = None,
) -> None:
    """The paper's Table 4 on the miniature's world: five mixes of data at the same budget, a table and a plot."""
    check_range("--scenes", scenes, 1, 10_000)
    from anytalker.training.config import load_config

    base = load_config(config, set_ or ())
    _prepare_process()
    from anytalker.data.shards import read_index
    from anytalker.miniature.ablation import run_ablation

    read_index(multi)
    run_ablation(base, [multi], output, scenes, typer.echo)
    typer.echo((output / "table.md").read_text(encoding="utf-8"))


@commands.command(
    "prepare",
    epilog="Examples:\n\n  anytalker train prepare clips.jsonl shards --model 1.3b --width 832 --height 480\n\n"
    "  anytalker train prepare dataset/single.jsonl shards/train --split train --model 1.3b",
)
def train_prepare(
    records: Annotated[Path, typer.Argument(help="JSON lines, one record a clip; see docs/training.md.")],
    output: Annotated[Path, typer.Argument(help="Folder for the shards: whole/ and windows/.")],
    model: Annotated[str, typer.Option(help="The model that will be trained on them.")] = "tiny",
    width: Annotated[int, typer.Option(help="Width of a whole frame in pixels, a multiple of 32.")] = 832,
    height: Annotated[int, typer.Option(help="Height in pixels, a multiple of 32.")] = 480,
    windows: Annotated[int, typer.Option(help="Face-centred windows of each single-person clip.")] = 1,
    split: Annotated[
        str | None, typer.Option(help="Only the records of this part: train, validation or test; left out: all.")
    ] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Drop what the folder holds of other records.")] = False,
) -> None:
    """Encode footage into shards: latents, audio features, text embeddings, face boxes and crops."""
    for name, value in (("--width", width), ("--height", height)):
        check_range(name, value, 32, 4096)
        if value % 32:
            raise InputError(f"{name} is {value}; it must be a multiple of 32.")
    check_range("--windows", windows, 0, 100)
    from anytalker.data.records import of_split, read_records

    clips = of_split(read_records(records), split) if split is not None else list(read_records(records))
    pipeline = load_pipeline(model, None)
    from anytalker.data.encoding import ClipEncoder
    from anytalker.data.prepare import PrepareSettings, prepare

    settings = pipeline.settings
    encoder = ClipEncoder(pipeline.vae, pipeline.audio_features, settings.condition, settings.image_size)
    with progress_bar("Encoding clips") as told:
        report = prepare(
            clips,
            encoder,
            lambda caption: pipeline.encode_text(caption)[0].cpu(),
            output,
            PrepareSettings(width, height, windows),
            told,
            prune,
        )
    for reason in report.left_out:
        typer.echo(f"Left out: {reason}", err=True)
    typer.echo(f"Wrote {report.samples} samples to {output}; {len(report.left_out)} clips left out.")
    if report.others and not report.pruned:
        typer.echo(
            f"{output} holds {report.others} more samples, of records that are not in "
            f"{records if split is None else f'the {split} part of {records}'} (any more), and they would be trained "
            "on, too. To drop them, run again with --prune.",
            err=True,
        )
    if report.windows:
        typer.echo(f"{report.pauses} of the {report.windows} windows have a pause in which their person can listen.")


def _prepare_process() -> None:
    """Settings of a process that does nothing but train."""
    quiet_libraries()
    import torch

    from anytalker.hardware.allocator import keep_freed_memory

    if not torch.accelerator.is_available():
        keep_freed_memory()
