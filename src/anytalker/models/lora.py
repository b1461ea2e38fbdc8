"""Low-rank adapters from files: our own, and those made for Wan 2.1, few-step ones too; merged into a transformer.

`read_adapter` knows the names that are in use: ours, diffusers', Wan's own with or without a prefix, and Kohya's.
Merging needs no peft, and sums in float32. `AnyTalkerPipeline.load_lora_weights` takes the same files unmerged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from anytalker.errors import InputError
from anytalker.models.differences import Differences
from anytalker.models.release_names import Names
from anytalker.models.transformer import AnyTalkerTransformer3DModel

ALPHA = "lora_alpha"
"""Key of a file's metadata: the adapter's alpha, for adapters that hold none as tensors."""

_DIFFUSERS = "lora_adapter_metadata"
"""Key of the metadata that diffusers writes."""
_KOHYA = "lora_unet_"
_PREFIXES = ("base_model.model.", "diffusion_model.", "transformer.")
_DOWN = (".lora_A.weight", ".lora_down.weight", ".lora_A.default.weight")
_UP = (".lora_B.weight", ".lora_up.weight", ".lora_B.default.weight")
_DIFFERENCES = {".diff": ".weight", ".diff_b": ".bias"}


@dataclass(frozen=True)
class Adapter:
    """What a file changes of a transformer, by our names.

    Attributes:
        pairs: of a layer ("blocks.0.attn1.to_q") the matrices down (rank, in) and up (out, rank), and the factor
            alpha / rank; its weight changes by factor · up · down.
        differences: what is added to a tensor ("blocks.0.attn1.norm_q.weight").
    """

    pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor, float]]
    differences: Mapping[str, torch.Tensor]

    def changes(self) -> dict[str, torch.Tensor]:
        """What is added to each tensor, float32."""
        products = {
            f"{layer}.weight": factor * (up.float() @ down.float()) for layer, (down, up, factor) in self.pairs.items()
        }
        return products | {name: tensor.float() for name, tensor in self.differences.items()}


def merge_lora(transformer: AnyTalkerTransformer3DModel, path: str | Path, strength: float = 1.0) -> int:
    """Add an adapter to a transformer's weights: strength · alpha / rank · up · down, and plain differences.

    Args:
        transformer: whose weights are changed.
        path: safetensors, see `read_adapter`.
        strength: 1 is as trained.

    Returns:
        How many tensors were changed.

    Raises:
        InputError: if the file can't be read, or is for another model; nothing is changed then.
    """
    changes = read_adapter(transformer, path).changes()
    parameters = dict(transformer.named_parameters())
    if any(hasattr(parameters[name], "quant_shape") for name in changes):
        raise InputError("Nothing can be merged into the layers of a .gguf file; use load_lora_weights.")
    with torch.no_grad():
        for name, change in changes.items():
            weight = parameters[name]
            weight.copy_(weight.float() + strength * change.to(weight.device))
    return len(changes)


def read_adapter(transformer: AnyTalkerTransformer3DModel, source: str | Path | Mapping[str, torch.Tensor]) -> Adapter:
    """Read an adapter for a transformer.

    Args:
        transformer: that the adapter is for; adapters that it has already make no difference.
        source: a file of safetensors, or its tensors; names of the layers are ours, diffusers' or Wan's, in front of
            lora_A and lora_B or lora_down and lora_up, alpha, diff or diff_b; or all of them are Kohya's (lora_unet_…).

    Raises:
        InputError: if the file can't be read, or is for another model.
    """
    given = isinstance(source, Mapping)
    tensors, metadata = (dict(source), {}) if given else _read(Path(source))  # type: ignore[arg-type]
    name = "The adapter" if given else str(source)
    names = Names(transformer.config.audio_face_layout)
    shapes = {
        name.replace(".base_layer.", "."): torch.Size(getattr(parameter, "quant_shape", parameter.shape))
        for name, parameter in transformer.named_parameters()
        if ".lora_" not in name
    }
    if any(key.startswith(_KOHYA) for key in tensors):
        tensors = _from_kohya(tensors, name, shapes, names)
    adapter = _adapter(tensors, _factors(metadata), names)
    changed = {
        f"{layer}.weight": torch.Size((up.shape[0], down.shape[1])) for layer, (down, up, _) in adapter.pairs.items()
    }
    changed |= {key: tensor.shape for key, tensor in adapter.differences.items()}
    unknown = [key for key in changed if key not in shapes]
    if unknown or not changed:
        example = f" such as {unknown[0]}" if unknown else ""
        raise InputError(
            f"{name} is no adapter for this model: {len(unknown) or 'all'} of its layers are unknown{example}."
        )
    for key, shape in changed.items():
        if shape != shapes[key]:
            raise InputError(
                f"{name} is for a model of another size: its change of {key} is {tuple(shape)}, the weight is "
                f"{tuple(shapes[key])}."
            )
    return adapter


def _factors(metadata: Mapping[str, str]) -> Callable[[str, int], float]:
    """What a layer's matrices are multiplied with, by its name and rank: as a file's metadata say, ours or peft's."""
    try:
        own, theirs = float(metadata.get(ALPHA, 0)), json.loads(metadata.get(_DIFFUSERS, "{}"))
    except ValueError:
        own, theirs = 0.0, {}
    given = theirs.items() if isinstance(theirs, dict) else ()
    values = {name.removeprefix("transformer."): value for name, value in given}
    patterns = values.get("alpha_pattern") or {}

    def factor(layer: str, rank: int) -> float:
        named = [alpha for name, alpha in patterns.items() if f".{layer}".endswith(f".{name.removeprefix('^')}")]
        alpha = own or float((named or [values.get("lora_alpha")])[0] or 0)
        return alpha / (rank**0.5 if values.get("use_rslora") else rank) if alpha else 1.0

    return factor


