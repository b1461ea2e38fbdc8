"""Conversion of whole checkpoints between the release's files and ours, one tensor at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from anytalker.checkpoints.published import check_kind, choose_checkpoint, class_in, config_of, read_config
from anytalker.checkpoints.tensors import TORCH_SUFFIXES, WEIGHTS_NAME, Checkpoint, write_shards
from anytalker.checkpoints.weight_files import check_whole, tensor_shapes
from anytalker.errors import InputError
from anytalker.files import atomic_path, write_json_atomic
from anytalker.models.conversion import release_config
from anytalker.models.release_names import Names, check_tensors, model_config
from anytalker.models.transformer import AnyTalkerTransformer3DModel


@dataclass(frozen=True)
class Conversion:
    """What was converted: `tensors` of `bytes` in all, of layout `layout`, into `files`."""

    tensors: int
    bytes: int
    layout: str
    files: list[Path]


def convert(source: Path, destination: Path, config: Path | None = None) -> Conversion:
    """Convert a release's checkpoint to a folder of ours, or a folder of ours to a release's checkpoint.

    Which of the two is decided by the source: a folder whose `config.json` names our class is ours.

    Args:
        source: see `Checkpoint`; of a folder in the release's layout the only checkpoint of AnyTalker's in it.
        destination: a folder for our model; a `.safetensors` or `.pth` file for the release's, whose configuration is
            written beside it.
        config: the release's configuration; None: the one beside the checkpoint, see `config_of`.

    Raises:
        InputError: for damaged files, missing, unexpected or wrongly shaped tensors, or a source of another kind.
    """
    if class_in(source) == AnyTalkerTransformer3DModel.__name__:
        return _to_release(source, destination)
    return _from_release(source, destination, config)


def _from_release(source: Path, destination: Path, config: Path | None) -> Conversion:
    if destination.suffix in (".safetensors", *TORCH_SUFFIXES):
        raise InputError(f"{destination} must be a folder: the converted model has several files.")
    source = choose_checkpoint(source)
    check_whole(source)
    check_kind(source, tensor_shapes(source))
    known = read_config(config or config_of(source))
    with Checkpoint(source) as checkpoint:
        values = model_config(checkpoint.shapes, known)
        names = Names(values["audio_face_layout"])
        with torch.device("meta"):
            model = AnyTalkerTransformer3DModel(**values)
        wanted = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
        check_tensors(checkpoint.shapes, wanted, names)
        renamed = ((str(names.ours(key)), checkpoint[key]) for key in checkpoint)
        destination.mkdir(parents=True, exist_ok=True)
        model.save_config(destination)
        counter = _Counter(renamed)
        files = write_shards(iter(counter), destination, WEIGHTS_NAME)
    return counter.result(values["audio_face_layout"], [destination / name for name in ("config.json", *files)])


def _to_release(source: Path, destination: Path) -> Conversion:
    if destination.suffix not in (".safetensors", *TORCH_SUFFIXES):
        raise InputError(f"{destination} must end in .safetensors or .pth: {source} is a model of ours.")
    config = release_config(AnyTalkerTransformer3DModel.load_config(source))
    names = Names("B" if config.get("legacy_audio_cross_attn") else "A")
    with Checkpoint(source) as checkpoint:
        unknown = [key for key in checkpoint if names.releases(key) is None]
        if unknown:
            raise InputError(
                f"{checkpoint.path} has tensors that the release has no name for: {', '.join(unknown[:3])}."
            )
        counter = _Counter((str(names.releases(key)), checkpoint[key]) for key in checkpoint)
        tensors = dict(iter(counter))
        with atomic_path(destination) as partial:
            if destination.suffix == ".safetensors":
                save_file(tensors, partial, metadata={"format": "pt"})
            else:
                torch.save({"model": tensors}, partial)
    written = destination.with_suffix(".json")
    write_json_atomic(written, config)
    return counter.result("B" if config.get("legacy_audio_cross_attn") else "A", [destination, written])


class _Counter:
    """Passes tensors on and counts them."""

    def __init__(self, tensors: Iterator[tuple[str, torch.Tensor]]) -> None:
        self.source, self.tensors, self.bytes = tensors, 0, 0

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for key, tensor in self.source:
            self.tensors += 1
            self.bytes += tensor.nbytes
            yield key, tensor

    def result(self, layout: str, files: list[Path]) -> Conversion:
        return Conversion(self.tensors, self.bytes, layout, files)
