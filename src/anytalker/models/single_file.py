"""A transformer from one file, of llama.cpp's format GGUF or safetensors, with its own names of tensors or ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from accelerate.utils import set_module_tensor_to_device
from safetensors import SafetensorError
from safetensors.torch import load_file

from anytalker.errors import InputError
from anytalker.models.precision import stays_float32
from anytalker.models.release_names import Names, Shape, check_tensors, model_config, problems_of

_RELEASES = "blocks.0.self_attn.q.weight"


def load_single_file(
    kind: Any,
    path: str | Path,
    config: str | Path | Mapping[str, Any] | None = None,
    quantization_config: Any = None,
    torch_dtype: torch.dtype | None = None,
) -> Any:
    """A transformer from one file; see `AnyTalkerTransformer3DModel.from_single_file`.

    Args:
        kind: `AnyTalkerTransformer3DModel`.
        path: the file, `.gguf` or `.safetensors`.
        config: the configuration or its file or folder; None: `config.json` beside the file.
        quantization_config: `GGUFQuantizationConfig` of diffusers, for `.gguf` alone.
        torch_dtype: type of what is not quantized; None: that in which diffusers' configuration computes.

    Raises:
        InputError: if the file or the configuration can't be read, or they don't go together.
    """
    path = Path(path)
    known = _config(path, config)
    is_gguf = path.suffix == ".gguf"
    if quantization_config is not None and not is_gguf:
        raise InputError(f"{path} is not quantized; quantization_config is for a .gguf file. Leave it out.")
    if is_gguf:
        from diffusers import GGUFQuantizationConfig

        quantization_config = quantization_config or GGUFQuantizationConfig(compute_dtype=torch_dtype)
        if not isinstance(quantization_config, GGUFQuantizationConfig):
            raise InputError(f"{path} is quantized already; use GGUFQuantizationConfig, or leave it out.")
    tensors = _tensors(path)
    shapes = {name: _shape(tensor) for name, tensor in tensors.items()}
    values = model_config(shapes, known) if "dim" in known else known
    with init_empty_weights():
        model: Any = kind.from_config(dict(values))
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if _RELEASES in tensors:
        names = Names(model.config.audio_face_layout)
        check_tensors(shapes, wanted, names)
        tensors = {str(names.ours(name)): tensor for name, tensor in tensors.items()}
    elif problems := problems_of(shapes, wanted):
        raise InputError(f"{path} doesn't fit its configuration: tensors {problems}.")
    if is_gguf:
        return _quantized(model, tensors, quantization_config, torch_dtype)
    for name, tensor in tensors.items():
        _put(model, name, tensor, torch_dtype or tensor.dtype)
    return model.eval()


def _config(path: Path, config: str | Path | Mapping[str, Any] | None) -> Mapping[str, Any]:
    if isinstance(config, Mapping):
        return config
    place = path.parent if config is None else Path(config)
    file = place / "config.json" if place.is_dir() else place
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"There is no configuration for {path} in {file}; give it as config: the transformer's folder of a model, "
            "or the JSON beside the published checkpoint."
        ) from error
    return dict(read)


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise InputError(f"There is no file {path}. Check the path.")
    if path.suffix not in (".gguf", ".safetensors"):
        raise InputError(f"{path} can't be read as one file; it must be .gguf or .safetensors.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        from diffusers.models.model_loading_utils import load_gguf_checkpoint

        return dict(load_gguf_checkpoint(str(path)))
    except ImportError as error:
        raise InputError("A .gguf file needs gguf:  pip install 'anytalker[quantize]'") from error
    except (SafetensorError, OSError, ValueError, IndexError) as error:
        raise InputError(f"{path} can't be read: {str(error).splitlines()[0]}") from error


def _shape(tensor: torch.Tensor) -> Shape:
    return tuple(getattr(tensor, "quant_shape", tensor.shape))


def _quantized(model: Any, tensors: dict[str, torch.Tensor], config: Any, torch_dtype: torch.dtype | None) -> Any:
    """The model with quantized layers; everything that is more than a layer that is called is unpacked."""
    from diffusers.quantizers import DiffusersAutoQuantizer
    from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

    quantizer = DiffusersAutoQuantizer.from_config(config)
    quantizer.validate_environment()
    dtype = torch_dtype or config.compute_dtype
    matrices = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        called = kind == "weight" and layer in matrices and not layer.endswith("attn_people.to_out")
        if hasattr(tensor, "quant_type") and (not called or stays_float32(name)):
            tensors[name] = dequantize_gguf_tensor(tensor)
    quantizer.preprocess_model(model=model, device_map=None, state_dict=tensors, keep_in_fp32_modules=[])
    for name, tensor in tensors.items():
        if hasattr(tensor, "quant_type"):
            quantizer.create_quantized_param(model, tensor, name, torch.device("cpu"))
        else:
            _put(model, name, tensor, dtype)
    quantizer.postprocess_model(model)
    model.hf_quantizer = quantizer
    return model.eval()


def _put(model: Any, name: str, tensor: torch.Tensor, dtype: torch.dtype) -> None:
    dtype = torch.float32 if stays_float32(name) else dtype
    set_module_tensor_to_device(model, name, "cpu", value=tensor, dtype=dtype)
