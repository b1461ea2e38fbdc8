"""For each part of a model, wherever and in whatever format it was found, what loads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from anytalker.checkpoints.published import read_config
from anytalker.checkpoints.tensors import Checkpoint
from anytalker.checkpoints.wan_parts import (
    autoencoder_sizes,
    clip_from_wan,
    clip_image_size,
    load_wan_file,
    t5_from_wan,
    vae_from_wan,
)
from anytalker.checkpoints.weight_files import tensor_shapes
from anytalker.conditioning.audio_features import audio_features_from_pretrained
from anytalker.errors import InputError
from anytalker.loading.found import FoundModel
from anytalker.loading.presets import PRESETS, preset_for
from anytalker.loading.scheduler import make_scheduler
from anytalker.models.conversion import from_release
from anytalker.models.precision import cast_transformer
from anytalker.models.release_names import model_config
from anytalker.models.settings import PipelineSettings
from anytalker.models.transformer import AnyTalkerTransformer3DModel

_LOCAL: dict[str, Any] = {"local_files_only": True}
_WEIGHTS: dict[str, Any] = _LOCAL | {"use_safetensors": True}


def loaders(
    found: FoundModel, torch_dtype: torch.dtype | None, quantization: Any = None
) -> dict[str, Callable[[], Any]]:
    """For each part what loads it.

    Args:
        found: the model.
        torch_dtype: of the transformer and the text encoder; None: as they are stored.
        quantization: a `PipelineQuantizationConfig` of diffusers for these two, or what it holds for the transformer.
    """
    from transformers import AutoTokenizer

    parts = found.parts
    return {
        "transformer": lambda: _transformer(found, torch_dtype, _quantized(quantization, "transformer")),
        "vae": lambda: _autoencoder(parts["vae"]),
        "text_encoder": lambda: _text_encoder(
            parts["text_encoder"], torch_dtype, _quantized(quantization, "text_encoder")
        ),
        "tokenizer": lambda: AutoTokenizer.from_pretrained(parts["tokenizer"], **_LOCAL),
        "image_encoder": lambda: _image_encoder(parts["image_encoder"]),
        "scheduler": lambda: _scheduler(found),
        "audio_features": lambda: audio_features_from_pretrained(parts["audio_features"]),
    }


def transformer_config(found: FoundModel) -> dict[str, Any]:
    """The configuration of a model's transformer, without loading it.

    Raises:
        InputError: if it lacks something.
    """
    path = found.parts["transformer"]
    if found.config is not None:
        with Checkpoint(path) as checkpoint:
            return model_config(checkpoint.shapes, read_config(found.config))
    return dict(AnyTalkerTransformer3DModel.load_config(path, **_LOCAL))


def autoencoder_config(found: FoundModel) -> dict[str, Any]:
    """The configuration of a model's autoencoder as Diffusers writes it, without loading it."""
    path = found.parts["vae"]
    if path.is_dir():
        return dict(json.loads((path / "config.json").read_text(encoding="utf-8")))
    sizes = autoencoder_sizes(tensor_shapes(path)) if tensor_shapes(path) else {}
    return {"_class_name": "AutoencoderKLWan"} | sizes


def settings_of(found: FoundModel) -> PipelineSettings:
    """Sizes and defaults of a model: its own, else those of the preset that it is like.

    Raises:
        InputError: for a key that is not a setting.
        OSError, ValueError: if the file can't be read, or is not JSON.
    """
    if found.settings.exists():
        return PipelineSettings.from_dict(json.loads(found.settings.read_text(encoding="utf-8-sig")))
    config = transformer_config(found)
    width = config.get("num_attention_heads", 12) * config.get("attention_head_dim", 128)
    preset = preset_for(width, config.get("audio_face_layout", "A"))
    return replace(
        PRESETS[preset].settings,
        name=found.path.name.partition(".")[0] if found.config else found.path.name,
        text_len=config.get("text_len", 512),
        image_size=_image_size(found.parts["image_encoder"]),
    )


def _image_size(path: Path) -> int:
    if path.is_dir():
        return int(json.loads((path / "config.json").read_text(encoding="utf-8")).get("image_size", 224))
    shapes = tensor_shapes(path)
    return clip_image_size(shapes) if shapes else PipelineSettings.image_size


