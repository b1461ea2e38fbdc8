"""From what a user names to a model: a preset, a folder of ours or of Diffusers, or a published checkpoint."""

from __future__ import annotations

import difflib
import os
from importlib import resources
from pathlib import Path

from anytalker.checkpoints.published import check_kind, checkpoints_in, class_in, folders_in, listed, snapshot_of
from anytalker.checkpoints.weight_files import check_whole, is_weights, tensor_shapes
from anytalker.errors import InputError
from anytalker.loading.found import PARTS, FoundModel
from anytalker.loading.presets import PRESETS, SHARED, models_home
from anytalker.loading.release_folder import (
    check_audio_encoder,
    check_part,
    find_release,
    looks_published,
    refuse_plain_wan,
)
from anytalker.models.settings import SETTINGS_FILE

TINY = "tiny"
_OURS = "AnyTalkerTransformer3DModel"


def find_model(model: str | Path) -> FoundModel:
    """A model by its name or path, complete as far as can be known without reading its weights.

    Args:
        model: "tiny", a preset that was downloaded, a folder of ours or of a pipeline in Diffusers' format with
            AnyTalker's transformer, a published checkpoint, or a folder with one of these; see docs/models.md.

    Raises:
        InputError: if there is no such model, it is something else, or it lacks something or is damaged; several in a
            folder are named.
    """
    if str(model) == TINY:
        folder = Path(str(resources.files("anytalker.miniature") / "weights"))
        return FoundModel(folder, {name: folder / name for name in PARTS}, None, folder / SETTINGS_FILE)
    path = models_home() / str(model) if str(model) in PRESETS else Path(model)
    if path.is_file():
        return _of_file(path)
    if not path.is_dir():
        raise InputError(_no_model(str(model)))
    folder = snapshot_of(path)
    if str(model) in PRESETS or (folder / SETTINGS_FILE).exists() or class_in(folder / "transformer") == _OURS:
        return _of_folder(folder, str(model))
    if looks_published(path):
        return find_release(path)
    refuse_plain_wan(folder)
    raise InputError(_no_model_in(folder))


def _of_file(path: Path) -> FoundModel:
    if not is_weights(path):
        others = checkpoints_in(path.parent)
        instead = f" Beside it there is {listed(others, path.parent)}." if others else ""
        raise InputError(f"{path} is no model: give a checkpoint (.pth or .safetensors) or a model's folder.{instead}")
    check_whole(path)
    if class_in(path.parent) == _OURS:
        raise InputError(f"{path} is a part of a model; give the model's folder, {path.parent.parent}.")
    check_kind(path, tensor_shapes(path))
    return find_release(path)


def _of_folder(folder: Path, name: str) -> FoundModel:
    """A model of ours, or a pipeline in Diffusers' format that holds AnyTalker's transformer."""
    parts = {part: part_folder(folder, part) for part in PARTS}
    wanted, settled = set(PARTS), (folder / SETTINGS_FILE).exists()
    # Settings are written last: without them or Diffusers' index, a folder is one that was never finished.
    diffusers = not settled and name not in PRESETS and (folder / "model_index.json").exists()
    if diffusers:
        wanted.discard("scheduler")  # every preset knows its own
        if not parts["audio_features"].exists():
            parts["audio_features"] = _audio_beside(folder) or parts["audio_features"]
    missing = [part for part in PARTS if part in wanted and not parts[part].exists()]
    if not settled and not diffusers:
        missing.insert(0, SETTINGS_FILE)
    if missing:
        again = f" Finish it with:  anytalker download {name}" if name in PRESETS else ""
        raise InputError(f"{folder} is not a complete model: it lacks {', '.join(missing)}.{again}")
    for part in ("transformer", "vae", "text_encoder", "tokenizer", "image_encoder", "scheduler"):
        if part in wanted:
            check_part(part, parts[part])
    check_audio_encoder(parts["audio_features"])
    present = {part: path for part, path in parts.items() if path.exists()}
    return FoundModel(folder, present, None, folder / SETTINGS_FILE)


def part_folder(folder: Path, name: str) -> Path:
    """A part of a model: in the model's own folder, or among those that models share."""
    shared = folder.parent / SHARED / name
    return shared if not (folder / name).exists() and shared.exists() else folder / name


def _audio_beside(folder: Path) -> Path | None:
    """wav2vec2 in a pipeline's folder or beside it; none of Diffusers' pipelines has a place for it."""
    for root in (folder, folder.parent):
        found = sorted(path for path in folders_in(root, 1) if path.name.startswith("wav2vec2"))
        if found:
            return found[0]
    return None


def _no_model(name: str) -> str:
    known = (TINY, *PRESETS)
    if name in PRESETS:
        return f"The model {name} is not here yet. Get it with:  anytalker download {name}"
    if near := difflib.get_close_matches(name.lower(), known, 1, 0.6):
        return f"There is no model {name!r}; did you mean {near[0]!r}?"
    path = Path(name)
    places = checkpoints_in(path.parent) if os.sep in name and path.parent.is_dir() else []
    beside = f" In {path.parent} there is {listed(places, path.parent)}." if places else ""
    return (
        f"There is no model {name!r}; use 'tiny', which comes with the package, {', '.join(PRESETS)}, a model's "
        f"folder, or a published checkpoint.{beside}"
    )


def _no_model_in(folder: Path) -> str:
    if class_in(folder) == _OURS:
        return f"{folder} is a part of a model; give the model's folder, {folder.parent}."
    models = [str(path) for path in folders_in(folder, 1) if (path / SETTINGS_FILE).exists()]
    if models:
        return f"{folder} holds models; give one of: {', '.join(models)}."
    kind = class_in(folder, "model_index.json") or class_in(folder)
    what = f"it holds a {kind}" if kind else f"it has neither {SETTINGS_FILE} nor a checkpoint of AnyTalker's"
    return f"{folder} is not a complete model: {what}. Give a model's folder, or a published checkpoint beside Wan's."
