"""Adapters (LoRA) of a pipeline that can be switched, weighted, fused and removed, by diffusers' names and means.

diffusers' loader of Wan's adapters is the model; ours reads more of the names in use, and keeps changes of norms and
biases (see `anytalker.models.differences`). peft is imported by who uses these methods alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anytalker.errors import InputError, first_line
from anytalker.models.differences import Differences
from anytalker.models.lora import read_adapter
from anytalker.models.transformer import WHOLE_LAYERS

if TYPE_CHECKING:
    import torch

    from anytalker.models.transformer import AnyTalkerTransformer3DModel

WEIGHT_NAME = "pytorch_lora_weights.safetensors"
"""The file that diffusers writes and looks for."""


class Adapters:
    """Methods of diffusers' `LoraBaseMixin`; a part of `AnyTalkerPipeline`."""

    _lora_loadable_modules = ("transformer",)
    transformer_name = "transformer"
    _disabled = False
    _merged_adapters: set[str] = set()  # noqa: RUF012 (diffusers replaces it)

    if TYPE_CHECKING:
        transformer: AnyTalkerTransformer3DModel

    def load_lora_weights(
        self,
        source: str | Path | Mapping[str, torch.Tensor],
        adapter_name: str | None = None,
        hotswap: bool = False,
        weight_name: str | None = None,
        **options: Any,
    ) -> None:
        """Load an adapter beside those that are loaded, and make it the active one.

        Args:
            source: a file of safetensors, a folder or a repository of the hub with one, or its tensors by name. The
                names may be ours, diffusers', Wan's with or without a prefix, or Kohya's.
            adapter_name: what it is called; None: default_0 and so on.
            hotswap: take the place of the loaded adapter of that name, which must have the same layers.
            weight_name: the file in the folder or repository; None: "pytorch_lora_weights.safetensors".
            options: `subfolder`, `revision`, `token`, `cache_dir`, `local_files_only` for a repository.

        Raises:
            InputError: if it can't be read, is for another model, has a name that is taken, or peft is missing.
        """
        base()
        adapter = read_adapter(self.transformer, find_weights(source, weight_name, **options))
        loaded = getattr(self.transformer, "peft_config", {})
        if adapter_name is None:
            numbers = (f"default_{number}" for number in range(len(loaded) + 1))
            adapter_name = next(name for name in numbers if name not in loaded)
        if (adapter_name in loaded) != hotswap:
            raise InputError(
                f"An adapter called {adapter_name!r} is loaded already; choose another adapter_name, or hotswap=True."
                if adapter_name in loaded
                else f"hotswap=True needs a loaded adapter called {adapter_name!r}."
            )
        whole = {layer for layer in adapter.pairs if re.search(WHOLE_LAYERS, layer)}
        products = {f"{layer}.weight": adapter.changes()[f"{layer}.weight"] for layer in whole}
        state = {
            f"transformer.{layer}.{side}.weight": tensor
            for layer, (down, up, factor) in adapter.pairs.items()
            if layer not in whole
            for side, tensor in (("lora_A", down.float()), ("lora_B", up.float() * factor))
        }
        if not state:
            raise InputError("The adapter has no low-rank matrices; merge it with --lora, or `merge_lora`.")
        self.transformer.load_lora_adapter(state, adapter_name=adapter_name, hotswap=hotswap, _pipeline=self)
        self._differences.add(adapter_name, {**adapter.differences, **products})
        self._adapter_weights[adapter_name] = 1.0
        self._show_differences()

    def save_lora_weights(self, save_directory: str | Path, adapter_name: str | None = None) -> Path:
        """Write a loaded adapter as `load_lora_weights` of this pipeline reads it; returns the file.

        Args:
            save_directory: the folder.
            adapter_name: which; None: the active one.

        Raises:
            InputError: if there is no such adapter, or it changes more than low-rank matrices.
        """
        name = adapter_name or next(iter(self.get_active_adapters()), None)
        if name is None or name not in self.get_list_adapters().get("transformer", []):
            raise InputError(f"There is no adapter {name!r} to save.")
        if self._differences.of(name):
            raise InputError(f"The adapter {name!r} changes norms or biases, too; keep its own file.")
        self.transformer.save_lora_adapter(save_directory, adapter_name=name, weight_name=WEIGHT_NAME)
        return Path(save_directory) / WEIGHT_NAME

    def set_adapters(self, adapter_names: str | Sequence[str], adapter_weights: Any = None) -> None:
        """Make adapters active, together.

        Args:
            adapter_names: one or several that are loaded.
            adapter_weights: a number for all or one an adapter; None: 1.

        Raises:
            ValueError: for an adapter that is not loaded.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        base().set_adapters(self, names, adapter_weights)
        weights = adapter_weights if isinstance(adapter_weights, (list, tuple)) else [adapter_weights] * len(names)
        for name, weight in zip(names, weights, strict=True):
            self._adapter_weights[name] = float(weight) if isinstance(weight, (int, float)) else 1.0
        self._show_differences()

    def get_active_adapters(self) -> list[str]:
        """Names of the active adapters."""
        return base().get_active_adapters(self)

    def get_list_adapters(self) -> dict[str, list[str]]:
        """Names of all loaded adapters, by component."""
        return base().get_list_adapters(self)

    def fuse_lora(
        self,
        components: Sequence[str] = ("transformer",),
        lora_scale: float = 1.0,
        safe_fusing: bool = False,
        adapter_names: list[str] | None = None,
    ) -> None:
        """Add adapters to the weights, which then cost nothing; `unfuse_lora` takes them out again.

        Args:
            components: there is "transformer" alone.
            lora_scale: factor on the adapters' weights.
            safe_fusing: leave out what would make values that are not numbers.
            adapter_names: which; None: the active ones.

        Raises:
            InputError: for layers of a .gguf file, which can't be added to.
        """
        if any(hasattr(weight, "quant_shape") for weight in self.transformer.parameters()):
            raise InputError("Nothing can be merged into the layers of a .gguf file; leave the adapters loaded.")
        names = set(adapter_names or self.get_active_adapters())
        options = {"lora_scale": lora_scale, "safe_fusing": safe_fusing, "adapter_names": adapter_names}
        base().fuse_lora(self, components=list(components), **options)
        self._differences.fuse(names, lora_scale)

    def unfuse_lora(self, components: Sequence[str] = ("transformer",)) -> None:
        """Take fused adapters out of the weights again."""
        base().unfuse_lora(self, components=list(components))
        self._differences.unfuse()
        active = self.get_active_adapters()  # diffusers leaves `lora_scale` on them
        self.set_adapters(active, [self._adapter_weights.get(name, 1.0) for name in active])

    @property
    def num_fused_loras(self) -> int:
        """How many adapters are fused."""
        return len(self._merged_adapters)

    @property
    def fused_loras(self) -> set[str]:
        """Names of the fused adapters."""
        return self._merged_adapters

    def unload_lora_weights(self) -> None:
        """Remove all adapters; what was fused stays in the weights."""
        base().unload_lora_weights(self)
        self._differences.keep(set())
        self._differences.show({})

    def delete_adapters(self, adapter_names: str | Sequence[str]) -> None:
        """Remove some adapters."""
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        base().delete_adapters(self, names)
        self._differences.keep(set(self.get_list_adapters().get("transformer", [])))
        self._show_differences()

    def disable_lora(self) -> None:
        """Make all adapters inactive until `enable_lora`."""
        base().disable_lora(self)
        self._disabled = True
        self._differences.show({})

    def enable_lora(self) -> None:
        """Undo `disable_lora`."""
        base().enable_lora(self)
        self._disabled = False
        self._show_differences()

    def enable_lora_hotswap(self, **options: Any) -> None:
        """Before the first adapter: make room for others of up to `target_rank`, for compiled models."""
        base().enable_lora_hotswap(self, **options)

    def set_lora_device(self, adapter_names: list[str], device: torch.device | str | int) -> None:
        """Move adapters to a device."""
        base().set_lora_device(self, adapter_names, device)

    @property
    def recorded_adapters(self) -> dict[str, Any]:
        """For a video's record: the active adapters and how strong they are, and those that are fused."""
        if not getattr(self.transformer, "peft_config", None) and not self._merged_adapters:
            return {}
        active = (
            {}
            if self._disabled
            else {name: self._adapter_weights.get(name, 1.0) for name in self.get_active_adapters()}
        )
        found = {"adapters": active, "fused_adapters": sorted(self._merged_adapters)}
        return {name: value for name, value in found.items() if value}

    @property
    def lora_scale(self) -> float:
        """Factor on all adapters of the video in work."""
        return float((getattr(self, "attention_kwargs", None) or {}).get("scale", 1.0))

    @property
    def _differences(self) -> Differences:
        """Kept with the transformer, of which several pipelines may be made."""
        found = getattr(self.transformer, "adapter_differences", None)
        if found is None:
            found = Differences(self.transformer)
            self.transformer.adapter_differences = found  # type: ignore[assignment]
        return found

    @property
    def _adapter_weights(self) -> dict[str, float]:
        return self._differences.weights

    def _show_differences(self) -> None:
        active = self.get_active_adapters() if self.get_list_adapters() else []
        self._differences.show({name: self._adapter_weights.get(name, 1.0) for name in active})


def base() -> Any:
    """diffusers' `LoraBaseMixin`.

    Raises:
        InputError: if peft is missing.
    """
    if find_spec("peft") is None:
        raise InputError("Adapters that can be switched need peft:  pip install 'anytalker[train]'")
    from diffusers.loaders.lora_base import LoraBaseMixin

    return LoraBaseMixin


def find_weights(
    source: str | Path | Mapping[str, torch.Tensor], weight_name: str | None = None, **options: Any
) -> Path | Mapping[str, torch.Tensor]:
    """The file of an adapter: given, in a folder, or in a repository of the hub; tensors are returned as they are.

    Raises:
        InputError: if it is not there.
    """
    if isinstance(source, Mapping):
        return source
    path, name = Path(source), weight_name or WEIGHT_NAME
    if path.is_dir():
        return path / options.get("subfolder", "") / name
    if path.is_file() or path.suffix == ".safetensors" or str(source).count("/") != 1:
        return path
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(str(source), name, **options))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(f"The adapter {name} of {source} can't be downloaded: {first_line(error)}") from error
