"""`anytalker convert`, `download` and `calibrate`: models and their files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anytalker.checkpoints.weight_files import is_weights
from anytalker.cli.console import Device, check_range, load_pipeline
from anytalker.cli.options import takes
from anytalker.errors import InputError
from anytalker.pipelines.loading_options import LoadingOptions, PlacementOptions

commands = typer.Typer()


@commands.command(
    epilog="Examples:\n\n  anytalker convert 1_3B-single-v1.pth transformer\n\n"
    "  anytalker convert 14B-multi-v1.pth transformer --config config_af2v_14B.json\n\n"
    "  anytalker convert runs/mine/model/transformer mine.pth",
)
def convert(
    source: Annotated[
        Path, typer.Argument(help="The release's .pth or .safetensors, or a transformer folder of ours.")
    ],
    destination: Annotated[
        Path, typer.Argument(help="A folder for our model, or a .pth or .safetensors file for the release's.")
    ],
    config: Annotated[
        Path | None, typer.Option(help="The release's configuration; left out: the JSON file beside the checkpoint.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is at the destination.")] = False,
) -> None:
    """Convert the weights of the release to ours or back, tensor by tensor and bit for bit."""
    if not force and (destination.is_file() or (destination.is_dir() and any(destination.iterdir()))):
        raise InputError(f"{destination} is there already. Give another destination, or --force to replace it.")
    beside = destination.with_suffix(".json")  # the release's configuration goes there
    if not force and is_weights(destination) and beside.exists():
        raise InputError(f"{beside} is there already. Give another destination, or --force to replace it.")
    from anytalker.loading.convert import convert as convert_checkpoint

    done = convert_checkpoint(source, destination, config)
    typer.echo(
        f"Converted {done.tensors} tensors of layout {done.layout}, {done.bytes / 2**20:.1f} MiB; none missing, none "
        f"unexpected. Wrote {', '.join(str(path) for path in done.files)}."
    )


@commands.command(epilog="Examples:\n\n  anytalker download 1.3b\n\n  anytalker download faces")
def download(
    model: Annotated[str, typer.Argument(help="1.3b, 14b, faces (a face detector), or separator (of voices).")],
) -> None:
    """Get a full-size model, YuNet to find faces, or Kim_Vocal_2 to take voices out of recordings.

    Run it again after an interruption to continue. Files go to ANYTALKER_HOME.
    """
    from anytalker.loading.download import download as download_model
    from anytalker.loading.download import download_faces, download_separator

    if model == "faces":
        download_faces(log=typer.echo)
        return
    if model == "separator":
        download_separator(log=typer.echo)
        return
    download_model(model, log=typer.echo)


@commands.command(
    epilog="Examples:\n\n  anytalker calibrate runs/mine/model --steps 16\n\n"
    "  anytalker calibrate 14b --image two.png --audio anna.wav --audio ben.wav",
)
@takes(placement=PlacementOptions)
def calibrate(
    *,
    model: Annotated[str, typer.Argument(help="1.3b, 14b, a model's folder, or a published checkpoint.")],
    image: Annotated[Path | None, typer.Option(help="A picture of people; left out: two drawn ones.")] = None,
    audio: Annotated[list[Path] | None, typer.Option(help="One voice a person, with --image.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the sampler; left out: the model's default.")] = None,
    device: Annotated[Device | None, typer.Option(help="Left out: the GPU if there is one.")] = None,
    placement: PlacementOptions,
) -> None:
    """Measure once what --cache magcache has to know of a model, and write it into the model's settings."""
    if model == "tiny":
        raise InputError("tiny knows its ratios already; calibrate a model of your own by its folder.")
    from anytalker.loading.components import find_model
    from anytalker.miniature.demo import demo_scene
    from anytalker.pipelines.calibration import measure_magnitudes, write_magnitudes

    if (image is None) != (not audio):
        raise InputError("--image and --audio belong together; leave both out for drawn people.")
    if steps is not None:
        check_range("--steps", steps, 4, 1000)
    pipeline = load_pipeline(model, device, LoadingOptions(memory=placement.memory, weights=placement.weights))
    faces = None
    if image is None:
        image, faces, audio = demo_scene(2, 4.0, 0)  # type: ignore[assignment]
    ratios = measure_magnitudes(pipeline, image, audio or [], steps, faces=faces)
    path = write_magnitudes(pipeline, find_model(model).settings, ratios)
    typer.echo(f"Measured {len(ratios)} steps: {', '.join(f'{ratio:.3f}' for ratio in ratios)}. Wrote {path}.")
