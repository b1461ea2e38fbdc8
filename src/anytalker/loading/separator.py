"""Where the network lies that takes voices out of their recordings."""

from __future__ import annotations

from pathlib import Path

from anytalker.loading.found import FoundModel
from anytalker.loading.presets import SHARED, models_home

KNOWN = {"Kim_Vocal_2": "ce74ef3b6a6024ce44211a07be9cf8bc6d87728cc852a68ab34eb8e58cde9c8b"}
"""SHA-256 of the networks that are downloaded."""
_FOLDER = "vocal_separator"


def separator_path(name: str) -> Path:
    """Where `anytalker download separator` puts a network."""
    return models_home() / SHARED / "separator" / f"{name}.onnx"


def find_separator(found: FoundModel, name: str | None) -> Path | None:
    """The file of a model's separator: beside the model as in the release's tree, or downloaded; None if there is none.

    Args:
        found: the model.
        name: of its separator, see `PipelineSettings.separator`.
    """
    if name is None:
        return None
    roots = (found.folder, found.folder.parent)
    places = [root / folder / f"{name}.onnx" for root in roots for folder in (_FOLDER, "")]
    return next((path for path in (*places, separator_path(name)) if path.is_file()), None)
