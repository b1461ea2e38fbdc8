"""`anytalker studio`: the page in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anytalker.cli.console import check_range
from anytalker.cli.options import takes
from anytalker.cli.serve import say_if_elsewhere
from anytalker.errors import InputError
from anytalker.pipelines.loading_options import LoadingOptions

commands = typer.Typer()


@commands.command(epilog="Examples:\n\n  anytalker studio\n\n  anytalker studio --port 7860 --data ~/videos")
@takes(loading=LoadingOptions)
def studio(
    *,
    port: Annotated[int, typer.Option(help="Port to listen on; 0: one that is free.")] = 7860,
    host: Annotated[str, typer.Option(help="Address of this machine to listen on; others can't reach it.")] = (
        "127.0.0.1"
    ),
    data: Annotated[
        Path | None,
        typer.Option(show_default="videos in ~/.cache/anytalker", help="Folder of the jobs and their videos."),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(help="cpu, cuda:0, …, a worker each; left out: every GPU, or without one the CPU."),
    ] = None,
    loading: LoadingOptions,
) -> None:
    """Make videos on a page in your browser, until Ctrl-C. Videos that wait go on at the next start."""
    check_range("--port", port, 0, 65535)
    if loading != LoadingOptions():  # what checks them is slow to import
        from anytalker.pipelines.ready import check_loading

        check_loading(loading)
    try:
        from anytalker.studio.app import create_app, studio_settings
    except ModuleNotFoundError as error:
        raise InputError(f"The studio needs {error.name}:  pip install 'anytalker[studio]'") from error
    from anytalker.cli.batch import devices_of
    from anytalker.queue.supervisor import Supervisor
    from anytalker.queue.video_queue import QueueSettings, VideoQueue
    from anytalker.service.server import serve
    from anytalker.service.settings import data_folder

    settings = studio_settings(host, port)
    queue = VideoQueue(data or data_folder(), QueueSettings(keep_seconds=None, preload="tiny"))
    supervisor = Supervisor(queue, devices_of(device, 1), loading)
    app = create_app(queue, settings, supervisor)

    def ready(address: str) -> None:
        typer.echo(f"Open {address} in your browser; videos are in {queue.folder}. Ctrl-C ends it.")

    say_if_elsewhere(supervisor)
    try:
        serve(app, settings, ready)
    except KeyboardInterrupt:
        typer.echo("Stopped. Videos that wait go on at the next start.", err=True)
