"""The command line as a whole: its commands, its exit codes, and how it fails."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from contextlib import suppress
from functools import cache
from typing import Annotated, Any

import typer

from anytalker.cli import batch, curate, doctor, evaluate, generate, miniature, models, serve, studio, timeline, train
from anytalker.cli.console import Interrupted
from anytalker.errors import InputError
from anytalker.failures import DEBUG, explain, storage_error

app = typer.Typer(
    name="anytalker",
    help="Talking videos of any number of people: one picture, one voice each, and everyone speaks their own words.",
    epilog="Start with:  anytalker demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


app.add_typer(generate.commands)
app.add_typer(timeline.commands)
app.add_typer(batch.commands)
app.add_typer(doctor.commands)
app.add_typer(evaluate.commands)
app.add_typer(models.commands)
app.add_typer(curate.commands, name="curate")
app.add_typer(train.commands, name="train")
app.add_typer(miniature.commands, name="miniature")
app.add_typer(serve.commands, name="serve")
app.add_typer(studio.commands)


def _version(show: bool) -> None:
    if show:
        from anytalker import __version__

        typer.echo(f"anytalker {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="When something fails, show where; also after the command's name.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; exit with 0 done, 2 wrong input, 130 interrupted, 1 anything else."""
    _collect_less_garbage()
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.default_int_handler)
    arguments, debug = _without_debug(sys.argv[1:])
    before = os.environ.get(DEBUG)
    if debug:
        os.environ[DEBUG] = "1"  # in the processes that are started, too
    try:
        _run(arguments)
    finally:
        if debug and before is None:
            del os.environ[DEBUG]


def _collect_less_garbage() -> None:
    """Imports make a million objects that stay: looking through them again and again, and at the end, takes 2 s."""
    gc.set_threshold(10_000)
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)


def _without_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """The arguments without --debug, which may stand anywhere before "--", and whether it was there."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    rest = [argument for argument in arguments[:end] if argument != "--debug"] + arguments[end:]
    return rest, len(rest) < len(arguments)


@cache
def _command() -> Any:
    """The command line as click has it, made once for a process."""
    return typer.main.get_command(app)


def _run(arguments: list[str]) -> None:
    try:
        code = _command()(arguments, standalone_mode=False)
        if code == 130:
            raise KeyboardInterrupt
        sys.exit(code or 0)
    except InputError as error:
        _fail(explain(error), 2)
    except (KeyboardInterrupt, typer.Abort, Interrupted) as error:
        _fail(str(error) or "Interrupted; nothing half-written was left.", 130)
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            sys.exit(error.exit_code)
        _fail(explain(error), 2 if isinstance(storage_error(error), InputError) else 1)


def _fail(message: str, code: int) -> None:
    typer.echo(f"Error: {message}", err=True)
    sys.exit(code)
