"""A curation from beginning to end: footage in, a dataset and its report out; interrupted, it goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from anytalker.curation.captioner import check_captioner
from anytalker.curation.cleaning import find_separator
from anytalker.curation.config import CurationConfig
from anytalker.curation.dataset import Dataset, assemble, forget_others, write_dataset
from anytalker.curation.engine import Progress, run_here, run_on_ray
from anytalker.curation.licences import read_rights
from anytalker.curation.report import write_report
from anytalker.curation.work import FOLDER, FileWork
from anytalker.errors import InputError
from anytalker.files import exclusive, write_json_atomic
from anytalker.media.containers import VIDEO_SUFFIXES

_MARK = "curation.json"
"""Says in a folder that it is a dataset of ours, and how it was made."""


@dataclass(frozen=True)
class Outcome:
    """What a curation made: the dataset, and files that were left out for want of a licence."""

    dataset: Dataset
    unlicensed: list[Path]


def find_footage(places: Sequence[Path]) -> list[Path]:
    """All videos of files and folders, with all that lies below them, in order of their paths, each once.

    Datasets of earlier runs that lie below a folder are left out: their clips are no footage.

    Raises:
        InputError: if a place is missing, or there is no video at all.
    """
    found: set[Path] = set()
    for place in places:
        if _is_folder(place):
            below = list(place.rglob("*"))
            datasets = {path.parent for path in below if path.name == _MARK and path.parent != place}
            found |= {path for path in below if _is_video(path) and datasets.isdisjoint(path.parents)}
        elif place.is_file():
            found.add(place)
        else:
            raise InputError(f"There is no file or folder {place}. Check the path.")
    if not found:
        raise InputError(f"{', '.join(map(str, places))} holds no videos ({', '.join(VIDEO_SUFFIXES)}).")
    return sorted({path.resolve() for path in found})


def _is_folder(place: Path) -> bool:
    """Whether a place is a folder, which then can be read."""
    try:
        if not place.is_dir():
            return False
        next(place.iterdir(), None)
        return True
    except OSError as error:
        raise InputError(f"{place} can't be read: {error.strerror}.") from error


def _check_parts(config: CurationConfig) -> None:
    """Make sure that all optional parts are there which the settings ask for."""
    wanted = {"rapidocr": config.text.max_share, "speechmos": config.sound.min_quality}
    for module, setting in wanted.items():
        if setting is not None and find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    if config.sound.separator is not None:
        find_separator(config.sound.separator)
    if config.captions.model is not None:
        check_captioner(config.captions.model)


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file() and not path.name.startswith(".")


def check_dataset(folder: Path, footage: Sequence[Path]) -> None:
    """Make sure that a folder may become a dataset.

    Raises:
        InputError: if it holds anything but an earlier dataset, or footage lies in it.
    """
    if not _is_folder(folder) and folder.exists():
        raise InputError(f"{folder} is a file; give a folder for the dataset.")
    if any(path.is_relative_to(folder.resolve()) for path in footage):
        raise InputError(f"{folder} holds footage, so the dataset can't go there. Choose another folder.")
    if folder.is_dir() and not (folder / _MARK).is_file() and any(path.name != FOLDER for path in folder.iterdir()):
        raise InputError(f"{folder} is not empty, and no dataset of an earlier run. Choose another folder.")


def curate(
    footage: Sequence[Path],
    folder: Path,
    config: CurationConfig,
    workers: int = 0,
    ray: str | None = None,
    require_licence: bool = False,
    on_progress: Progress = lambda step, done, total: None,
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Make a dataset of footage; what an earlier run with the same settings has done is not done again.

    Args:
        footage: files of video, see `find_footage`.
        folder: of the dataset.
        config: the settings.
        workers: processes of this machine; 0: none but this one.
        ray: address of a ray cluster to use instead.
        require_licence: leave out files without a stated licence.
        on_progress: told of what is done.
        say: writes a line.

    Raises:
        InputError: if the folder can't be used, another curation is writing to it, or a model can't be loaded.
        ModuleNotFoundError: if the settings ask for a part of the extra `quality`, and it is not installed.
    """
    check_dataset(folder, footage)
    _check_parts(config)
    folder = folder.absolute()  # other processes may run elsewhere
    rights = {path: read_rights(path) for path in footage}
    unlicensed = [path for path in footage if require_licence and not rights[path].licence]
    left_out = set(unlicensed)
    try:
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} can't be written: {error.strerror}. Choose another place.") from error
    with exclusive(folder / FOLDER / "lock", f"Another curation is writing to {folder}. Wait for it to end."):
        write_json_atomic(folder / _MARK, {"config": config.model_dump(mode="json")})
        for partial in folder.rglob(".*.partial*"):
            partial.unlink()
        works = [FileWork(path, folder, config) for path in footage if path not in left_out]
        if ray is not None:
            run_on_ray(works, ray, on_progress)
        else:
            run_here(works, workers, on_progress)
        dataset = assemble(works, rights, config)
        write_dataset(dataset, folder)
        write_report(dataset, folder)
        forget_others(works, folder)
    return Outcome(dataset, unlicensed)