def _read(path: Path) -> tuple[dict[str, torch.Tensor], Mapping[str, str]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"There is no adapter {path}. Check the path.")
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path} can't be read as safetensors: {error}.") from error


def _from_kohya(
    tensors: Mapping[str, torch.Tensor], name: str, known: Mapping[str, torch.Size], names: Names
) -> dict[str, torch.Tensor]:
    """The same with our names: in Kohya's, dots are underscores."""
    releases = {key.removesuffix(".weight"): names.releases(key) for key in known if key.endswith(".weight")}
    ours = {
        _KOHYA + theirs.removesuffix(".weight").replace(".", "_"): layer
        for layer, theirs in releases.items()
        if theirs is not None
    }
    layers = {key: key.partition(".")[0] for key in tensors}
    strange = [key for key, layer in layers.items() if layer not in ours]
    strange += [key for key in tensors if _split(key)[1] in _DOWN and _counterpart(key, tensors) is None]
    if strange:
        raise InputError(
            f"{name} has Kohya's names (lora_unet_…), but not the layers of Wan 2.1's transformer ({strange[0]})."
        )
    return {ours[layers[key]] + key[len(layers[key]) :]: tensor for key, tensor in tensors.items()}


def _counterpart(key: str, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    layer = key.removesuffix(next(kind for kind in _DOWN if key.endswith(kind)))
    return next((tensors[layer + kind] for kind in _UP if layer + kind in tensors), None)


def _adapter(tensors: Mapping[str, torch.Tensor], factor: Callable[[str, int], float], names: Names) -> Adapter:
    """What the tensors change; layers that we don't know keep their names."""
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor, float]] = {}
    differences: dict[str, torch.Tensor] = {}
    for key, tensor in tensors.items():
        layer, kind = _split(key)
        if kind in _DOWN:
            up = _counterpart(key, tensors)
            if up is None:
                raise InputError(f"The adapter is incomplete: it has {key}, but no counterpart.")
            own = tensors.get(key.removesuffix(kind) + ".alpha")
            scale = float(own) / tensor.shape[0] if own is not None and own != 0 else factor(layer, tensor.shape[0])
            pairs[_ours(layer + ".weight", names).removesuffix(".weight")] = tensor, up, scale
        elif kind in _DIFFERENCES:
            differences[_ours(layer + _DIFFERENCES[kind], names)] = tensor
    return Adapter(pairs, differences)


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

    differences: Differences | None = getattr(module, "adapter_differences", None)
    with differences.scaled(scale) if differences is not None else nullcontext():
        scale_lora_layers(module, scale)
        try:
            yield
        finally:
            unscale_lora_layers(module, scale)
