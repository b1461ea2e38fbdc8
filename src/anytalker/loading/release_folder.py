"""The parts of a published model: AnyTalker's checkpoint, and the Wan model and wav2vec2 beside it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from anytalker.checkpoints.published import (
    AUTOENCODER,
    CONFIG_PATTERN,
    IMAGE_ENCODER,
    SETTINGS_SUFFIX,
    TEXT_ENCODER,
    check_pair,
    checkpoints_in,
    choose_checkpoint,
    class_in,
    config_of,
    folders_in,
    kind_of,
    plain_wan,
    read_config,
    repository_of,
    size_in,
    title_of,
)
from anytalker.checkpoints.tensors import TORCH_SUFFIXES
from anytalker.checkpoints.weight_files import (
    INDEX_SUFFIX,
    check_whole,
    is_weights,
    tensor_shapes,
    unfinished_downloads,
)
from anytalker.errors import InputError
from anytalker.loading.found import FoundModel
from anytalker.models.settings import SETTINGS_FILE

_WAN_FILES = {
    "text_encoder": (TEXT_ENCODER, "the text encoder (models_t5_umt5-xxl-enc-bf16.pth, of the Wan model)"),
    "image_encoder": (
        IMAGE_ENCODER,
        "the image encoder (models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth, of the Wan model)",
    ),
    "vae": (AUTOENCODER, "the video autoencoder (Wan2.1_VAE.pth, of the Wan model)"),
}
_TOKENIZER = "the tokenizer (google/umt5-xxl/ with tokenizer_config.json, of the Wan model)"
_AUDIO = "the audio encoder (wav2vec2-base-960h/, of facebook/wav2vec2-base-960h)"
_USUAL_AUDIO = "wav2vec2-base-960h"
_VOCABULARIES = ("tokenizer.json", "spiece.model")


def looks_published(folder: Path) -> bool:
    """Whether a folder holds a published checkpoint of AnyTalker's or its configuration, up to two folders deep."""
    return any(any(place.glob(CONFIG_PATTERN)) for place in folders_in(folder)) or bool(checkpoints_in(folder))


def find_release(given: Path) -> FoundModel:
    """Find the parts of a published model.

    The encoders and the autoencoder are looked for beside the checkpoint and in the folders there, then in the folder
    that was given, then in the folders beside the checkpoint's, each up to two folders deep; for a snapshot in the
    hub's cache in the other repositories' snapshots. They are Wan's own files, or the subfolders of a Wan pipeline in
    Diffusers' format. All Wan 2.1 models share them: of several files of the same size the first is taken, one that
    lies with a Wan model of the checkpoint's size before others.

    Args:
        given: a checkpoint, or a folder with only one of them in it.

    Raises:
        InputError: naming what is missing or damaged, or what there is more than one of.
    """
    if given.is_dir() and not checkpoints_in(given):
        raise InputError(_lacks_checkpoint(given))
    checkpoint = choose_checkpoint(given)
    config = config_of(checkpoint)
    check_pair(checkpoint, config)
    places = _places(checkpoint, given)
    size = size_in(checkpoint.name)
    parts = {"transformer": checkpoint}
    for name, (pattern, what) in _WAN_FILES.items():
        parts[name] = _one(what, places, _wan_part(name, pattern), size, checkpoint)
    parts["tokenizer"] = _one(_TOKENIZER, places, _tokenizers, size, checkpoint)
    parts["audio_features"] = _one(_AUDIO, places, _audio_encoders, None, checkpoint)
    for name in _WAN_FILES:
        check_part(name, parts[name])
    check_part("tokenizer", parts["tokenizer"])
    check_audio_encoder(parts["audio_features"], int(read_config(config).get("audio_channels", 768)))
    settings = checkpoint.with_name(_stem(checkpoint) + SETTINGS_SUFFIX)
    return FoundModel(checkpoint, parts, config, settings)


def _stem(checkpoint: Path) -> str:
    return checkpoint.name.removesuffix(INDEX_SUFFIX) if checkpoint.name.endswith(INDEX_SUFFIX) else checkpoint.stem


