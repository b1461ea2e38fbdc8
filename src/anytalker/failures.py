"""What is said when something fails: one line, and for what nobody expected a file with everything else."""

from __future__ import annotations

import errno
import functools
import importlib.util
import os
import platform
import shlex
import sys
import tempfile
import traceback
from contextlib import suppress
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from anytalker.errors import OUT_OF_MEMORY, AnyTalkerError, InputError
from anytalker.extras import extras_with
from anytalker.files import atomic_path, home
from anytalker.hashing import short_digest

DEBUG = "ANYTALKER_DEBUG"
"""Environment variable: if it is set, tracebacks are shown on standard error. `anytalker --debug` sets it."""
_KEPT = 20
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SAY_FULL = ("(os error 28)", "database or disk is full")
"""What errors of safetensors and SQLite say of a full disk; they have no number."""
_LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "av", "pillow", "typer")


def explain(error: BaseException) -> str:
    """What to say of an error, in one line where the error itself has one.

    Errors raised on purpose, missing memory, full disks and files that may not be used speak for themselves; for a
    module of an extra the line says what to install; anything else was not expected, and is kept by `write_log`. Shows
    the traceback, too, if `DEBUG` is set.
    """
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    if isinstance(error, AnyTalkerError):
        return str(error)
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    if (refused := storage_error(error)) is not None:
        return str(refused)
    if isinstance(error, ModuleNotFoundError) and error.name and (extras := extras_with(error.name)):
        commands = " or ".join(f"pip install --upgrade 'anytalker[{extra}]'" for extra in extras)
        return f"{_lacking(error.name)}. Install what this needs:  {commands}"
    what = _lacking(error.name) if isinstance(error, ModuleNotFoundError) and error.name else _first_line(error)
    log = write_log(error)
    rest = f"what led to it is in {log}" if log else "no log could be written"
    return f"{what}. This was not expected; {rest}, and --debug shows it."


def storage_error(error: BaseException) -> AnyTalkerError | None:
    """What to raise in place of an error that says that a file or folder may not be used (`InputError`), or that the
    disk is full; None for any other error."""
    number = error.errno if isinstance(error, OSError) else None
    name = error.filename if isinstance(error, OSError) else None
    path = Path(os.fsdecode(name)) if isinstance(name, (str, bytes)) else None
    if number in _FULL or any(text in str(error) for text in _SAY_FULL):
        where = f": {path} can't be written. Free some space in {path.absolute().parent}" if path else ""
        return AnyTalkerError(f"The disk is full{where or '. Free some space, and run the same command again'}.")
    if number in _REFUSED and path is not None:
        return InputError(f"{path} can't be used: {os.strerror(number)}. Choose another place, or change its rights.")
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory gave out, the machine's or a GPU's."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return "DefaultCPUAllocator" in str(error)  # for which PyTorch has no class


def _lacking(module: str) -> str:
    package = module.partition(".")[0]
    if package != module and _is_installed(package):
        return f"The installed {package} is another version than is needed: it has no {module}"
    return f"The Python module {package} is missing"


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # loaded by unusual means
        return True


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def write_log(error: BaseException) -> Path | None:
    """Keep an error's traceback, command line and versions in ANYTALKER_HOME/logs, else in a temporary folder.

    Errors from the same place share a file, which holds the latest, so that a batch whose jobs all fail alike leaves
    one. The newest 20 files are kept. Values of variables, and so the contents of inputs, are not written.

    Returns:
        The file; None if it can be written nowhere.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = repr((type(error).__name__, [(frame.filename, frame.lineno) for frame in frames]))
    name = f"error-{short_digest(place)}.log"
    for folder in (lambda: home() / "logs", _temporary_folder):
        with suppress(OSError, RuntimeError):  # RuntimeError: there is no home folder
            path = folder() / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as partial:
                partial.write_text(_report(error), encoding="utf-8", errors="backslashreplace")
            _drop_older(path.parent)
            return path
    return None


@functools.cache
def _temporary_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="anytalker-"))


def _report(error: BaseException) -> str:
    from anytalker import __version__

    lines = [
        f"time: {datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC",
        f"command: {shlex.join(sys.argv)}",
        f"process: {os.getpid()} on {platform.node()}, in {os.getcwd()}",
        f"versions: anytalker {__version__}, Python {platform.python_version()}, {platform.platform()}",
    ]
    lines += [f"  {name} {_version(name)}" for name in _LIBRARIES]
    return "\n".join([*lines, "", *traceback.format_exception(error)])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "is not installed"


def _drop_older(folder: Path) -> None:
    with suppress(OSError):  # another process drops them at the same time
        logs = sorted(folder.glob("error-*.log"), key=lambda path: path.stat().st_mtime_ns)
        for old in logs[:-_KEPT]:
            old.unlink(missing_ok=True)
