"""Files of jobs of any known form, written in ours."""

from __future__ import annotations

from pathlib import Path

from anytalker.errors import InputError
from anytalker.files import write_json_atomic
from anytalker.jobs.job import read_jobs


def write_jobs(source: Path, destination: Path) -> int:
    """Write the jobs of a file, of whatever form, as a file of ours, with whole paths; how many there are.

    Raises:
        InputError: if the file can't be read, one of its jobs is of no known form, or there is something at the
            destination already, or nothing can be written there.
    """
    jobs = read_jobs(source)
    if destination.exists():
        raise InputError(f"{destination} is there already; choose another name or remove it.")
    values = {
        name: job.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        | {"audio": [None if path is None else str(path) for path in job.audio]}
        for name, job in jobs.items()
    }
    try:
        write_json_atomic(destination, values)
    except OSError as error:
        raise InputError(f"{destination} can't be written: {error.strerror}. Choose another place.") from error
    return len(values)
