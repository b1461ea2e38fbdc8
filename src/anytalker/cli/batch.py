"""`anytalker batch`: many videos from one file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from anytalker.cli.console import check_range
from anytalker.cli.options import RayAddress, takes
from anytalker.cli.progress import progress_bar
from anytalker.errors import InputError
from anytalker.pipelines.loading_options import LoadingOptions

commands = typer.Typer()


@commands.command(
    epilog="Examples:\n\n  anytalker batch jobs.json --output videos\n\n"
    "  anytalker batch jobs.json --model 14b --device cuda:0 --device cuda:1 --output videos\n\n"
    'A job:  {"talk": {"image": "two.png", "audio": ["anna.wav", "ben.wav"], "prompt": "two people talk"}}',
)
@takes(loading=LoadingOptions)
def batch(
    *,
    jobs: Annotated[
        Path,
        typer.Argument(
            help="JSON file of jobs; those of the release, MultiTalk, InfiniteTalk and LongCat-Avatar work as they are."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder for the videos.")] = Path("videos"),
    model: Annotated[str, typer.Option(help="tiny, 1.3b, 14b, a model's folder, or a published checkpoint.")] = "tiny",
    device: Annotated[
        list[str] | None,
        typer.Option(help="cpu, cuda:0, …, once a device; left out: every GPU, or without one the CPU."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes on the CPU; left out: one a core.")] = None,
    loading: LoadingOptions,
    ray: RayAddress = None,
    allow_failures: Annotated[
        bool, typer.Option("--allow-failures", help="Exit with 0 even if jobs failed; without it, with 1.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", hidden=True)] = False,
) -> None:
    """Make many videos. Run again, and it makes what is missing or failed; one bad job stops no other.

    A job must have image and audio, a list. It may have at, faces, prompt, negative_prompt, mode, fps, max_frames,
    num_inference_steps, guidance_scale, audio_guidance_scale, voice_strengths, guidance_interval, batch_guidance,
    window, size, scale, rounding, upscale, separate, seed.
    """
    from anytalker.jobs.batch import run_batch
    from anytalker.jobs.job import read_jobs
    from anytalker.loading.components import model_folder
    from anytalker.processes import ray_devices

    known = read_jobs(jobs)
    model_folder(model)
    from anytalker.pipelines.ready import check_loading

    check_loading(loading)
    if ray is not None and (device or workers):
        raise InputError("--ray takes the cluster's devices; leave out --device and --workers.")
    devices = ray_devices(ray) if ray is not None else devices_of(device, workers)
    with progress_bar("Making videos") as report:
        results = run_batch(known, model, output, devices, report, loading, jobs)
    failed = [result for result in results if result.reason]
    for result in failed:
        typer.echo(f"{result.name}: {result.reason}", err=True)
    typer.echo(f"{len(results) - len(failed)} of {len(results)} videos are in {output}.")
    if failed and not allow_failures:
        raise typer.Exit(1)


@commands.command("convert-jobs", epilog="Example:\n\n  anytalker convert-jobs multitalk.json jobs.json")
def convert_jobs(
    source: Annotated[
        Path, typer.Argument(help="JSON file of MultiTalk, InfiniteTalk, LongCat-Avatar or the release.")
    ],
    destination: Annotated[Path, typer.Argument(help="Where the jobs go.")],
) -> None:
    """Write the jobs of other projects in the form of ours, to look at and to change."""
    from anytalker.jobs.convert import write_jobs

    count = write_jobs(source, destination)
    typer.echo(f"{count} job{'s are' if count > 1 else ' is'} in {destination}.")


def devices_of(device: list[str] | None, workers: int | None) -> list[str]:
    """The devices that were asked for; without any every GPU, or so many times the CPU.

    Raises:
        InputError: if one can't be used here.
    """
    import torch

    if workers is not None:
        check_range("--workers", workers, 1, 256)
    available = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    for name in device or ():
        if name != "cpu" and name not in available:
            raise InputError(f"--device {name} can't be used here; there is {', '.join(['cpu', *available])}.")
    chosen = device or available or ["cpu"]
    if chosen != ["cpu"]:
        return chosen
    return ["cpu"] * (workers or os.cpu_count() or 1)