def _lacks_checkpoint(given: Path) -> str:
    configs = [path for folder in folders_in(given) for path in sorted(folder.glob(CONFIG_PATTERN))]
    folder = configs[0].parent if configs else given
    names = ", ".join(path.name for path in configs) or "no configuration of AnyTalker's either"
    return (
        f"{given} is not a complete model: it lacks AnyTalker's checkpoint (such as 1_3B-single-v1.pth or "
        f"14B-multi-v1.pth, of zzz66/AnyTalker-1.3B); there is {names}.{unfinished_downloads(folder)}"
    )


def _places(checkpoint: Path, given: Path) -> list[list[Path]]:
    """Folders to look for parts in, the nearest first."""
    own = checkpoint.parent
    beside = repository_of(Path(os.path.abspath(own))).parent
    if not own.is_absolute():  # as it was given, so that messages name what the user knows
        beside = Path(os.path.relpath(beside))
    levels = [own, *([given] if given.is_dir() else []), beside]
    return [list(folders_in(level)) for level in dict.fromkeys(levels)]


def _one(
    what: str, places: list[list[Path]], find: Callable[[Path], list[Path]], size: str | None, checkpoint: Path
) -> Path:
    """The part that lies nearest; of several alike the one with the Wan model of that size, or the first."""
    for level in places:
        found = list(dict.fromkeys(path for folder in level for path in find(folder)))
        original = [path for path in found if path.is_file() or path.name not in _WAN_FILES]
        found = original or found
        usual = [path for path in found if title_of(path) == _USUAL_AUDIO] or found
        usual.sort(key=lambda path: not (size and any(size_in(title_of(one)) == size for one in path.parents[:4])))
        if len({_bulk(path) for path in usual}) > 1:
            for path in usual:
                if path.is_file():
                    check_whole(path)
            names = ", ".join(str(path) for path in usual)
            raise InputError(f"There are several candidates for {what}, of different sizes: {names}. Keep one.")
        if usual:
            return usual[0]
    hints = (unfinished_downloads(folder) for level in places for folder in level)
    raise InputError(
        f"The model of {checkpoint} is not complete: it lacks {what}, which is neither in {checkpoint.parent} nor in a "
        f"folder beside it.{next((hint for hint in hints if hint), '')}"
    )


def _bulk(path: Path) -> int:
    """The size of a part in bytes: of a file, or of what is large in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.iterdir() if is_weights(file) or file.name in _VOCABULARIES)


def _wan_part(name: str, pattern: str) -> Callable[[Path], list[Path]]:
    def find(folder: Path) -> list[Path]:
        files = [path for path in sorted(folder.glob(pattern)) if is_weights(path)]
        return files + ([folder / name] if _is_diffusers_base(folder) and (folder / name).is_dir() else [])

    return find


def _tokenizers(folder: Path) -> list[Path]:
    own = [folder] if folder.name == "umt5-xxl" else []
    found = [path for path in (*own, folder / "google" / "umt5-xxl") if path.is_dir()]
    return found + ([folder / "tokenizer"] if _is_diffusers_base(folder) and (folder / "tokenizer").is_dir() else [])


def _audio_encoders(folder: Path) -> list[Path]:
    return [folder] if title_of(folder).startswith("wav2vec2") else []


def _is_diffusers_base(folder: Path) -> bool:
    """Whether a folder is a Wan pipeline in Diffusers' format, and not a model of ours."""
    return not (folder / SETTINGS_FILE).exists() and class_in(folder / "vae") == "AutoencoderKLWan"


_WEIGHTS = ("model.safetensors", "diffusion_pytorch_model.safetensors")
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")
_TELLING = {"text_encoder": "Wan's text encoder", "image_encoder": "Wan's image encoder"}


