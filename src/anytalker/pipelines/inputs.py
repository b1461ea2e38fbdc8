"""The door: everything a caller gives is checked here, once, and brought into the pipeline's shapes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from anytalker.conditioning.binding import bind_faces
from anytalker.conditioning.faces import Box, scale_box, square_box, square_face
from anytalker.conditioning.picture_record import recorded_faces
from anytalker.errors import InputError
from anytalker.media.channels import two_voices_remark
from anytalker.media.pictures import frame_size, load_image, resize_image
from anytalker.media.recordings import (
    SAMPLE_RATE,
    audio_array,
    combine,
    covering_frame_count,
    frame_count,
    read_recording,
)
from anytalker.media.sound import Sound
from anytalker.models.settings import PipelineSettings
from anytalker.pipelines.limits import MAX_FPS, MIN_FRAMES, check_number, check_size

Rounding = Literal["up", "release"]
"""Whether the frames, 4n+1, cover all of the sound, or are the largest number within it as in the release."""
_SHAPE_TOLERANCE = 0.05


@dataclass(frozen=True)
class Voice:
    """One person's audio: `waveform` (samples,) at 16 kHz, in `Inputs` all of one length; `name` for the record;
    `remark` on what is no mistake but may be one; `vocals` what a separator took out of the recording."""

    name: str | None
    waveform: Sound
    remark: str | None = None
    vocals: Sound | None = None


@dataclass(frozen=True)
class Inputs:
    """What a video is made of, checked and sized.

    Attributes:
        image: the picture at the video's size.
        boxes: one square face box (x, y, width, height) a person, in pixels of `image`.
        voices: one voice a person, in the order of the boxes.
        frames: video frames, 4n+1.
        fps: video frames a second.
        mode: "pad" or "concat", how the recordings lie in time.
        picture: the picture as it was given; None: `image`.
        faces: the same faces as `boxes`, in pixels of `picture`; None: `boxes`.
    """

    image: Image.Image
    boxes: list[Box]
    voices: list[Voice]
    frames: int
    fps: float
    mode: str = "pad"
    picture: Image.Image | None = None
    faces: list[Box] | None = None

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
    size: tuple[int, int] | None = None,
    scale: float | None = None,
    rounding: Rounding = "up",
) -> Inputs:
    """Check and size everything.

    Args:
        image: the picture or its path.
        audio: one entry a person: a path ("talk.wav:left" takes one channel), a 16 kHz array (samples,), a `Voice`, or
            None for a person who only listens.
        faces: who speaks, one choice an audio, see `bind_faces`; None: from the left. Where faces are sought, those
            of a record beside the picture are taken, see `recorded_faces`.
        settings: sizes of the model.
        mode: "pad": the audios share a clock; "concat": they follow each other.
        fps: video frames a second; None: the model's.
        max_frames: cut the video to at most that many frames.
        size: width and height of the video in pixels, of the picture's shape; None: the model's, see `video_size`.
        scale: make the sides of the video that many times the model's.
        rounding: "up": the video lasts as long as the sound, or by less than 4 frames longer; "release": it may end
            up to 4 frames before the sound.

    Raises:
        InputError: for anything that can't be used, naming it.
    """
    check_size(size, scale)
    if rounding not in ("up", "release"):
        raise InputError(f"rounding is {rounding!r}; it must be 'up' (no sound is cut) or 'release'.")
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
    frames = _frames(len(waveforms[0]) / SAMPLE_RATE, fps, max_frames, names, rounding)
    samples = int(round(frames / fps * SAMPLE_RATE))
    known = recorded_faces(image, picture.size) if isinstance(image, (str, Path)) else None
    bound = bind_faces(picture, faces, len(waveforms), known=known)
    listeners = len(bound) - len(waveforms)
    voices = [
        Voice(_name(entry), waveform.placed(0, samples))
        for entry, waveform in zip(
            [*audio, *[None] * listeners], [*waveforms, *[Sound(np.zeros(0, np.float32))] * listeners], strict=True
        )
    ]
    height, width = video_size(picture, bound, settings, size, scale)
    resized = resize_image(picture, height, width)
    scaled = [square_box(scale_box(box, picture.size, (width, height)), (width, height)) for box in bound]
    squares = [square_face(box, picture.size) for box in bound]
    return Inputs(resized, scaled, voices, frames, fps, mode, picture, squares)


def video_size(
    picture: Image.Image,
    boxes: Sequence[Box],
    settings: PipelineSettings,
    size: tuple[int, int] | None = None,
    scale: float | None = None,
) -> tuple[int, int]:
    """Height and width of the video: the model's area in the picture's shape, less where faces were too large.

    Args:
        picture: the picture.
        boxes: face boxes (x, y, width, height) in it.
        settings: sizes of the model.
        size: width and height instead; they must have the picture's shape.
        scale: make the sides that many times as long.

    Raises:
        InputError: for a size that is not of the picture's shape, or no multiple of what the model works on.
    """
    if size is not None:
        _check_shape(size, picture.size, settings.size_multiple)
        return size[1], size[0]
    sides = _usual_size(picture, boxes, settings)
    if scale is None or scale == 1:
        return sides
    tall, wide = (max(1, round(side * scale / settings.size_multiple)) * settings.size_multiple for side in sides)
    try:
        check_size((wide, tall), None)
    except InputError as error:
        raise InputError(f"--scale {scale:g} would make a video of {wide}×{tall} pixels. {error}") from error
    return tall, wide


def _usual_size(picture: Image.Image, boxes: Sequence[Box], settings: PipelineSettings) -> tuple[int, int]:
    multiple = settings.size_multiple
    if settings.face_size is None:
        return frame_size(picture.height, picture.width, settings.max_area, multiple)
    side = float(np.median([max(box[2], box[3]) for box in boxes]))
    area = min(float(settings.max_area), picture.width * picture.height * (settings.face_size / side) ** 2)
    scale = math.sqrt(area / (picture.width * picture.height))
    sides = [max(multiple, int(round(side * scale / multiple)) * multiple) for side in (picture.height, picture.width)]
    return sides[0], sides[1]


def _check_shape(size: tuple[int, int], picture: tuple[int, int], multiple: int) -> None:
    """Make sure that a picture can be brought to a size without being squeezed by more than 5% or half a multiple."""
    ratio = picture[0] / picture[1]
    width, height = size
    fits = (
        abs(width / height / ratio - 1) <= _SHAPE_TOLERANCE
        or min(abs(width - height * ratio), abs(height - width / ratio)) <= multiple / 2
    )
    if fits and width % multiple == 0 and height % multiple == 0:
        return

    def whole(side: float) -> int:
        return max(1, round(side / multiple)) * multiple

    nearest = dict.fromkeys([(whole(width), whole(width / ratio)), (whole(height * ratio), whole(height))])
    shapes = " or ".join(f"{wide}x{tall}" for wide, tall in nearest)
    shape = f"is not of the picture's shape ({picture[0]}×{picture[1]})"
    reason = f"is no multiple of {multiple}" if fits else shape
    raise InputError(f"--size {width}x{height} {reason}; the nearest that fit are {shapes}.")


def _frames(seconds: float, fps: float, max_frames: int | None, names: Sequence[str], rounding: Rounding) -> int:
    frames = covering_frame_count(seconds, fps) if rounding == "up" else frame_count(seconds, fps)
    if max_frames is not None:
        check_number("max_frames", max_frames, MIN_FRAMES, 10**9)
        frames = min(frames, (int(max_frames) - 1) // 4 * 4 + 1)
    if frames < MIN_FRAMES:
        least = 1 if rounding == "up" else MIN_FRAMES - 1
        raise InputError(
            f"The sound of {', '.join(names)} lasts {seconds:.3f} s; a video of {fps:g} frames a second needs more "
            f"than {least / fps:.3f} s. Give a longer recording, or more frames a second."
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
