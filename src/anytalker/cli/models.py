"""`anytalker convert` and `anytalker download`: models and their files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
) -> None:
    """Convert the weights of the release to ours or back, tensor by tensor and bit for bit."""
    from anytalker.models.convert import convert as convert_checkpoint

    done = convert_checkpoint(source, destination, config)
    typer.echo(
        f"Converted {done.tensors} tensors of layout {done.layout}, {done.bytes / 2**20:.1f} MiB; none missing, none "
        f"unexpected. Wrote {', '.join(path.name for path in done.files)} in {done.files[0].parent}."
    )


@commands.command(epilog="Example:  anytalker download 1.3b")
def download(
    model: Annotated[str, typer.Argument(help="1.3b or 14b.")],
) -> None:
    """Get a full-size model; run it again after an interruption, and it goes on. ANYTALKER_HOME says where to."""
    from anytalker.pipelines.download import download as download_model

    download_model(model, log=typer.echo)
