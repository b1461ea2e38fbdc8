"""From what the user gives to `Inputs`: read and checked here, once, then brought to the video's size and length.

`read_scene` opens the picture and the recordings and finds out who is who; `fit_scene` resizes the picture, puts the
voices on one clock and settles how many frames there are. Neither runs a model, but for face detection.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anytalker.conditioning.binding import FaceMask, People, bind_faces, is_box, parse_face
from anytalker.conditioning.drawn import looks_photographed
from anytalker.conditioning.faces import scale_box, square_box, square_face
from anytalker.conditioning.picture_record import recorded_faces
from anytalker.conventions import PixelBox
from anytalker.denoising.windows import check_positions, with_window
from anytalker.errors import InputError
from anytalker.media.channels import split_channel, two_voices_remark
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
from anytalker.pipelines.limits import MIN_FRAMES, check_size, check_strengths
from anytalker.pipelines.options import GenerationOptions
from anytalker.timeline.model import Timeline

_SHAPE_TOLERANCE = 0.05


@dataclass(frozen=True)
class Voice:
    """One person's audio: `waveform` (samples,) at 16 kHz, in `Inputs` all of one length; `name` for the record;
    `remark`: a warning about the recording; `vocals`: the voice alone, if a separator was used; `file`: its path."""

    name: str | None
    waveform: Sound
    remark: str | None = None
    vocals: Sound | None = None
    file: str | None = None


@dataclass(frozen=True)
class Framing:
    """A picture at some size, and one square face box (x, y, width, height) a person, in its pixels."""

    image: Image.Image
    boxes: list[PixelBox]


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
        timeline: who says what when, if the voices come from one.
        subtitles: "burn": texts are drawn into the frames; "srt": they lie beside; speakers are chapters in both.
        small: picture and faces at the size of the decoded frames, where these are enlarged; None: they aren't.
        areas: float32 (3, H, W), where a photograph moves, if a model that has only seen drawn people enlarges its
            frames, see `moving_areas`; else None.
    """

    image: Image.Image
    boxes: list[PixelBox]
    voices: list[Voice]
    frames: int
    fps: float
    mode: str = "pad"
    picture: Image.Image | None = None
    faces: list[PixelBox] | None = None
    timeline: Timeline | None = None
    subtitles: str | None = None
    small: Framing | None = None
    areas: np.ndarray | None = None

    @property
    def decoded(self) -> Framing:
        """Picture and faces at the size of the decoded frames, as the model sees them."""
        return Framing(self.image, self.boxes) if self.small is None else self.small

    @property
    def listeners(self) -> list[int]:
        """Indices of the people without a voice; they keep silent by an audio stream of silence."""
        return [index for index, voice in enumerate(self.voices) if voice.name is None]


@dataclass(frozen=True)
class Scene:
    """The picture and the voices as they were given, and the faces that the voices belong to.

    Attributes:
        picture: the picture.
        voices: one entry a person with an audio, None for one who listens.
        people: face boxes (x, y, width, height) of everybody, first of those with an audio, in the order of these.
        timeline: who says what when, if the voices come from one; its people are those with an audio.
        subtitles: see `Inputs`.
    """

    picture: Image.Image
    voices: list[Voice | None]
    people: People
    timeline: Timeline | None = None
    subtitles: str | None = None


def read_scene(
    image: Image.Image | str | Path,
    audio: Sequence[Any],
    faces: Sequence[Any] | None = None,
    at: float | None = None,
    say: Callable[[str], None] | None = None,
) -> Scene:
    """Read the picture and the voices, and assign voices to faces.

    Args:
        image: the picture or its path.
        audio: one entry a person: a path ("talk.wav:left" takes one channel), a 16 kHz array (samples,), a `Voice`, or
            None for a person who only listens.
        faces: who speaks, one choice an audio, see `bind_faces`; None: from the left. Where faces are sought, those
            of a record beside the picture are taken, see `recorded_faces`.
        at: of a video as the picture, the frame shown at that time in seconds; None: the first that isn't black.
        say: called with each remark; None: remarks on recordings are warnings, others are dropped.

    Raises:
        InputError: for anything that can't be used, naming it.
    """
    if isinstance(image, (list, tuple)):
        raise InputError(
            f"There are {len(image)} pictures; a call makes videos of one. Many scenes are jobs:  anytalker batch"
        )
    check_list(audio)
    if all(entry is None for entry in audio):
        raise InputError("No audio was given; give at least one recording, for example --audio voice.wav.")
    picture = load_image(image, at)
    if faces is not None and not isinstance(faces, People):
        faces = [parse_face(face) if isinstance(face, str) else face for face in faces]
    voices = _voices(audio, say or (lambda message: warnings.warn(message, stacklevel=6)))
    say = say or (lambda message: None)
    sought = faces is None or not all(is_box(face) for face in faces)
    known = recorded_faces(image, picture.size, say) if sought and isinstance(image, (str, Path)) else None
    return Scene(picture, voices, People(bind_faces(picture, faces, len(voices), say, known)))


def check_list(audio: Any) -> None:
    """Make sure that recordings are a list.

    Raises:
        InputError: for a single recording.
    """
    if isinstance(audio, (str, Path, np.ndarray)):
        raise InputError("audio must be a list with one entry a person, for example ['anna.wav', 'ben.wav'].")