def check_part(name: str, path: Path) -> None:
    """Make sure, without reading the weights, that a part is whole and what its name says.

    Args:
        name: one of `PARTS`, but the audio features, see `check_audio_encoder`.
        path: a file of Wan's, or a folder in Diffusers' or transformers' format.

    Raises:
        InputError: naming what is missing or damaged.
    """
    if name == "tokenizer":
        return _check_tokenizer(path)
    if name == "scheduler":
        _read_json(path / "scheduler_config.json")
        return
    if path.is_dir():
        return _check_weights_folder(path)
    check_whole(path)
    shapes = tensor_shapes(path) if path.suffix in (".safetensors", *TORCH_SUFFIXES) else {}
    if shapes and kind_of(shapes) != _TELLING.get(name, "Wan's video autoencoder"):
        some = next(iter(shapes))
        raise InputError(
            f"{path} is not the file that its name says (it has tensors such as {some}); download it again."
        )


def _check_tokenizer(folder: Path) -> None:
    values = _read_json(folder / "tokenizer_config.json")
    vocabularies = [folder / name for name in _VOCABULARIES if (folder / name).is_file()]
    if not vocabularies and values.get("tokenizer_class") != "ByT5Tokenizer":
        raise InputError(
            f"{folder} is not complete: it lacks {' and '.join(_VOCABULARIES)}.{unfinished_downloads(folder)}"
        )
    for path in vocabularies:
        if path.stat().st_size < 200:  # a pointer of Git LFS is as short
            raise InputError(f"{path} is cut off, or a pointer that Git LFS left in its place; download it again.")


def _check_weights_folder(folder: Path) -> None:
    _read_json(folder / "config.json")
    indexes = sorted(folder.glob(f"*{INDEX_SUFFIX}"))
    files = indexes or sorted(folder.glob("*.safetensors"))
    if not files:
        other = " (pytorch_model.bin is not read)" if any(folder.glob("*.bin")) else ""
        raise InputError(
            f"{folder} is not complete: it lacks its weights, {' or '.join(_WEIGHTS)}"
            f"{other}.{unfinished_downloads(folder)}"
        )
    if not indexes:
        _check_names(folder, [path.name for path in files])
    for path in files:
        check_whole(path)


def _check_names(folder: Path, names: Sequence[str]) -> None:
    """Make sure that weights without an index have a name by which libraries find them."""
    if set(names) & set(_WEIGHTS):
        return
    index, shards = _SHARD.subn(INDEX_SUFFIX, names[0])
    if shards:
        raise InputError(
            f"{folder} is not complete: it lacks the index of {names[0]} ({index}); download it "
            f"again.{unfinished_downloads(folder)}"
        )
    raise InputError(f"{folder} has {names[0]}, but its weights must be called {' or '.join(_WEIGHTS)}; rename it.")


def check_audio_encoder(folder: Path, width: int | None = None) -> None:
    """Make sure that a folder holds log-mel settings or a whole wav2vec2, of a width if one is given.

    Raises:
        InputError: naming what is missing or does not fit.
    """
    values = _read_json(folder / "config.json")
    if values.get("type") == "log_mel":
        return
    if values.get("model_type") != "wav2vec2":
        raise InputError(f"{folder / 'config.json'} describes no wav2vec2 model; AnyTalker needs {_USUAL_AUDIO}.")
    if width is not None and values.get("hidden_size", 768) != width:
        raise InputError(
            f"{folder} is another wav2vec2 than the model was trained with: it is {values.get('hidden_size')} wide "
            f"instead of {width}. Get {_USUAL_AUDIO}."
        )
    _check_weights_folder(folder)


def _read_json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise InputError(
            f"{path.parent} is not complete: it lacks {path.name}; download it again."
            f"{unfinished_downloads(path.parent)}"
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise InputError(f"{path} is no JSON file ({error}); download it again.") from error
    return values if isinstance(values, dict) else {}


def refuse_plain_wan(folder: Path) -> None:
    """Refuse a Wan model without AnyTalker's layers, of Diffusers or the original, saying what it is.

    Raises:
        InputError: if it is one.
    """
    kind = class_in(folder / "transformer") or class_in(folder)
    original = any(any(place.glob(TEXT_ENCODER)) or any(place.glob(AUTOENCODER)) for place in folders_in(folder, 1))
    if kind.startswith("Wan") or original:
        raise InputError(plain_wan(folder))
