"""The door: everything a caller gives is checked here, once, and brought into the pipeline's shapes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anytalker.conditioning.audio import SAMPLE_RATE, audio_array, combine, frame_count, read_recording
from anytalker.conditioning.binding import bind_faces
from anytalker.conditioning.channels import two_voices_remark
from anytalker.conditioning.faces import Box, scale_box, square_box
from anytalker.conditioning.image import frame_size, load_image, resize_image
from anytalker.conditioning.sound import Sound
from anytalker.errors import InputError
from anytalker.pipelines.settings import PipelineSettings

MAX_FPS = 120
MAX_STEPS = 1000
MIN_FRAMES = 5
"""The first frame is the picture; the shortest video has one more latent frame."""


@dataclass(frozen=True)
class Voice:
    """One person's audio: `waveform` (samples,) at 16 kHz, in `Inputs` all of one length; `name` for the record;
    `remark` on what is no mistake but may be one."""

    name: str | None
    waveform: Sound
    remark: str | None = None


@dataclass(frozen=True)
class Inputs:
    """What a video is made of, checked and sized.

    Attributes:
        image: the picture at the video's size.
        boxes: one square face box (x, y, width, height) a person, in pixels of `image`.
        voices: one voice a person, in the order of the boxes.
        frames: video frames, 4n+1.
        fps: video frames a second.
    """

    image: Image.Image
    boxes: list[Box]
    voices: list[Voice]
    frames: int
    fps: float

    @property
    def listeners(self) -> list[int]:
        """Indices of the people without a voice; they keep silent by an audio stream of silence."""
        return [index for index, voice in enumerate(self.voices) if voice.name is None]


def prepare_inputs(
    image: Image.Image | str | Path,
    audio: Sequence[Any],
    faces: Sequence[Any] | None,
    settings: PipelineSettings,
    mode: str = "pad",
    fps: float | None = None,
    max_frames: int | None = None,
) -> Inputs:
    """Check and size everything.

    Args:
        image: the picture or its path.
        audio: one entry a person: a path ("talk.wav:left" takes one channel), a 16 kHz array (samples,), a `Voice`, or
            None for a person who only listens.
        faces: who speaks, one choice an audio, see `bind_faces`; None: found.
        settings: sizes of the model.
        mode: "pad": the audios share a clock; "concat": they follow each other.
        fps: video frames a second; None: the model's.
        max_frames: cut the video to at most that many frames.

    Raises:
        InputError: for anything that can't be used, naming it.
    """
    fps = check_number("fps", settings.fps if fps is None else fps, 1, MAX_FPS)
    if mode not in ("pad", "concat"):
        raise InputError(f"mode is {mode!r}; it must be 'pad' (shared clock) or 'concat' (one after another).")
    if isinstance(audio, (str, Path, np.ndarray)):
        raise InputError("audio must be a list with one entry a person, for example ['anna.wav', 'ben.wav'].")
    if all(entry is None for entry in audio):
        raise InputError("No audio was given; give at least one recording, for example --audio voice.wav.")
    picture = load_image(image)
    streams = [None if entry is None else _sound(entry) for entry in audio]
    waveforms = combine(streams, mode)
    names = [name for name in map(_name, audio) if name is not None]
    frames = _frames(len(waveforms[0]) / SAMPLE_RATE, fps, max_frames, names)
    samples = int(round(frames / fps * SAMPLE_RATE))
    boxes = bind_faces(picture, faces, len(waveforms))
    listeners = len(boxes) - len(waveforms)
    voices = [
        Voice(_name(entry), waveform.placed(0, samples))
        for entry, waveform in zip(
            [*audio, *[None] * listeners], [*waveforms, *[Sound(np.zeros(0, np.float32))] * listeners], strict=True
        )
    ]
    height, width = video_size(picture, boxes, settings)
    resized = resize_image(picture, height, width)
    scaled = [square_box(scale_box(box, picture.size, (width, height)), (width, height)) for box in boxes]
    return Inputs(resized, scaled, voices, frames, fps)


def check_number(name: str, value: float, low: float, high: float) -> float:
    """`value` as a float if it lies between `low` and `high`.

    Raises:
        InputError: naming the option, its value and what is allowed.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not low <= number <= high:
        raise InputError(f"{name} is {value}; it must be a number from {low:g} to {high:g}.")
    return number


def video_size(picture: Image.Image, boxes: Sequence[Box], settings: PipelineSettings) -> tuple[int, int]:
    """Height and width of the video: the model's area in the picture's shape, less where faces were too large."""
    area = float(settings.max_area)
    if settings.face_size is not None:
        side = float(np.median([max(box[2], box[3]) for box in boxes]))
        area = min(area, picture.width * picture.height * (settings.face_size / side) ** 2)
    multiple = settings.size_multiple
    if settings.face_size is None:
        return frame_size(picture.height, picture.width, settings.max_area, multiple)
    scale = math.sqrt(area / (picture.width * picture.height))
    sides = [max(multiple, int(round(side * scale / multiple)) * multiple) for side in (picture.height, picture.width)]
    return sides[0], sides[1]


def _frames(seconds: float, fps: float, max_frames: int | None, names: Sequence[str]) -> int:
    frames = frame_count(seconds, fps)
    if max_frames is not None:
        check_number("max_frames", max_frames, MIN_FRAMES, 10**9)
        frames = min(frames, (int(max_frames) - 1) // 4 * 4 + 1)
    if frames < MIN_FRAMES:
        raise InputError(
            f"The sound of {', '.join(names)} lasts {seconds:.3f} s; a video of {fps:g} frames a second needs more "
            f"than {(MIN_FRAMES - 1) / fps:.3f} s. Give a longer recording, or more frames a second."
        )
    return frames


def load_voice(path: str | Path) -> Voice:
    """A recording, or one channel of it ("talk.wav:left"), decoded once for everything that is done with it.

    Raises:
        InputError: see `load_audio`.
    """
    recording = read_recording(path)
    remark = two_voices_remark(path) if recording.two_voices else None
    return Voice(Path(path).name, Sound(recording.samples), remark)


def _sound(entry: Any) -> Sound:
    if isinstance(entry, (str, Path)):
        entry = load_voice(entry)
        if entry.remark:
            warnings.warn(entry.remark, stacklevel=4)
    return entry.waveform if isinstance(entry, Voice) else Sound(audio_array(entry))


def _name(entry: Any) -> str | None:
    if entry is None:
        return None
    if isinstance(entry, Voice):
        return entry.name
    return Path(entry).name if isinstance(entry, (str, Path)) else "array"
