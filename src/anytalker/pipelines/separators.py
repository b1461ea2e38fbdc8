"""Vocal separation, for models that were trained with it; a remark if the separator is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from anytalker.conditioning.audio_features import heard_part
from anytalker.conditioning.separation import VocalSeparator, can_separate
from anytalker.models.settings import PipelineSettings
from anytalker.pipelines.inputs import Inputs


def separate_voices(
    inputs: Inputs, settings: PipelineSettings, file: Path | None, wanted: bool = True, device: str = "cpu"
) -> tuple[Inputs, str | None, str | None]:
    """Separate the voices in all recordings from music and noise, if the model was trained so.

    Args:
        inputs: checked.
        settings: of the model.
        file: of the separator, see `anytalker.loading.separator.find_separator`.
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
