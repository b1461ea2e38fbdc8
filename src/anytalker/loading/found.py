"""The files of a model's components, in any of the layouts in which models are published or saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from anytalker.checkpoints.weight_files import WEIGHTS_SUFFIXES, Shape, tensor_shapes

PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "image_encoder", "scheduler", "audio_features")


@dataclass(frozen=True)
class FoundModel:
    """A model that is complete as far as can be known without reading its weights.

    Attributes:
        path: the checkpoint of a published model, the folder of any other.
        parts: for each of `PARTS` its folder, or Wan's or AnyTalker's own file; a published model has no scheduler.
        config: the release's configuration, if the transformer is a published checkpoint.
        settings: the file of settings; where there is none, those of the preset of the same size count.
    """

    path: Path
    parts: Mapping[str, Path]
    config: Path | None
    settings: Path

    @property
    def folder(self) -> Path:
        """The model's folder; of a published model that of its checkpoint."""
        return self.path if self.config is None else self.path.parent

    def files(self) -> list[Path]:
        """All files of weights, configurations and settings, for recognising the model again."""
        found = {self.settings, *([self.config] if self.config else [])}
        for part in self.parts.values():
            found |= set(part.rglob("*") if part.is_dir() else [part])
        kept = (*WEIGHTS_SUFFIXES, ".json", ".model")
        return sorted(path for path in found if path.is_file() and path.suffix in kept)


def part_shapes(path: Path) -> list[tuple[str, Shape]]:
    """Names and shapes of all tensors of a part, from its folder or its file, without reading them."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    return [item for file in files for item in tensor_shapes(file).items()]
