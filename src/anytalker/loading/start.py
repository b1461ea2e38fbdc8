"""The model that stage 1 starts from, whole: Wan's transformer with new audio-face layers, and everything around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from anytalker.checkpoints.published import snapshot_of
from anytalker.checkpoints.tensors import INDEX_SUFFIX, WEIGHTS_NAME
from anytalker.checkpoints.wan import write_start
from anytalker.checkpoints.weight_files import check_whole
from anytalker.errors import InputError
from anytalker.loading.components import PARTS, copy_part, find_model, part_folder
from anytalker.loading.part_loaders import settings_of, transformer_config
from anytalker.models.settings import SETTINGS_FILE


def start_from_wan(wan: Path, like: str, folder: Path, seed: int = 0, log: Callable[[str], None] = print) -> None:
    """Write a complete model that stage 1 can start from; until it is trained, voices have no effect.

    Args:
        wan: a Wan image-to-video model as published, of Diffusers (its folder or the `transformer` in it) or the
            original's file or folder; or one of ours, which then forgets its voices.
        like: name or path of the AnyTalker model whose layout, sizes, encoders, autoencoder and defaults it shares.
        folder: for the model; the settings are written last, so that a folder which is not whole is never taken for a
            model.
        seed: of the new layers.
        log: receives lines of progress.

    Raises:
        InputError: if a model can't be read, the two are of different sizes, or the folder holds a model already.
    """
    if (folder / SETTINGS_FILE).exists():
        raise InputError(f"{folder} holds a model already; choose another folder, or remove it.")
    known = find_model(like)
    sizes = {name: value for name, value in transformer_config(known).items() if not name.startswith("_")}
    settings = settings_of(known)
    new = write_start(_transformer_in(wan), sizes, folder / "transformer", seed)
    log(f"Wan's transformer with {new} new tensors: {folder / 'transformer'}")
    for name in PARTS:
        if name == "transformer":
            continue
        source = known.parts.get(name)
        if source is not None and part_folder(folder, name) == source:
            continue
        copy_part(known, like, name, folder / name)
        log(f"{name} of {like}")
    replace(settings, name=folder.name, magnitude_ratios=()).save(folder)


def _transformer_in(wan: Path) -> Path:
    """What to read of a Wan model: of Diffusers' folder the transformer, of the original's its file or index."""
    folder = snapshot_of(wan)
    if (folder / "transformer").is_dir():
        return folder / "transformer"
    own = (folder / f"{WEIGHTS_NAME}{suffix}" for suffix in (INDEX_SUFFIX, ".safetensors"))
    path = next((path for path in own if path.is_file()), folder)
    if path != folder:
        check_whole(path)
    return path
