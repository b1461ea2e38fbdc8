"""The model that stage 1 starts from, whole: Wan's transformer with new audio-face layers, and everything around it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from anytalker.errors import InputError
from anytalker.models.transformer import AnyTalkerTransformer3DModel
from anytalker.models.wan import write_start
from anytalker.pipelines.components import PARTS, model_folder, part_folder
from anytalker.pipelines.settings import SETTINGS_FILE, PipelineSettings


def start_from_wan(wan: Path, like: str, folder: Path, seed: int = 0, log: Callable[[str], None] = print) -> None:
    """Write a model that videos can be made with and stage 1 can start from; at first it hears nothing.

    Args:
        wan: a Wan image-to-video model, of Diffusers (its folder or the `transformer` in it) or the original's file or
            folder; or one of ours, which then forgets its voices.
        like: name or folder of the AnyTalker model whose layout, sizes, encoders, autoencoder and defaults it shares.
        folder: for the model; the settings are written last, so that a folder which is not whole is never taken for a
            model.
        seed: of the new layers.
        log: receives lines of progress.

    Raises:
        InputError: if a model can't be read, the two are of different sizes, or the folder holds a model already.
    """
    if (folder / SETTINGS_FILE).exists():
        raise InputError(f"{folder} holds a model already; choose another folder, or remove it.")
    known = model_folder(like)
    transformer = part_folder(known, "transformer")
    if not (transformer / "config.json").is_file():
        raise InputError(
            f"{known} is in the release's own layout. Convert its checkpoint first (anytalker convert), or take the "
            "downloaded model (anytalker download)."
        )
    config = AnyTalkerTransformer3DModel.load_config(transformer)
    sizes = {name: value for name, value in config.items() if not name.startswith("_")}
    source = wan / "transformer" if (wan / "transformer").is_dir() else wan
    new = write_start(source, sizes, folder / "transformer", seed)
    log(f"Wan's transformer with {new} new tensors: {folder / 'transformer'}")
    for name in PARTS:
        if name != "transformer" and part_folder(folder, name) != part_folder(known, name):
            shutil.copytree(part_folder(known, name), folder / name, dirs_exist_ok=True)
            log(f"{name} of {like}")
    settings = PipelineSettings.load(known)
    replace(settings, name=folder.name, magnitude_ratios=()).save(folder)
