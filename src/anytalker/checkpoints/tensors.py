"""Reading and writing tensors in files of any size: safetensors, whole or in shards, and torch files without code."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from anytalker.errors import InputError
from anytalker.files import atomic_path, write_json_atomic

if TYPE_CHECKING:
    import torch  # models are looked at, and wrong ones refused, before it is loaded

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
INDEX_SUFFIX = ".safetensors.index.json"
WEIGHTS_NAME = "diffusion_pytorch_model"
"""Stem of a model's weight files, as diffusers names them."""


class Checkpoint(Mapping[str, "torch.Tensor"]):
    """Tensors by name, read from disk one at a time; use it in a `with` block.

    Args:
        source: a `.safetensors` file, an index of shards, a folder with either, or a torch file (`.pth`), of which only
            tensors are read, never code.

    Raises:
        InputError: if there is nothing like it, or it is damaged.
    """

    def __init__(self, source: str | Path) -> None:
        self.path = find_checkpoint(source)
        self._stack = ExitStack()
        self._getters: dict[str, Any] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        if self.path.suffix in TORCH_SUFFIXES:
            tensors = _torch_tensors(self.path)
            self._getters = dict.fromkeys(tensors, tensors.__getitem__)
            self.shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        else:
            for shard in shards_of(self.path):
                self._open(shard)

    def _open(self, shard: Path) -> None:
        if not shard.is_file():
            raise InputError(f"{self.path} names {shard.name}, which is missing; download it again.")
        try:
            file = self._stack.enter_context(safe_open(shard, framework="pt"))
            for name in file.keys():  # noqa: SIM118 (no mapping)
                self._getters[name] = file.get_tensor
                self.shapes[name] = tuple(file.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            self._stack.close()
            raise InputError(f"{shard} is damaged or cut off ({error}); download it again.") from error

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._getters[name](name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._getters)

    def __len__(self) -> int:
        return len(self._getters)

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()


def find_checkpoint(source: str | Path) -> Path:
    """The file to start reading from: `source` itself, or the one checkpoint in it if it is a folder.

    Raises:
        InputError: if there is none, or several.
    """
    path = Path(source)
    if path.is_file():
        if path.suffix in (".safetensors", *TORCH_SUFFIXES) or path.name.endswith(INDEX_SUFFIX):
            return path
        raise InputError(f"{path} is no checkpoint; give a .safetensors, .safetensors.index.json or .pth file.")
    if not path.is_dir():
        raise InputError(f"There is no checkpoint {path}. Check the path.")
    for pattern in (f"*{INDEX_SUFFIX}", "*.safetensors", *(f"*{suffix}" for suffix in TORCH_SUFFIXES)):
        found = sorted(path.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(file.name for file in found[:4])
            raise InputError(f"{path} holds several checkpoints ({names}); name one of them.")
    raise InputError(f"{path} holds no checkpoint; it needs a .safetensors or .pth file.")


def shards_of(path: Path) -> list[Path]:
    """The files that an index of shards names; of any other file itself.

    Raises:
        InputError: if it is damaged, or names files outside its folder.
    """
    if not path.name.endswith(INDEX_SUFFIX):
        return [path]
    try:
        names = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{path} is damaged; download it again.") from error
    if any(Path(name).name != name for name in names):
        raise InputError(f"{path} names files outside its folder; don't use it.")
    return [path.parent / name for name in sorted(names)]


def _torch_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a torch file, mapped from disk where its format allows; a wrapping {"model": …} is taken off."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds more than tensors and could run code when loaded; get the weights as safetensors."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged or cut off ({_first_line(error)}); download it again.") from error
    while isinstance(content, dict) and len(content) == 1 and isinstance(next(iter(content.values())), dict):
        content = next(iter(content.values()))
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise InputError(f"{path} is no checkpoint of a model: it holds something else than named tensors.")
    return content


def write_shards(
    tensors: Iterator[tuple[str, torch.Tensor]], folder: Path, name: str, shard_bytes: int = 2**30
) -> list[str]:
    """Write tensors into safetensors shards as they come, and their index last, so that memory holds one shard.

    Args:
        tensors: names and tensors.
        folder: where to.
        name: files are called `name`-00001.safetensors and so on; `name`.safetensors.index.json is the index.
        shard_bytes: a shard is written once it has so many bytes.

    Returns:
        Names of the files.
    """
    from safetensors.torch import save_file

    weight_map: dict[str, str] = {}
    files: list[str] = []
    shard: dict[str, torch.Tensor] = {}
    size = total = 0

    def flush() -> None:
        if not shard:
            return
        files.append(f"{name}-{len(files) + 1:05d}.safetensors")
        with atomic_path(folder / files[-1]) as partial:
            save_file(shard, partial, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shard, files[-1]))
        shard.clear()

    for key, tensor in tensors:
        shard[key] = tensor.contiguous()
        size, total = size + tensor.nbytes, total + tensor.nbytes
        if size >= shard_bytes:
            flush()
            size = 0
    flush()
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_json_atomic(folder / f"{name}{INDEX_SUFFIX}", index)
    return [*files, f"{name}{INDEX_SUFFIX}"]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
