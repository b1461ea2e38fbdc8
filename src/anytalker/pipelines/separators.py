"""Vocal separation of a model's voices: where its network lies, whether it can be used, and what to say if not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from anytalker.conditioning.audio_features import heard_part
from anytalker.conditioning.separation import VocalSeparator, can_separate
from anytalker.loading.found import FoundModel
from anytalker.loading.presets import SHARED, models_home
from anytalker.models.settings import PipelineSettings
from anytalker.pipelines.inputs import Inputs

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


def separate_voices(
    inputs: Inputs, settings: PipelineSettings, file: Path | None, wanted: bool = True, device: str = "cpu"
) -> tuple[Inputs, str | None, str | None]:
    """Take the voices out of all recordings, if the model was made for it.

    Args:
        inputs: checked.
        settings: of the model.
        file: of the separator, see `find_separator`.
        wanted: False leaves recordings as they are.
        device: for the network.

    Returns:
        Inputs with `vocals`; for the run's record what was done: the separator's name, "off", "missing", or None for a
        model without; and what to say if it is missing.

    Raises:
        InputError: if the file is no separator.
    """
    if settings.separator is None or not wanted:
        return inputs, None if settings.separator is None else "off", None
    if file is None or not can_separate():
        return inputs, "missing", _missing(settings.separator, file)
    separator = VocalSeparator(file, device=device)
    voices = []
    for voice in inputs.voices:
        recording = heard_part(voice.waveform, inputs.frames, inputs.fps)
        voices.append(replace(voice, vocals=separator(recording)) if len(recording) else voice)
    return replace(inputs, voices=voices), settings.separator, None


def _missing(name: str, file: Path | None) -> str:
    steps = [] if can_separate() else ["pip install 'anytalker[separate]'"]
    steps += ["anytalker download separator"] if file is None else []
    return (
        f"Voices are used as they are: {name}, which takes music and noise away, is not here. Get it with:  "
        f"{'  and  '.join(steps)}  (clean voices need no separation: --no-separate)"
    )