def _quantized(quantization: Any, name: str) -> Any:
    """Settings of diffusers or transformers for a component; None: it is kept as it is."""
    if not hasattr(quantization, "_resolve_quant_config"):
        return quantization if name == "transformer" else None
    return quantization._resolve_quant_config(is_diffusers=name == "transformer", module_name=name)


def _check_unquantized(quantization: Any, path: Path) -> None:
    if quantization is not None:
        raise InputError(f"{path} can't be quantized while it is loaded; convert it first:  anytalker convert")


def _prepare_quantization(quantization: Any) -> None:
    """Keep the layer whole whose weights are used without calling it, and refuse what can't be done here."""
    method = str(getattr(getattr(quantization, "quant_method", None), "value", ""))
    if method.startswith("bitsandbytes") and not (torch.cuda.is_available() or torch.xpu.is_available()):
        raise InputError("bitsandbytes quantizes on a GPU, and there is none; use TorchAoConfig, or a .gguf file.")
    if method == "gguf":
        raise InputError(
            "GGUF is quantized already; give transformer=AnyTalkerTransformer3DModel.from_single_file('….gguf', …)."
        )
    for name in ("modules_to_not_convert", "llm_int8_skip_modules"):
        if hasattr(quantization, name):
            setattr(quantization, name, [*(getattr(quantization, name) or ()), "attn_people.to_out"])


def _transformer(found: FoundModel, torch_dtype: torch.dtype | None, quantization: Any = None) -> Any:
    path = found.parts["transformer"]
    if found.config is None:
        if quantization is not None:
            _prepare_quantization(quantization)
        options = {"quantization_config": quantization} if quantization is not None else {}
        return AnyTalkerTransformer3DModel.from_pretrained(path, torch_dtype=torch_dtype, **options, **_WEIGHTS).eval()
    _check_unquantized(quantization, path)
    with Checkpoint(path) as tensors:
        model = from_release(dict(tensors), read_config(found.config))
        return model if torch_dtype is None else cast_transformer(model, torch_dtype)


def _autoencoder(path: Path) -> Any:
    if path.is_file():
        return _cast(load_wan_file(path, vae_from_wan), torch.float32)
    return _autoencoder_class(path).from_pretrained(path, torch_dtype=torch.float32, **_WEIGHTS).eval()


def _text_encoder(path: Path, torch_dtype: torch.dtype | None, quantization: Any = None) -> Any:
    from transformers import UMT5EncoderModel

    if path.is_file():
        _check_unquantized(quantization, path)
        return _cast(load_wan_file(path, t5_from_wan), torch_dtype)
    options = {"quantization_config": quantization} if quantization is not None else {}
    return UMT5EncoderModel.from_pretrained(path, dtype=torch_dtype or "auto", **options, **_WEIGHTS).eval()


def _image_encoder(path: Path) -> Any:
    from transformers import CLIPVisionModel

    if path.is_file():
        return _cast(load_wan_file(path, clip_from_wan), torch.float32)
    return CLIPVisionModel.from_pretrained(path, dtype=torch.float32, **_WEIGHTS).eval()


def _scheduler(found: FoundModel) -> Any:
    import diffusers

    path = found.parts.get("scheduler")
    # Without settings of ours the scheduler is that of a plain Wan pipeline, if there is one at all.
    if path is None or not found.settings.exists():
        return make_scheduler(settings_of(found).shift)
    name = json.loads((path / "scheduler_config.json").read_text(encoding="utf-8")).get("_class_name", "")
    known = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    return (known or diffusers.UniPCMultistepScheduler).from_pretrained(path, **_LOCAL)


def _cast(module: torch.nn.Module, torch_dtype: torch.dtype | None) -> torch.nn.Module:
    """The module with parameters of that type; None: as they are."""
    return module if torch_dtype is None else module.to(torch_dtype)


def _autoencoder_class(folder: Path) -> Any:
    name = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("_class_name")
    if name == "MiniatureAutoencoder":
        from anytalker.models.autoencoder import MiniatureAutoencoder

        return MiniatureAutoencoder
    if name == "AutoencoderKLWan":
        from diffusers import AutoencoderKLWan

        return AutoencoderKLWan
    raise InputError(f"{folder} holds a {name}; AnyTalker works with AutoencoderKLWan and MiniatureAutoencoder.")
