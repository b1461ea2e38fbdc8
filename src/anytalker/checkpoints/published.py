"""AnyTalker's published checkpoints: which file is one, and which configuration belongs to it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from anytalker.checkpoints.tensors import INDEX_SUFFIX, find_checkpoint
from anytalker.checkpoints.weight_files import Shape, check_whole, is_weights, tensor_shapes, unfinished_downloads
from anytalker.errors import InputError

CONFIG_PATTERN = "config_af2v_*.json"
SETTINGS_SUFFIX = ".anytalker.json"
"""Of the file beside a published checkpoint that holds settings other than its preset's."""
TEXT_ENCODER, IMAGE_ENCODER, AUTOENCODER = "models_t5_*", "models_clip_*", "Wan2.1_VAE.*"
_WAN = "Wan's transformer"
_KINDS = {
    "audio_emb.proj1.weight": "A",
    "audio_proj.proj1.weight": "B",
    "audio_embedder.proj1.weight": "a transformer of ours",
    "time_projection.1.weight": _WAN,
    "condition_embedder.time_proj.weight": _WAN,
    "token_embedding.weight": "Wan's text encoder",
    "visual.patch_embedding.weight": "Wan's image encoder",
    "encoder.conv1.weight": "Wan's video autoencoder",
}
"""Tensors that only one kind of model has, the telling ones first."""
_GENERIC = ("diffusion_pytorch_model*", "model*.safetensors", "pytorch_model*")
_FOREIGN_JSON = ("config.json", "configuration.json", "model_index.json", f"*{SETTINGS_SUFFIX}", "*.index.json")
_REPOSITORY = "models--"
_CONFIGS = {"1.3": "config_af2v_1_3B.json", "14": "config_af2v_14B.json"}


def size_in(name: str) -> str | None:
    """The size in a file's name, "1.3" or "14" (billion parameters); None if there is none.

    `1_3B-single-v1.pth`, `config_af2v_1_3B.json` and `Wan2.1-Fun-V1.1-1.3B-InP` are all of size 1.3.
    """
    found = re.search(r"(?<!\d)(14|1[._-]3)b(?![a-z])", name.lower())
    return re.sub(r"[_-]", ".", found[1]) if found else None


def kind_of(shapes: Mapping[str, Shape]) -> str:
    """What a file holds by its tensors: layout "A" or "B" of AnyTalker's, or something else in words; "" unknown."""
    return next((kind for key, kind in _KINDS.items() if key in shapes), "")


