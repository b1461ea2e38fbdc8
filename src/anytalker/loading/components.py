"""Loading and saving a pipeline's components: a model by its name or path, in any layout."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from anytalker.errors import InputError
from anytalker.loading.found import PARTS, FoundModel
from anytalker.loading.locate import find_model, part_folder
from anytalker.loading.part_loaders import loaders, settings_of
from anytalker.models.settings import PipelineSettings

__all__ = ["PARTS", "find_model", "load_components", "model_folder", "model_settings", "part_folder", "save_components"]


def model_folder(model: str | Path) -> Path:
    """Folder of a model given by name or path; of a published checkpoint the folder that it is in.

    Raises:
        InputError: see `find_model`.
    """
    return find_model(model).folder


def model_settings(model: str | Path) -> PipelineSettings:
    """Sizes and defaults of a model, without loading it.

    Raises:
        InputError: if there is no such model, or its settings can't be read.
    """
    found = find_model(model)
    try:
        return settings_of(found)
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The settings of the model in {found.path} can't be loaded: {error}") from error


def load_components(
    model: str | Path,
    torch_dtype: torch.dtype | None = torch.float32,
    names: Collection[str] = PARTS,
    quantization_config: Any = None,
) -> dict[str, Any]:
    """Load the parts of a model, ready for `AnyTalkerPipeline(**parts)`.

    Args:
        model: name or path, see `find_model`.
        torch_dtype: floating point type of the transformer and the text encoder, whatever they are stored in; the
            autoencoder and the encoders of pictures and voices are small and exact, in float32. None: as they are
            stored.
        names: which of `PARTS`; the settings come with them.
        quantization_config: of diffusers, for the transformer and the text encoder, see `PipelineQuantizationConfig`.

    Raises:
        InputError: if there is no such model, or a part can't be read.
    """
    found, settings = find_model(model), model_settings(model)
    try:
        load = loaders(found, torch_dtype, quantization_config)
        return {name: load[name]() for name in names} | {"settings": settings}
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The model in {found.path} can't be loaded: {error}") from error


def save_components(folder: Path, parts: dict[str, Any], settings: PipelineSettings) -> None:
    """Write every part into its subfolder and the settings last, so that a folder with settings is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PARTS:
        parts[name].save_pretrained(folder / name)
    settings.save(folder)


def copy_part(known: FoundModel, source: str | Path, name: str, folder: Path) -> None:
    """Write a part of a model into a folder as it is stored; what is a file of Wan's is written as ours are."""
    path = known.parts.get(name)
    if path is not None and path.is_dir() and (name != "scheduler" or known.settings.exists()):
        shutil.copytree(path, folder, dirs_exist_ok=True)
    else:
        load_components(source, None, [name])[name].save_pretrained(folder)
