"""`anytalker evaluate …`: scores of generated videos, and their report."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from anytalker.cli.console import check_range
from anytalker.cli.progress import progress_bar
from anytalker.errors import AnyTalkerError, InputError

commands = typer.Typer()

METRIC_NAMES = {
    "all": (),
    "interactivity": ("interactivity",),
    "lip-sync": ("sync_c", "sync_d", "sync_c_star", "sync_offset"),
    "binding": ("binding",),
    "silence": ("silence",),
    "fidelity": ("psnr", "ssim", "fid", "fvd"),
}


class Protocol(str, Enum):
    """Protocols of Interactivity."""

    release = "release"
    paper = "paper"


class Finder(str, Enum):
    """What finds faces."""

    network = "network"
    cascade = "cascade"
    uniface = "uniface"
    none = "none"


@commands.command(
    epilog="Examples:\n\n  anytalker evaluate outputs --report report\n\n"
    "  anytalker evaluate outputs --against real --tracks tracks --report report --workers 2\n\n"
    "  anytalker evaluate lip-sync outputs --voices voices --report report\n\n"
    "  anytalker evaluate interactivity clips --speaking speaker_duration.json --detector uniface --report report",
)
def evaluate(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="[SCORE] FOLDER",
            help=f"The folder of videos; before it, if not all scores are wanted: {', '.join(METRIC_NAMES)}.",
        ),
    ],
    report: Annotated[Path, typer.Option(help="Folder for report.html, scores.csv and scores.jsonl.")] = Path("report"),
    against: Annotated[Path | None, typer.Option(help="Folder of the real videos, of the same names.")] = None,
    tracks: Annotated[
        Path | None,
        typer.Option(help="Folder of face tracks, NAME.tracks.safetensors or .npz; also found beside videos."),
    ] = None,
    voices: Annotated[Path | None, typer.Option(help="Folder of everybody's recordings, NAME_PERSON.wav.")] = None,
    speaking: Annotated[
        Path | None, typer.Option(help="JSON file of who speaks when, like speaker_duration.json.")
    ] = None,
    protocol: Annotated[Protocol, typer.Option(help="How Interactivity is measured.")] = Protocol.release,
    detector: Annotated[
        Finder, typer.Option(help="What finds faces where no tracks or boxes are known; uniface also gives landmarks.")
    ] = Finder.network,
    syncnet: Annotated[
        Path | None,
        typer.Option(help="Weights of the original SyncNet (syncnet_v2.model); left out: the built-in one."),
    ] = None,
    fid_network: Annotated[Path | None, typer.Option(help="TorchScript network of pictures for FID.")] = None,
    fvd_network: Annotated[
        Path | None, typer.Option(help="TorchScript I3D, or a folder with VideoMAE, for FVD.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Clips scored at once.")] = 2,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if any clip could not be scored.")] = False,
) -> None:
    """Score a folder of talking videos, and write a report to look at. Run it again to continue."""
    check_range("--workers", workers, 1, 256)
    metrics, folder = _asked(what)
    from anytalker.evaluation.clips import Folders, find_clips
    from anytalker.evaluation.lip_sync.syncnet import load_sync_model
    from anytalker.evaluation.run import evaluate as run
    from anytalker.evaluation.scoring import ScoringSettings

    networks = {"fid": fid_network, "fvd": fvd_network}
    for file in (syncnet, *networks.values()):
        if file is not None and not file.exists():
            raise InputError(f"There is no file {file}. Check the path.")
    if syncnet is not None:
        load_sync_model(syncnet)
    clips = find_clips(folder, Folders(tracks, voices, speaking, against))
    settings = ScoringSettings(
        metrics, protocol.value, detector.value, syncnet, tuple((k, v) for k, v in networks.items() if v is not None)
    )
    with progress_bar("Scoring") as report_progress:
        outcome = run(clips, settings, report, workers, "all", f"Evaluation of {folder}", report_progress)
    for name, mean, count in outcome.means:
        typer.echo(f"{name:<14} {mean:8.3f}   {count} of {len(clips)} clips")
    if outcome.failed:
        typer.echo(f"{outcome.failed} of {len(clips)} clips could not be scored; the report says why.", err=True)
    typer.echo(f"Wrote {report / 'report.html'}.")
    if strict and outcome.failed:
        raise typer.Exit(1)


def _asked(what: list[str]) -> tuple[tuple[str, ...], Path]:
    """The scores wanted, () for all, and the folder."""
    if len(what) == 1:
        return (), Path(what[0])
    if len(what) != 2 or what[0] not in METRIC_NAMES:
        names = ", ".join(METRIC_NAMES)
        raise InputError(f"{' '.join(what)!r} is not understood: give a folder, or before it one of {names}.")
    return METRIC_NAMES[what[0]], Path(what[1])


@commands.command(
    "benchmark",
    epilog="Example:  anytalker benchmark InteractiveEyes --model 1.3b --output videos --report report",
)
def benchmark(
    folder: Annotated[Path, typer.Argument(help="InteractiveEyes as published: frames/, audio_left/, audio_right/, …")],
    model: Annotated[str, typer.Option(help="tiny, 1.3b, 14b, a model's folder, or a published checkpoint.")] = "tiny",
    output: Annotated[Path, typer.Option(help="Folder for the videos; those made alike are kept.")] = Path("videos"),
    report: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("report"),
    against: Annotated[Path | None, typer.Option(help="Folder of the real videos, of the same names.")] = None,
    detector: Annotated[Finder, typer.Option(help="What finds faces; uniface also gives landmarks.")] = Finder.none,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    max_frames: Annotated[int | None, typer.Option(help="Cut every video to that many frames.")] = None,
    seed: Annotated[int, typer.Option(help="Of every video.")] = 0,
    workers: Annotated[int, typer.Option(help="Clips scored at once.")] = 2,
) -> None:
    """Generate the InteractiveEyes benchmark's videos with any model, and score them beside the published results."""
    check_range("--workers", workers, 1, 256)
    check_range("--seed", seed, 0, 2**63 - 1)
    from anytalker.cli.console import load_pipeline
    from anytalker.evaluation.clips import SPANS_FILE, Folders, find_clips
    from anytalker.evaluation.run import evaluate as run
    from anytalker.evaluation.scoring import ScoringSettings
    from anytalker.jobs.interactive_eyes import generate_benchmark, missing_videos, read_benchmark

    items = read_benchmark(folder)
    options = {"num_inference_steps": steps, "max_frames": max_frames, "rounding": "release"}
    failed: dict[str, str] = {}
    if missing_videos(items, model, output, seed, **options):
        pipeline = load_pipeline(model, None)
        pipeline.set_progress_bar_config(disable=True)
        with progress_bar("Generating") as told:
            failed = generate_benchmark(items, pipeline, model, output, seed, told, **options)
        for name, reason in failed.items():
            typer.echo(f"{name}: {reason}", err=True)
    if len(failed) == len(items):
        raise AnyTalkerError(f"None of the {len(items)} clips could be generated, so there is nothing to score.")
    own = {f"{item.name}.mp4" for item in items}
    found = find_clips(output, Folders(voices=folder, spans=folder / SPANS_FILE, real=against))
    clips = [clip for clip in found if clip.video.name in own]
    with progress_bar("Scoring") as told:
        outcome = run(
            clips, ScoringSettings(detector=detector.value), report, workers, "InteractiveEyes", "InteractiveEyes", told
        )
    typer.echo(f"Scored {len(clips) - outcome.failed} of {len(items)} clips. Wrote {report / 'report.html'}.")
