"""Downloads of the models with a name: what is missing, checked against the hub, converted, and complete.

Files are fetched by huggingface_hub's `http_get`, not by its `snapshot_download`, which since 1.18 drops what an
interrupted file has received: a checkpoint of tens of gigabytes would begin again.
"""

from __future__ import annotations

import glob
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anytalker.conditioning.faces import yunet_path
from anytalker.conditioning.separation import can_separate
from anytalker.errors import AnyTalkerError, InputError
from anytalker.files import exclusive
from anytalker.hashing import file_digest
from anytalker.loading.convert import convert
from anytalker.loading.presets import PRESETS, SHARED, Preset, models_home
from anytalker.loading.scheduler import make_scheduler
from anytalker.loading.separator import KNOWN, separator_path

_MARGIN = 2**28
SEPARATOR = "fudan-generative-ai/hallo"
"""The hub's repository that the vocal separator is taken from."""
YUNET = "opencv/face_detection_yunet"
"""The hub's repository of the face detector."""


@dataclass(frozen=True)
class HubFile:
    """A file on the hub: its repository, path, size in bytes, and SHA-256 where the hub tells it."""

    repository: str
    path: str
    size: int
    sha256: str | None


@dataclass(frozen=True)
class Download:
    """A file that is needed, and where it goes."""

    file: HubFile
    target: Path


class Hub:
    """The Hugging Face hub.

    Args:
        endpoint: its address; None: the usual one.
    """

    def __init__(self, endpoint: str | None = None) -> None:
        from huggingface_hub import HfApi

        self.api = HfApi(endpoint=endpoint)
        self._known: dict[str, Any] = {}

    def _info(self, repository: str) -> Any:
        if repository not in self._known:
            try:
                self._known[repository] = self.api.model_info(repository, files_metadata=True)
            except Exception as error:
                raise AnyTalkerError(
                    f"The hub's repository {repository} can't be reached ({_reason(error)}). Check the connection and "
                    "run the same command again."
                ) from error
        return self._known[repository]

    def files(self, repository: str) -> list[HubFile]:
        """All files of a repository."""
        return [
            HubFile(repository, entry.rfilename, entry.size or 0, entry.lfs.sha256 if entry.lfs else None)
            for entry in self._info(repository).siblings
        ]

    def license(self, repository: str) -> str:
        """The licence that a repository's card names."""
        card = self._info(repository).card_data
        return str(getattr(card, "license", None) or "not stated")

    def fetch(self, file: HubFile, folder: Path) -> Path:
        """Download a file below `folder`, going on in the middle of one that is there in part; its path."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        target = folder / file.path
        revision = self._info(file.repository).sha
        partial = target.with_name(f"{target.name}.{revision}.partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        url = hf_hub_url(file.repository, file.path, revision=revision, endpoint=self.api.endpoint)
        headers = build_hf_headers() | {"Accept-Encoding": "identity"}
        try:
            with partial.open("ab") as stream:
                http_get(url, stream, resume_size=stream.tell(), headers=headers, expected_size=file.size)
        except Exception as error:
            raise AnyTalkerError(
                f"{file.path} of {file.repository} could not be downloaded ({_reason(error)}). Run the same command "
                "again: it goes on where it stopped."
            ) from error
        return partial.replace(target)


def download(name: str, hub: Hub | None = None, home: Path | None = None, log: Callable[[str], None] = print) -> Path:
    """Make a model of `PRESETS` complete on disk; what is there already is kept.

    Args:
        name: of the preset.
        hub: where from; None: the Hugging Face hub.
        home: folder of the models; None: see `models_home`.
        log: receives lines of progress.

    Returns:
        The model's folder, which `AnyTalkerPipeline.from_pretrained` reads.

    Raises:
        InputError: for an unknown name, or if the disk is too small.
        AnyTalkerError: if a file can't be downloaded, or is not what the hub says it is.
    """
    if name not in PRESETS:
        raise InputError(f"There is nothing to download for {name!r}; the models are {', '.join(PRESETS)}.")
    preset, hub, home = PRESETS[name], hub or Hub(), home or models_home()
    folder = home / name
    if (folder / "anytalker.json").exists():
        log(f"{name} is complete in {folder}.")
        return folder
    wanted = _shared_files(preset, hub, home)
    release = _release_files(name, preset, hub, folder)
    converted = (folder / "transformer" / "config.json").exists()
    missing = [entry for entry in [*wanted, *([] if converted else release)] if not _whole(entry)]
    for repository in dict.fromkeys(entry.file.repository for entry in missing):
        log(f"{repository}: licence {hub.license(repository)}")
    _check_space(missing, 0 if converted else release[0].file.size, home)
    for number, entry in enumerate(missing, start=1):
        log(f"[{number}/{len(missing)}] {entry.file.repository}/{entry.file.path}, {entry.file.size / 2**20:.0f} MiB")
        _fetch(entry, hub, home / ".downloads")
    if not converted:
        log("Converting the release's checkpoint …")
        unfinished = folder / "transformer-unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        convert(release[0].target, unfinished, release[1].target)
        unfinished.rename(folder / "transformer")
    shutil.rmtree(folder / "release", ignore_errors=True)
    make_scheduler(preset.settings.shift).save_pretrained(folder / "scheduler")
    preset.settings.save(folder)
    log(f"{name} is complete in {folder}.")
    if preset.settings.separator is not None and not separator_path(preset.settings.separator).is_file():
        log("For voices with music or noise behind them:  anytalker download separator")
    return folder


def _shared_files(preset: Preset, hub: Hub, home: Path) -> list[Download]:
    """The files of all parts but the transformer."""
    wanted = []
    for part_name, part in preset.parts.items():
        prefix = f"{part.folder}/" if part.folder else ""
        files = [file for file in hub.files(part.repository) if file.path.startswith(prefix)]
        files = [file for file in files if not part.names or file.path in part.names]
        if not files:
            raise AnyTalkerError(f"{part.repository} has no files for the {part_name}; it may have moved.")
        wanted += [Download(file, home / SHARED / part_name / file.path[len(prefix) :]) for file in files]
    return wanted


def _release_files(name: str, preset: Preset, hub: Hub, folder: Path) -> list[Download]:
    """The release's checkpoint and its configuration."""
    files = {file.path: file for file in hub.files(preset.repository)}
    size = re.sub(r"[^a-z0-9]", "", name)
    configs = [path for path in files if re.search(r"config_af2v_[^/]*\.json$", path)]
    configs = [path for path in configs if size in re.sub(r"[^a-z0-9]", "", path.lower())] or configs
    checkpoints = [path for path in files if path.endswith(preset.checkpoint)]
    if len(configs) != 1 or len(checkpoints) != 1:
        raise AnyTalkerError(f"{preset.repository} does not hold {preset.checkpoint} and one configuration for it.")
    return [Download(files[path], folder / "release" / Path(path).name) for path in (checkpoints[0], configs[0])]


