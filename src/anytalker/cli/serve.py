"""`anytalker serve` and the keys of its service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anytalker.cli.console import RunGroup, check_range
from anytalker.cli.options import RayAddress, takes
from anytalker.errors import InputError
from anytalker.pipelines.loading_options import LoadingOptions

if TYPE_CHECKING:
    from anytalker.media.credentials import Credentials
    from anytalker.queue.supervisor import Supervisor


class _ServeGroup(RunGroup):
    """The group of `serve`, which runs without any argument, too, and whose help is that of running."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take no arguments, or --help, for those of `run`."""
        return super().parse_args(ctx, ["run", *args] if args in ([], ["--help"]) else args)


commands = typer.Typer(
    cls=_ServeGroup,
    help="Make videos for others over HTTP:  anytalker serve [--port PORT]",
    no_args_is_help=False,
    rich_markup_mode=None,
)
keys = typer.Typer(help="Who may use the service.", no_args_is_help=True, rich_markup_mode=None)
commands.add_typer(keys, name="keys")

KeysFile = Annotated[Path, typer.Option("--keys", metavar="FILE", help="The file of keys.")]


@commands.command(
    "run",
    hidden=True,
    epilog="Examples:\n\n  anytalker serve\n\n"
    "  anytalker serve keys add anna --keys keys.json\n\n"
    "  anytalker serve --host 0.0.0.0 --keys keys.json --model 1.3b --device cuda:0 --device cuda:1",
)
@takes(loading=LoadingOptions)
# Long because its options are parameters with their help.
def serve_run(
    *,
    host: Annotated[
        str, typer.Option(help="Address to listen on. One that others can reach needs --keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: one that is free.")] = 8000,
    data: Annotated[
        Path | None,
        typer.Option(show_default="videos in ~/.cache/anytalker", help="Folder of the jobs and their videos."),
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Only those with a key of this file may use the service.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(show_default="tiny", help="A model that may be asked for; the first one unless another is named."),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(help="cpu, cuda:0, …, a worker each; left out: every GPU, or without one the CPU."),
    ] = None,
    loading: LoadingOptions,
    ray: RayAddress = None,
    max_queued: Annotated[int, typer.Option(help="Videos that may wait; more are refused.")] = 200,
    max_upload: Annotated[int, typer.Option(metavar="MIB", help="Size of a request.")] = 200,
    max_seconds: Annotated[float, typer.Option(help="Length of a recording.")] = 1800.0,
    max_job_seconds: Annotated[float, typer.Option(help="Time that a video may take to be made.")] = 21600.0,
    per_minute: Annotated[int | None, typer.Option(help="Requests of a key, or without keys of all.")] = None,
    keep_days: Annotated[float, typer.Option(help="Days after which videos are deleted.")] = 30.0,
    quota: Annotated[float, typer.Option(metavar="GIB", help="Disk space of all videos.")] = 50.0,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A name by which the service may be called, too.")
    ] = None,
    webhook_network: Annotated[
        list[str] | None, typer.Option(metavar="NETWORK", help="A private network that webhooks may go to, too.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="A text in the corner of every frame, such as 'AI-generated'.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Sign videos (C2PA): certificate and those that vouch for it.")
    ] = None,
    certificate_key: Annotated[Path | None, typer.Option(metavar="PEM", help="Its private key.")] = None,
    certificate_algorithm: Annotated[str, typer.Option(help="Of the key: es256, ps256, ed25519, …")] = "es256",
) -> None:
    """Make videos for others over HTTP, one after another, until Ctrl-C. Jobs that wait go on at the next start."""
    for name, value, low, high in (
        ("--port", port, 0, 65535),
        ("--max-queued", max_queued, 1, 100_000),
        ("--max-upload", max_upload, 1, 10_000),
        ("--max-seconds", max_seconds, 1, 21600),
        ("--max-job-seconds", max_job_seconds, 1, 10**7),
        ("--per-minute", 1 if per_minute is None else per_minute, 1, 10**6),
        ("--keep-days", keep_days, 0.001, 36500),
        ("--quota", quota, 0.001, 10**6),
    ):
        check_range(name, value, low, high)
    from anytalker.queue.decoding import DecodingBounds
    from anytalker.queue.store import Bounds
    from anytalker.queue.video_queue import QueueSettings
    from anytalker.service.keys import ApiKeys
    from anytalker.service.settings import Limits, ServiceSettings, check_address, data_folder, networks

    known = None if keys is None else ApiKeys(keys)
    check_address(host, known)
    models = tuple(model or ["tiny"])
    _check_models(models, loading)
    settings = ServiceSettings(
        host=host,
        port=port,
        models=models,
        keys=known,
        limits=Limits(upload=max_upload * 2**20, per_minute=per_minute),
        hosts=tuple(allow_host or ()),
        webhook_networks=networks(webhook_network or ()),
    )
    kept = QueueSettings(
        bounds=Bounds(waiting=max_queued, bytes=round(quota * 2**30)),
        decoding=DecodingBounds(audio_seconds=max_seconds),
        keep_seconds=keep_days * 86400,
        job_seconds=max_job_seconds,
        label=_label(label),
        credentials=_credentials(certificate, certificate_key, certificate_algorithm),
        preload=models[0],
    )
    if ray is not None and device:
        raise InputError("--ray takes the cluster's devices; leave out --device.")
    _serve(data or data_folder(), settings, kept, device, loading, ray)


