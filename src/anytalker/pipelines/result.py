"""The finished video: frames or a file, voices, and the record of how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anytalker.conditioning.timeline import speaking_spans
from anytalker.errors import InputError
from anytalker.media.recordings import SAMPLE_RATE, mix
from anytalker.media.sound import Mixture
from anytalker.media.video import PersonRecord, RunRecord, write_video
from anytalker.pipelines.inputs import Inputs
from anytalker.pipelines.options import GenerationOptions
from anytalker.pipelines.subtitles import chapters_of
from anytalker.pipelines.talk import timeline_of


def frames_as(frames: np.ndarray, output_type: str) -> Any:
    """Frames float32 (T, H, W, 3) in [0, 1] as "np", "pil" or "pt", see `AnyTalkerPipeline.__call__`."""
    if output_type == "pil":
        return [Image.fromarray(frame) for frame in (frames * 255).round().astype(np.uint8)]
    if output_type == "pt":
        import torch

        return torch.from_numpy(frames).permute(0, 3, 1, 2)
    return frames


def as_array(frames: Any) -> np.ndarray:
    """Frames float32 (T, H, W, 3) in [0, 1], whatever `frames_as` has made of them.

    Raises:
        InputError: for latents.
    """
    if isinstance(frames, list):
        return np.stack([np.asarray(frame, dtype=np.float32) / 255 for frame in frames])
    if frames.ndim != 4:
        raise InputError("There are no frames to save: the video was made with output_type='latent'.")
    return frames if isinstance(frames, np.ndarray) else frames.permute(0, 2, 3, 1).cpu().numpy()


@dataclass(frozen=True)
class _Generated:
    inputs: Inputs
    model: str
    choices: Mapping[str, Any]
    seconds: Mapping[str, float]

    @property
    def fps(self) -> float:
        """Video frames a second."""
        return self.inputs.fps

    @property
    def voices(self) -> np.ndarray:
        """Everybody's voice together, float32 (samples,) at 16 kHz."""
        return mix([voice.waveform for voice in self.inputs.voices])

    @property
    def mixture(self) -> Mixture:
        """The same, computed for the parts that are asked for."""
        return Mixture([voice.waveform for voice in self.inputs.voices])

    @property
    def chapters(self) -> list[tuple[str, float, float]]:
        """Speakers' names with start and end in seconds, if the video has subtitles."""
        timeline = self.inputs.timeline if self.inputs.subtitles else None
        timeline = timeline and timeline.until(self.inputs.frames / self.fps)
        return chapters_of(timeline, self.inputs.frames / self.fps) if timeline else []

    def record(self, seed: int | None = None, fingerprint: str | None = None, folder: str | Path = ".") -> RunRecord:
        """The record of the run, to be written beside the video.

        Args:
            seed: of the noise.
            fingerprint: see `fingerprint_of`.
            folder: where the record goes, from which it names sound files.
        """
        persons = [
            PersonRecord(box_xywh=list(box), audio=voice.name, speaking=speaking_spans(voice.waveform))
            for box, voice in zip(self.inputs.boxes, self.inputs.voices, strict=True)
        ]
        width, height = self.inputs.image.size
        timeline = timeline_of(self.inputs, [person.speaking for person in persons])
        return RunRecord(
            model=self.model,
            seed=seed,
            settings=dict(self.choices),
            width=width,
            height=height,
            fps=self.fps,
            frames=self.inputs.frames,
            persons=persons,
            seconds=dict(self.seconds),
            fingerprint=fingerprint,
            timeline=None if timeline is None else timeline.relocated(".", folder).as_json(),
        )

    def inside(self, seed: int | None) -> str:
        """The record as the MP4 itself carries it, in JSON: nothing of it depends on where files lie, or on the time.

        Args:
            seed: see `record`.
        """
        record = self.record(seed)
        own = {name: value for name, value in record.settings.items() if name in GenerationOptions.model_fields}
        timeline = record.timeline and dict(record.timeline)
        if timeline:  # without the names of the user's files
            turns = timeline["turns"]
            timeline["turns"] = [{key: turn[key] for key in turn if key != "sound"} for turn in turns]
        return record.model_copy(update={"settings": own, "seconds": {}, "timeline": timeline}).model_dump_json()


@dataclass(frozen=True)
class TalkingVideo(_Generated):
    """A generated video in memory.

    Attributes:
        inputs: the checked inputs it was made from.
        model: name of the model.
        choices: the settings it was made with.
        seconds: wall-clock seconds by stage.
        frames: float32 (T, H, W, 3) in [0, 1], or what the call's `output_type` says.
        seed: of the noise; None: it was given.
    """

    frames: Any
    seed: int | None = None

    def save(self, path: str | Path) -> Path:
        """Write an MP4 (H.264, AAC) with the mixed voices, marked as synthetic, and with its settings inside.

        Returns:
            Its path.

        Raises:
            InputError: if there are latents in place of frames.
        """
        write_video(path, as_array(self.frames), self.fps, self.mixture, SAMPLE_RATE, settings=self.inside(self.seed))
        return Path(path)

    def to_tuple(self) -> tuple[Any]:
        """A tuple with the frames."""
        return (self.frames,)

    def __getitem__(self, place: Any) -> Any:
        return self.to_tuple()[place]


@dataclass(frozen=True)
class VideoFile(_Generated):
    """A generated video on disk.

    Attributes:
        inputs, model, choices, seconds: as for `TalkingVideo`.
        path: the MP4.
    """

    path: Path