def class_in(folder: Path, file: str = "config.json") -> str:
    """The class that a folder in Diffusers' format names; "" if it names none."""
    try:
        return str(json.loads((folder / file).read_text(encoding="utf-8")).get("_class_name", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def snapshot_of(folder: Path) -> Path:
    """A repository's snapshot in the hub's cache, that of `main` or the newest; any other folder itself."""
    snapshots = folder / "snapshots"
    if not folder.name.startswith(_REPOSITORY) or not snapshots.is_dir():
        return folder
    with suppress(OSError):
        current = snapshots / (folder / "refs" / "main").read_text(encoding="utf-8").strip()
        if current != snapshots and current.is_dir():
            return current
    found = [path for path in snapshots.iterdir() if path.is_dir()]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=folder)


def title_of(folder: Path) -> str:
    """The name of a folder; of a snapshot in the hub's cache that of its repository."""
    return repository_of(folder).name.rpartition("--")[2]


def repository_of(folder: Path) -> Path:
    """The repository's folder in the hub's cache that a folder is in; any other folder itself."""
    return next((path for path in (folder, *folder.parents) if path.name.startswith(_REPOSITORY)), folder)


def folders_in(root: Path, depth: int = 2) -> Iterator[Path]:
    """A folder and those in it, so many deep, in order; hidden ones are left out, repositories of the hub opened."""
    folder = snapshot_of(root)
    yield folder
    if depth:
        with suppress(OSError):
            children = [Path(entry) for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != "."]
            for child in sorted(children):
                yield from folders_in(child, depth - 1)


def checkpoints_in(root: Path) -> list[Path]:
    """AnyTalker's checkpoints in a folder and its subfolders, complete or not."""
    return [path for folder in folders_in(root) for path in _checkpoints_of(folder)]


def _checkpoints_of(folder: Path) -> list[Path]:
    try:
        files = sorted(path for path in folder.iterdir() if is_weights(path))
    except OSError:
        return []
    configured = any(folder.glob(CONFIG_PATTERN))
    stems = [path.name.removesuffix(INDEX_SUFFIX) for path in files if path.name.endswith(INDEX_SUFFIX)]
    shards = [
        path for path in files for stem in stems if re.fullmatch(rf"{re.escape(stem)}-\d+.*\.safetensors", path.name)
    ]
    return [path for path in files if path not in shards and _may_be_ours(path, configured)]


def _may_be_ours(path: Path, configured: bool) -> bool:
    others = (TEXT_ENCODER, IMAGE_ENCODER, AUTOENCODER)
    if any(fnmatch(path.name, pattern) for pattern in others) or not (configured or size_in(path.name)):
        return False
    try:
        kind = kind_of(tensor_shapes(path))
    except (InputError, OSError):  # what is wrong with it is said when it is taken
        kind = ""
    return kind in ("A", "B") or (not kind and not any(fnmatch(path.name, pattern) for pattern in _GENERIC))


def choose_checkpoint(given: Path) -> Path:
    """The checkpoint that a path names: a file itself, of a folder the only one in it.

    Raises:
        InputError: if there is none, or several, naming them.
    """
    if not given.is_dir():
        return find_checkpoint(given)
    found = checkpoints_in(given)
    if not found:
        return find_checkpoint(given)
    if len(found) > 1:
        raise InputError(f"{given} holds several checkpoints of AnyTalker's; give one of: {listed(found, given)}.")
    return found[0]


def listed(checkpoints: Sequence[Path], given: Path) -> str:
    """Checkpoints as paths to give, and what they lack."""
    names = []
    for path in checkpoints:
        try:
            config_of(path)
            names.append(str(path))
        except InputError:
            names.append(f"{path} (which lacks its {_CONFIGS.get(size_in(path.name) or '', CONFIG_PATTERN)})")
    return ", ".join(names)


def config_of(checkpoint: Path) -> Path:
    """The configuration beside a checkpoint: by its name, else by its size, else the one that fits its tensors.

    Raises:
        InputError: if there is none, or several fit.
    """
    own = checkpoint.with_suffix(".json")
    if own.is_file() and not any(fnmatch(own.name, pattern) for pattern in _FOREIGN_JSON):
        return own
    found = sorted(checkpoint.parent.glob(CONFIG_PATTERN))
    known = bool(found)
    if not known:
        others = sorted(checkpoint.parent.glob("*.json"))
        found = [path for path in others if not any(fnmatch(path.name, pattern) for pattern in _FOREIGN_JSON)]
    size = size_in(checkpoint.name)
    fitting = [path for path in found if size and size_in(path.name) == size]
    if not fitting:
        fitting = [path for path in found if size is None or size_in(path.name) is None]
    if len(fitting) > 1:
        fitting = [path for path in fitting if _fits(checkpoint, path)] or fitting
    if len(fitting) != 1:
        names = ", ".join(path.name for path in fitting or found) or "none"
        raise InputError(
            f"{checkpoint} needs its configuration ({_CONFIGS.get(size or '', CONFIG_PATTERN)}) in the same folder; "
            f"beside it there is {names}.{unfinished_downloads(checkpoint.parent)}"
        )
    return fitting[0]


def _fits(checkpoint: Path, config: Path) -> bool:
    try:
        check_pair(checkpoint, config)
    except InputError:
        return False
    return True


def read_config(config: Path) -> Mapping[str, Any]:
    """A configuration of the release's.

    Raises:
        InputError: if there is none, or it is not JSON.
    """
    if not config.is_file():
        raise InputError(f"There is no configuration {config}. Check the path.")
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"The configuration {config} is not JSON ({error}).") from error
    if not isinstance(values, dict):
        raise InputError(f"The configuration {config} is no JSON object.")
    return values


def check_pair(checkpoint: Path, config: Path) -> None:
    """Make sure, without reading the weights, that a file is a whole checkpoint of AnyTalker's, of this configuration.

    Raises:
        InputError: saying what else it is, or what of the two doesn't fit.
    """
    values = read_config(config)
    check_whole(checkpoint)
    shapes = tensor_shapes(checkpoint)
    if not shapes:
        return
    check_kind(checkpoint, shapes)
    from anytalker.models.release_names import model_config

    model_config(shapes, values)
    patches = shapes.get("patch_embedding.weight", (values["dim"],))
    blocks = len({key.split(".")[1] for key in shapes if key.startswith("blocks.")})
    for what, said, there in (("wide", values["dim"], patches[0]), ("blocks deep", values["num_layers"], blocks)):
        if said != there:
            raise InputError(
                f"{config} is not the configuration of {checkpoint}: by it the model is {said} {what}, by its tensors "
                f"{there}. Take the configuration that was published with the checkpoint."
            )


def check_kind(path: Path, shapes: Mapping[str, Shape]) -> None:
    """Refuse a file that is not an AnyTalker checkpoint; the error names what it is and what to do."""
    kind = kind_of(shapes)
    if kind == _WAN:
        raise InputError(plain_wan(path))
    if kind not in ("", "A", "B"):
        raise InputError(f"{path} is {kind}, not AnyTalker's checkpoint (such as 1_3B-single-v1.pth).")


def plain_wan(path: Path) -> str:
    """The error message for a Wan model that was given as an AnyTalker model."""
    return (
        f"{path} is a plain Wan model: it has no layers for voices and faces. Get AnyTalker's checkpoint (repository "
        f"zzz66/AnyTalker-1.3B, or: anytalker download 1.3b), or train from it:  anytalker train start {path} FOLDER"
    )