def _serve(
    folder: Path,
    settings: object,
    kept: object,
    device: list[str] | None,
    loading: LoadingOptions,
    ray: str | None,
) -> None:
    try:
        from anytalker.service.app import create_app
        from anytalker.service.logs import log_as_json
        from anytalker.service.server import serve
    except ModuleNotFoundError as error:
        raise InputError(f"The service needs {error.name}:  pip install 'anytalker[serve]'") from error
    from anytalker.cli.batch import devices_of
    from anytalker.processes import ray_cluster
    from anytalker.queue.supervisor import Supervisor
    from anytalker.queue.video_queue import VideoQueue

    queue = VideoQueue(folder, kept)  # type: ignore[arg-type]
    devices, cluster = (devices_of(device, 1), None) if ray is None else ray_cluster(ray)
    supervisor = Supervisor(queue, devices, loading, log_as_json, cluster)
    log_as_json()
    app = create_app(queue, settings, supervisor)  # type: ignore[arg-type]

    def ready(address: str) -> None:
        typer.echo(f"Listening on {address}, its API is described at {address}/docs; videos are in {queue.folder}.")

    say_if_elsewhere(supervisor)
    try:
        serve(app, settings, ready)  # type: ignore[arg-type]
    except KeyboardInterrupt:
        typer.echo("Stopped. Videos that wait go on at the next start.", err=True)


def say_if_elsewhere(supervisor: Supervisor) -> None:
    """Say who makes the videos, if another studio or service with the same folder does."""
    if supervisor.elsewhere:
        typer.echo(
            f"Another studio or service makes the videos in {supervisor.queue.folder}, with its own options, such as "
            "--label; this one takes over when it ends. For a queue of its own give another --data."
        )


def _label(text: str | None) -> str | None:
    fits = text is None or (0 < len(text.strip()) <= 40 and text.isprintable() and max(map(ord, text)) < 592)
    if not fits:
        raise InputError(f"--label is {text!r}; it must be 1 to 40 Latin letters.")
    return text


def _credentials(certificate: Path | None, key: Path | None, algorithm: str) -> Credentials | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise InputError("--certificate and --certificate-key belong together.")
    from anytalker.media.credentials import Credentials

    found = Credentials(certificate.absolute(), key.absolute(), algorithm)
    found.check()
    return found


def _check_models(models: tuple[str, ...], loading: LoadingOptions) -> None:
    from anytalker.loading.locate import find_model

    for name in models:
        find_model(name)
    if loading != LoadingOptions():  # what checks them is slow to import
        from anytalker.pipelines.ready import check_loading

        check_loading(loading)


@keys.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    keys: KeysFile,
    max_jobs: Annotated[int | None, typer.Option(help="Videos that may wait or be made at a time.")] = None,
    per_minute: Annotated[int | None, typer.Option(help="Requests a minute.")] = None,
    priority: Annotated[int, typer.Option(help="Videos of a higher one go first.")] = 0,
) -> None:
    """Make a key and print it; only its hash is kept."""
    from anytalker.service.keys import ApiKeys

    check_range("--priority", priority, -100, 100)
    secret = ApiKeys(keys).add(name, max_jobs, per_minute, priority)
    typer.echo(secret)
    typer.echo(f"That is the key of {name}, and it is shown only now. Send it as:  Authorization: Bearer KEY", err=True)


@keys.command("list")
def list_keys(keys: KeysFile) -> None:
    """Say whose keys there are."""
    from anytalker.service.keys import ApiKeys

    for key in ApiKeys(keys).read():
        limits = [f"{key.max_jobs} videos at a time"] if key.max_jobs else []
        limits += [f"{key.per_minute} requests a minute"] if key.per_minute else []
        limits += [f"priority {key.priority}"] if key.priority else []
        typer.echo(f"{key.name}: since {key.created}{''.join(f', {limit}' for limit in limits)}")


@keys.command()
def remove(name: Annotated[str, typer.Argument(help="Whose key it is.")], keys: KeysFile) -> None:
    """Forget a key, in a service that is running, too."""
    from anytalker.service.keys import ApiKeys

    ApiKeys(keys).remove(name)
    typer.echo(f"The key of {name} is no longer known.")