def _whole(entry: Download) -> bool:
    return entry.target.is_file() and entry.target.stat().st_size == entry.file.size


def _check_space(missing: Iterable[Download], converted: int, home: Path) -> None:
    needed = sum(entry.file.size - _begun(entry.file, home) for entry in missing) + converted + _MARGIN
    existing = home
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise InputError(
            f"{home} needs {needed / 2**30:.1f} GiB of free disk, and has {free / 2**30:.1f}. Free some, or set "
            "ANYTALKER_HOME to a folder on another disk."
        )


def _begun(file: HubFile, home: Path) -> int:
    """Bytes of a file that an interrupted download has left, which `Hub.fetch` goes on with."""
    target = home / ".downloads" / file.repository.replace("/", "--") / file.path
    parts = target.parent.glob(f"{glob.escape(target.name)}.*.partial")
    return min(file.size, max((part.stat().st_size for part in parts), default=0))


def _fetch(entry: Download, hub: Hub, unfinished: Path) -> None:
    """Download one file, compare it with the hub's checksum, and put it in place."""
    folder = unfinished / entry.file.repository.replace("/", "--")
    folder.mkdir(parents=True, exist_ok=True)
    taken = f"{entry.file.path} of {entry.file.repository} is being downloaded by another command. Wait for it."
    with exclusive(folder / f"{entry.file.path.replace('/', '--')}.lock", taken):
        fetched = hub.fetch(entry.file, folder)
        problem = None
        if fetched.stat().st_size != entry.file.size:
            problem = f"has {fetched.stat().st_size} bytes instead of {entry.file.size}"
        elif entry.file.sha256 and file_digest(fetched) != entry.file.sha256:
            problem = "has another checksum than on the hub"
        if problem:
            fetched.unlink()
            raise AnyTalkerError(f"{entry.file.path} of {entry.file.repository} {problem}; run the same command again.")
        entry.target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(fetched, entry.target)


def _reason(error: Exception) -> str:
    said = getattr(error, "server_message", None) or str(error)  # the hub's own words, of a gated repository for one
    return said.strip().partition("\n")[0].rstrip(".") or type(error).__name__


def _file_of(hub: Hub, repository: str, name: str) -> HubFile:
    """The file of that name in any folder of a repository."""
    found = next((file for file in hub.files(repository) if Path(file.path).name == name), None)
    if found is None:
        raise AnyTalkerError(f"{repository} has no file {name}; it may have moved.")
    return found


def download_separator(name: str = "Kim_Vocal_2", hub: Hub | None = None, log: Callable[[str], None] = print) -> Path:
    """Get the network that takes voices out of their recordings for full-size models (67 MB).

    Its author states no licence; the hub's repository that it is taken from states its own.

    Args:
        name: of the network.
        hub: where to get it; None: the Hugging Face hub.
        log: told about the licence, and where the file is.

    Returns:
        The file's path.

    Raises:
        AnyTalkerError: if the hub can't be reached or the file is damaged.
    """
    target = separator_path(name)
    if target.is_file():
        log(f"{name} is there already: {target}")
        return target
    hub = hub or Hub()
    file = _file_of(hub, SEPARATOR, target.name)
    log(f"{SEPARATOR}: licence {hub.license(SEPARATOR)}; the author of {name} states none")
    _fetch(Download(replace(file, sha256=KNOWN[name]), target), hub, models_home() / ".downloads")
    needs = "" if can_separate() else "; it needs:  pip install 'anytalker[separate]'"
    log(f"{name} is in {target}{needs}")
    return target


def download_faces(hub: Hub | None = None, log: Callable[[str], None] = print) -> Path:
    """Get YuNet, a detector of faces (0.2 MB, MIT), which is used from then on instead of the one of the package.

    Args:
        hub: where to get it; None: the Hugging Face hub.
        log: told about the licence, and where the file is.

    Returns:
        The file's path.

    Raises:
        AnyTalkerError: if the hub can't be reached or the file is damaged.
    """
    target = yunet_path()
    if target.is_file():
        log(f"YuNet is there already: {target}")
        return target
    hub = hub or Hub()
    file = _file_of(hub, YUNET, target.name)
    log(f"{YUNET}: licence {hub.license(YUNET)}")
    _fetch(Download(file, target), hub, target.parent / ".downloads")
    log(f"YuNet is in {target}; delete the file to go back to the detector of the package.")
    return target