def fit_scene(scene: Scene, settings: PipelineSettings, options: GenerationOptions = GenerationOptions()) -> Inputs:
    """Bring a scene to the size, length and clock of the video.

    Args:
        scene: what is shown and played.
        settings: sizes of the model.
        options: mode, frames a second, length, size and rounding are taken of them.

    Raises:
        InputError: if what was given doesn't go together, or not with the model.
    """
    check_strengths(options.voice_strengths, len(scene.people))
    fps = settings.fps if options.fps is None else options.fps
    waveforms = combine([voice.waveform if voice else None for voice in scene.voices], options.mode)
    names = [voice.name for voice in scene.voices if voice is not None and voice.name is not None]
    frames = _frames(len(waveforms[0]) / SAMPLE_RATE, fps, options.max_frames, names, options.rounding)
    samples = int(round(frames / fps * SAMPLE_RATE))
    listeners = [Sound(np.zeros(0, np.float32))] * (len(scene.people) - len(waveforms))
    voices = [
        Voice(voice.name if voice else None, waveform.placed(0, samples), file=voice.file if voice else None)
        for voice, waveform in zip_longest(scene.voices, [*waveforms, *listeners])
    ]
    factor = settings.upscale if options.upscale else 1
    height, width = video_size(scene.picture, scene.people, settings.enlarged(factor), options.size, options.scale)
    small = _framed(scene, height // factor, width // factor)
    check_positions(frames, small.image.size, with_window(settings, options.window))
    shown = small if factor == 1 else _framed(scene, height, width)
    return Inputs(
        shown.image,
        shown.boxes,
        voices,
        frames,
        fps,
        options.mode,
        picture=scene.picture,
        faces=[square_face(box, scene.picture.size) for box in scene.people],
        timeline=scene.timeline,
        subtitles=scene.subtitles,
        small=None if factor == 1 else small,
        areas=_areas(shown) if factor > 1 and photograph_of_drawn(scene, settings) else None,
    )


def photograph_of_drawn(scene: Scene, settings: PipelineSettings) -> bool:
    """Whether a model that has only seen drawn people is given a photograph."""
    return settings.trained_on == "drawn" and looks_photographed(scene.picture, scene.people)


def _areas(shown: Framing) -> np.ndarray:
    from anytalker.conditioning.face_mesh.photographed import moving_areas

    return moving_areas(np.asarray(shown.image), shown.boxes)


def _framed(scene: Scene, height: int, width: int) -> Framing:
    """A scene's picture and faces at a size."""
    scaled = (scale_box(box, scene.picture.size, (width, height)) for box in scene.people)
    boxes = [square_box(box, (width, height)) for box in scaled]
    return Framing(resize_image(scene.picture, height, width), boxes)


def prepare_inputs(
    image: Image.Image | str | Path,
    audio: Sequence[Any],
    faces: Sequence[Any] | None,
    settings: PipelineSettings,
    options: GenerationOptions = GenerationOptions(),
    at: float | None = None,
) -> Inputs:
    """Read a scene and fit it to the model: `read_scene` and `fit_scene` at once."""
    return fit_scene(read_scene(image, audio, faces, at), settings, options)


def input_files(image: Any, audio: Sequence[Any], faces: Sequence[Any] | None) -> list[str | Path]:
    """The files among what a video is made from: picture, recordings ("talk.wav" of "talk.wav:left") and masks.

    Raises:
        InputError: see `check_list`.
    """
    check_list(audio)
    recordings = [split_channel(voice)[0] for voice in audio if isinstance(voice, (str, Path))]
    names = [face.name if isinstance(face, FaceMask) else face for face in (() if faces is None else faces)]
    masks = [name for name in names if isinstance(name, str)]
    return [*recordings, *([image] if isinstance(image, (str, Path)) else []), *masks]


def shared_settings(settings: PipelineSettings, devices: int) -> PipelineSettings:
    """Settings for a video that several devices share: each takes the same number of token rows."""
    return replace(settings, size_multiple=math.lcm(settings.size_multiple, 16 * devices))


def video_size(
    picture: Image.Image,
    boxes: Sequence[PixelBox],
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


def _usual_size(picture: Image.Image, boxes: Sequence[PixelBox], settings: PipelineSettings) -> tuple[int, int]:
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


def _frames(seconds: float, fps: float, max_frames: int | None, names: Sequence[str], rounding: str) -> int:
    frames = covering_frame_count(seconds, fps) if rounding == "up" else frame_count(seconds, fps)
    if max_frames is not None:
        frames = min(frames, (max_frames - 1) // 4 * 4 + 1)
    if frames < MIN_FRAMES:
        least = 1 if rounding == "up" else MIN_FRAMES - 1
        raise InputError(
            f"The sound of {', '.join(names)} lasts {seconds:.3f} s; a video of {fps:g} frames a second needs more "
            f"than {least / fps:.3f} s. Give a longer recording, or more frames a second."
        )
    return frames


def load_voice(path: str | Path) -> Voice:
    """Decode a recording, or one channel of it ("talk.wav:left").

    Raises:
        InputError: see `load_audio`.
    """
    recording = read_recording(path)
    remark = two_voices_remark(path) if recording.two_voices else None
    return Voice(Path(path).name, Sound(recording.samples), remark, file=str(path))


def _voices(audio: Sequence[Any], say: Callable[[str], None]) -> list[Voice | None]:
    """The voices of people; a recording that several of them share is read once."""
    read: dict[str, Voice] = {}
    voices: list[Voice | None] = []
    for entry in audio:
        if isinstance(entry, (str, Path)):
            path = str(entry)
            if path not in read:
                read[path] = load_voice(entry)
                if read[path].remark:
                    say(str(read[path].remark))
            entry = read[path]
        elif entry is not None and not isinstance(entry, Voice):
            entry = Voice("array", Sound(audio_array(entry)))
        voices.append(entry)
    return voices
