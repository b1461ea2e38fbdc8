"""Low-rank adapters from files, merged into a transformer: our own, and those made for Wan 2.1, few-step ones too.

The merging is our own: diffusers' loader, which turns Kohya's names into its own here, needs peft for it, and leaves
out the changes of norms that few-step adapters bring.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from anytalker.errors import InputError
from anytalker.models.conversion import Names
from anytalker.models.transformer import AnyTalkerTransformer3DModel

ALPHA = "lora_alpha"
"""Key of a file's metadata: the adapter's alpha, for adapters that hold none as tensors."""

_KOHYA = "lora_unet_"
_PREFIXES = ("base_model.model.", "diffusion_model.", "transformer.")
_DOWN, _UP = (".lora_A.weight", ".lora_down.weight"), (".lora_B.weight", ".lora_up.weight")
_DIFFERENCES = {".diff": ".weight", ".diff_b": ".bias"}


def merge_lora(transformer: AnyTalkerTransformer3DModel, path: str | Path, strength: float = 1.0) -> int:
    """Add an adapter to a transformer's weights: strength · alpha / rank · up · down, and plain differences.

    Args:
        transformer: whose weights are changed.
        path: safetensors; names of the layers are ours, diffusers' or Wan's, in front of lora_A and lora_B or
            lora_down and lora_up, alpha, diff or diff_b; or all of them are Kohya's (lora_unet_…).
        strength: 1 is as trained.

    Returns:
        How many tensors were changed.

    Raises:
        InputError: if the file can't be read, or is for another model; nothing is changed then.
    """
    tensors, metadata = _read(Path(path))
    if any(name.startswith(_KOHYA) for name in tensors):
        tensors = _from_kohya(tensors, path)
    parameters = dict(transformer.named_parameters())
    changes = _changes(tensors, float(metadata.get(ALPHA, 0)) or None, Names(transformer.config.audio_face_layout))
    unknown = [name for name in changes if name not in parameters]
    if unknown or not changes:
        example = f" such as {unknown[0]}" if unknown else ""
        raise InputError(
            f"{path} is no adapter for this model: {len(unknown) or 'all'} of its layers are unknown{example}."
        )
    for name, change in changes.items():
        if change.shape != parameters[name].shape:
            raise InputError(
                f"{path} is for a model of another size: its change of {name} is {tuple(change.shape)}, the weight is "
                f"{tuple(parameters[name].shape)}."
            )
    with torch.no_grad():
        for name, change in changes.items():
            weight = parameters[name]
            weight.copy_(weight.float() + strength * change.to(weight.device))
    return len(changes)


def _read(path: Path) -> tuple[dict[str, torch.Tensor], Mapping[str, str]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"There is no adapter {path}. Check the path.")
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path} can't be read as safetensors: {error}.") from error


def _from_kohya(tensors: dict[str, torch.Tensor], path: str | Path) -> dict[str, torch.Tensor]:
    """The same with diffusers' names, alpha multiplied in."""
    from diffusers.loaders import WanLoraLoaderMixin

    try:
        return WanLoraLoaderMixin.lora_state_dict(tensors)
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(
            f"{path} has Kohya's names (lora_unet_…), but not the layers of Wan 2.1's transformer ({error})."
        ) from error


def _changes(tensors: Mapping[str, torch.Tensor], alpha: float | None, names: Names) -> dict[str, torch.Tensor]:
    """What is added to which of our tensors, float32; layers that we don't know keep their names."""
    found: dict[str, torch.Tensor] = {}
    for key, tensor in tensors.items():
        layer, kind = _split(key)
        if kind in _DOWN:
            up = next(
                (tensors[key.removesuffix(kind) + other] for other in _UP if key.removesuffix(kind) + other in tensors),
                None,
            )
            if up is None:
                raise InputError(f"The adapter is incomplete: it has {key}, but no counterpart.")
            own = tensors.get(key.removesuffix(kind) + ".alpha")
            scale = (alpha if own is None else float(own)) or tensor.shape[0]
            found[_ours(layer + ".weight", names)] = scale / tensor.shape[0] * (up.float() @ tensor.float())
        elif kind in _DIFFERENCES:
            found[_ours(layer + _DIFFERENCES[kind], names)] = tensor.float()
    return found


def _split(key: str) -> tuple[str, str]:
    """Name of the layer, and what the tensor is of it."""
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    for kind in (*_DOWN, *_UP, *_DIFFERENCES, ".alpha"):
        if key.endswith(kind):
            return key.removesuffix(kind), kind
    return key, ""


def _ours(name: str, names: Names) -> str:
    return names.ours(name) or name.replace(".to_out.0.", ".to_out.")


@contextmanager
def scaled_adapters(module: torch.nn.Module, scale: float) -> Iterator[None]:
    """Within the context all loaded adapters that are not merged are `scale` times as strong."""
    if scale == 1 or not getattr(module, "peft_config", None):
        yield
        return
    from diffusers.utils.peft_utils import scale_lora_layers, unscale_lora_layers

    scale_lora_layers(module, scale)
    try:
        yield
    finally:
        unscale_lora_layers(module, scale)
