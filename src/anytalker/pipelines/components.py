"""Where a pipeline's parts come from and go to: a model's folder, one subfolder a part."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from anytalker.conditioning.audio_features import audio_features_from_pretrained
from anytalker.errors import InputError
from anytalker.pipelines.presets import PRESETS, SHARED, models_home
from anytalker.pipelines.release_folder import find_release, looks_like_release, release_loaders, release_settings
from anytalker.pipelines.settings import SETTINGS_FILE, PipelineSettings

PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "image_encoder", "scheduler", "audio_features")


def model_folder(model: str | Path) -> Path:
    """Folder of a model given by name or path.

    Raises:
        InputError: if there is no such model, or the folder is not one of a model.
    """
    if str(model) == "tiny":
        return Path(str(resources.files("anytalker.miniature") / "weights"))
    folder = models_home() / str(model) if str(model) in PRESETS else Path(model)
    if not folder.is_dir():
        if str(model) in PRESETS:
            raise InputError(f"The model {model} is not here yet. Get it with:  anytalker download {model}")
        raise InputError(
            f"There is no model {str(model)!r}; use 'tiny', which comes with the package, "
            f"{', '.join(PRESETS)}, or a model's folder."
        )
    if looks_like_release(folder):
        find_release(folder)
        return folder
    missing = [name for name in (SETTINGS_FILE, *PARTS) if not part_folder(folder, name).exists()]
    if missing:
        again = f" Finish it with:  anytalker download {model}" if str(model) in PRESETS else ""
        raise InputError(f"{folder} is not a complete model: it lacks {', '.join(missing)}.{again}")
    return folder


def part_folder(folder: Path, name: str) -> Path:
    """A part of a model: in the model's own folder, or among those that models share."""
    shared = folder.parent / SHARED / name
    return shared if not (folder / name).exists() and shared.exists() else folder / name


def model_settings(model: str | Path) -> PipelineSettings:
    """Sizes and defaults of a model, without loading it.

    Raises:
        InputError: if there is no such model, or its settings can't be read.
    """
    folder = model_folder(model)
    try:
        if (folder / SETTINGS_FILE).exists():
            return PipelineSettings.load(folder)
        return release_settings(folder) if looks_like_release(folder) else PipelineSettings()
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The settings of the model in {folder} can't be loaded: {error}") from error


def load_components(
    model: str | Path, torch_dtype: torch.dtype = torch.float32, names: Collection[str] = PARTS
) -> dict[str, Any]:
    """Load the parts of a model, ready for `AnyTalkerPipeline(**parts)`.

    Args:
        model: name or folder, see `model_folder`.
        torch_dtype: floating point type of the transformer and the text encoder, whatever they are stored in; the
            autoencoder and the encoders of pictures and voices are small and exact, in float32.
        names: which of `PARTS`; the settings come with them.

    Raises:
        InputError: if there is no such model, or a part can't be read.
    """
    folder, settings = model_folder(model), model_settings(model)
    try:
        loaders = release_loaders(folder, torch_dtype) if looks_like_release(folder) else _loaders(folder, torch_dtype)
        return {name: loaders[name]() for name in names} | {"settings": settings}
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The model in {folder} can't be loaded: {error}") from error


def _loaders(folder: Path, torch_dtype: torch.dtype) -> dict[str, Callable[[], Any]]:
    """For each part what loads it."""
    from diffusers import UniPCMultistepScheduler
    from transformers import AutoTokenizer, CLIPVisionModel, UMT5EncoderModel

    from anytalker.models.transformer import AnyTalkerTransformer3DModel

    place = {name: part_folder(folder, name) for name in PARTS}
    local: dict[str, Any] = {"local_files_only": True}
    weights = local | {"use_safetensors": True}
    return {
        "transformer": lambda: AnyTalkerTransformer3DModel.from_pretrained(
            place["transformer"], torch_dtype=torch_dtype, **weights
        ).eval(),
        "vae": lambda: (
            _autoencoder_class(place["vae"]).from_pretrained(place["vae"], torch_dtype=torch.float32, **weights).eval()
        ),
        "text_encoder": lambda: UMT5EncoderModel.from_pretrained(
            place["text_encoder"], dtype=torch_dtype, **weights
        ).eval(),
        "tokenizer": lambda: AutoTokenizer.from_pretrained(place["tokenizer"], **local),
        "image_encoder": lambda: CLIPVisionModel.from_pretrained(
            place["image_encoder"], dtype=torch.float32, **weights
        ).eval(),
        "scheduler": lambda: UniPCMultistepScheduler.from_pretrained(place["scheduler"], **local),
        "audio_features": lambda: audio_features_from_pretrained(place["audio_features"]),
    }


def _autoencoder_class(folder: Path) -> Any:
    name = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("_class_name")
    if name == "MiniatureAutoencoder":
        from anytalker.miniature.autoencoder import MiniatureAutoencoder

        return MiniatureAutoencoder
    if name == "AutoencoderKLWan":
        from diffusers import AutoencoderKLWan

        return AutoencoderKLWan
    raise InputError(f"{folder} holds a {name}; AnyTalker works with AutoencoderKLWan and MiniatureAutoencoder.")


def save_components(folder: Path, parts: dict[str, Any], settings: PipelineSettings) -> None:
    """Write every part into its subfolder and the settings last, so that a folder with settings is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PARTS:
        parts[name].save_pretrained(folder / name)
    settings.save(folder)
