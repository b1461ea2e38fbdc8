"""Videos in and out through PyAV, and the record of a run."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, Field

from anytalker.conventions import SAMPLE_RATE
from anytalker.errors import InputError
from anytalker.files import atomic_path
from anytalker.media.containers import check_readable, open_media, video_streams
from anytalker.media.marks import add_settings, add_synthetic_mark
from anytalker.media.shown_frames import ShownFrames
from anytalker.media.sound import Samples
from anytalker.media.threads import consume_apart

if TYPE_CHECKING:
    from anytalker.media.picture_groups import EarlierPictures, KeptFrames, PictureTrack

AUDIO_RATE = 48000


class PersonRecord(BaseModel):
    """One person of a run: face box in pixels of the video, audio's name (None: listens), speaking spans in seconds."""

    box_xywh: list[int]
    audio: str | None
    speaking: list[list[float]]


class RunRecord(BaseModel):
    """How a video was made; `width` and `height` in pixels, `seconds` of wall-clock time by stage."""

    version: str = ""
    model: str
    seed: int | None
    settings: dict[str, Any]
    width: int
    height: int
    fps: float
    frames: int
    persons: list[PersonRecord]
    seconds: dict[str, float]
    fingerprint: str | None = Field(default=None, description="Of all that the command line made the video from.")
    timeline: dict[str, Any] | None = Field(
        default=None, description="Who says what when, as `anytalker.timeline.model.Timeline` reads it."
    )
    synthetic: bool = Field(default=True, description="Always true: the video was generated.")

    def model_post_init(self, context: Any) -> None:
        """Fill in the package's version."""
        from anytalker import __version__

        self.version = self.version or __version__


class Stopwatch:
    """Collects wall-clock seconds by stage in `seconds`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def copy(self) -> Stopwatch:
        """Another one with the same seconds, which goes on by itself."""
        other = Stopwatch()
        other.seconds = dict(self.seconds)
        return other

    @contextmanager
    def stage(self, name: str, besides: str | None = None) -> Iterator[None]:
        """Add the time spent inside to a stage, less what another stage inside of it took."""
        started, other = time.monotonic(), self.seconds.get(besides or "", 0.0)
        try:
            yield
        finally:
            spent = time.monotonic() - started - (self.seconds.get(besides or "", 0.0) - other)
            self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 3)


def write_video(
    path: str | Path,
    frames: np.ndarray | Iterable[np.ndarray | KeptFrames],
    fps: float | Fraction,
    audio: np.ndarray | Samples | None = None,
    sample_rate: int = SAMPLE_RATE,
    quality: int = 16,
    metadata: Mapping[str, str] | None = None,
    preset: str = "medium",
    synthetic: bool = True,
    chapters: Sequence[tuple[str, float, float]] = (),
    settings: str | None = None,
    groups: bool = False,
    earlier: EarlierPictures | None = None,
) -> None:
    """Write an MP4 with H.264 video and AAC sound, marked as synthetic; the file appears whole or not at all.

    Pictures and sound lie side by side in the file, so it plays while it loads, and memory does not
    grow with the number of frames. Frames are encoded in a thread of its own, while the iterator makes the next ones.

    Args:
        path: where the file goes.
        frames: uint8 or float in [0, 1] (beyond is clipped), even sides, all of one size: an array (T, H, W, 3), or an
            iterator of frames (H, W, 3) or of chunks (t, H, W, 3), consumed as it is encoded.
        fps: frames a second, 0.1 to 1000.
        audio: float in [-1, 1] (beyond is clipped), (samples,) or (samples, 1 or 2 channels), cut or padded with
            silence to the video's length, read as it is encoded; None: no sound.
        sample_rate: samples a second of the audio.
        quality: constant rate factor of the encoder, lower is better.
        metadata: more tags, such as "title".
        preset: of the encoder: "superfast" takes a third of the time and makes files half as large again.
        synthetic: whether metadata says that the video is synthetic (comment, description, XMP); False for cut footage.
        chapters: title, start and end in seconds of each, in order; a PyAV without `set_chapters` writes none.
        settings: JSON of how the video was made, kept inside of it, see `anytalker.media.marks.read_settings`.
        groups: encode in groups of `picture_groups.GROUP` frames, which later videos can copy.
        earlier: where `KeptFrames` among the frames are copied from; all others then come in whole groups.

    Raises:
        InputError: for a frame rate, frames or audio that can't be encoded, or an unwritable path.
    """
    # Long because its arguments need explaining.
    import av

    from anytalker.media.picture_groups import PictureTrack

    rate = exact_rate(fps)
    samples = None if audio is None else _checked_sound(audio, sample_rate)
    tags = dict(metadata or {})
    if synthetic:
        tags |= {"comment": synthetic_note(), "description": synthetic_note()}
    try:
        with atomic_path(path) as partial:
            with av.open(f"file:{partial}", "w", format="mp4", options={"movflags": "+faststart"}) as container:
                container.metadata.update(tags)
                if chapters and hasattr(container, "set_chapters"):
                    container.set_chapters(_chapters(chapters))
                video = PictureTrack(container, rate, encoder_options(quality, preset, groups), earlier)
                sound = None if samples is None else _SoundTrack(container, samples, sample_rate)
                consume_apart(frames, lambda arriving: _encode_frames(video, arriving, rate, sound))
                if sound is not None:
                    sound.finish()
            _mark(partial, synthetic, settings)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error}. Choose another place or free some space.") from error


def _mark(path: Path, synthetic: bool, settings: str | None) -> None:
    """Add what a finished MP4 says of itself to programs."""
    if synthetic:
        add_synthetic_mark(path)
    if settings is not None:
        add_settings(path, settings)


def encoder_options(quality: int = 16, preset: str = "medium", groups: bool = False) -> dict[str, str]:
    """What libx264 is told; see `write_video`."""
    from anytalker.media.picture_groups import grouped

    # x264's macroblock trees give the same frames other bytes now and then.
    options = {"crf": str(quality), "preset": preset, "x264-params": "mbtree=0"}
    return grouped(options) if groups else options


def _chapters(chapters: Sequence[tuple[str, float, float]]) -> list[dict[str, Any]]:
    """Chapters as PyAV has them, in milliseconds."""
    return [
        {
            "id": number,
            "start": round(1000 * start),
            "end": round(1000 * end),
            "time_base": Fraction(1, 1000),
            "metadata": {"title": title},
        }
        for number, (title, start, end) in enumerate(chapters, start=1)
    ]


def synthetic_note() -> str:
    """What every video says of itself in its metadata."""
    from anytalker import __version__

    return f"Synthetic video: generated by AnyTalker {__version__}, nobody in it said or did this."


def exact_rate(fps: float | Fraction) -> Fraction:
    """Frames a second as files have them.

    Raises:
        InputError: if it isn't from 0.1 to 1000.
    """
    try:
        valid = 0.1 <= float(fps) <= 1000
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise InputError(f"fps is {fps}; it must be a number from 0.1 to 1000 frames a second.")
    exact = fps if isinstance(fps, Fraction) else Fraction(float(fps))
    return exact.limit_denominator(1001)  # 30000/1001 and its like stay exact


def _encode_frames(
    video: PictureTrack, frames: Iterable[np.ndarray | KeptFrames], rate: Fraction, sound: _SoundTrack | None
) -> None:
    for item in _single_frames(frames):
        for _ in video.copy(item) if isinstance(item, tuple) else video.add(item):
            if sound is not None:
                sound.write_until(video.count / rate)
    if video.count == 0:
        raise InputError("There are no frames to write.")
    video.finish()


class _SoundTrack:
    """Encodes samples, (samples,) or (samples, channels), up to one moment after the other, then silence."""

    def __init__(self, container: Any, samples: np.ndarray | Samples, sample_rate: int) -> None:
        import av

        self._layout = "mono" if samples.ndim == 1 or samples.shape[1] == 1 else "stereo"
        self._container, self._samples, self._sample_rate = container, samples, sample_rate
        self._stream = container.add_stream("aac", rate=AUDIO_RATE, layout=self._layout)
        self._resampler = av.AudioResampler(format="fltp", layout=self._layout, rate=AUDIO_RATE, frame_size=1024)
        self._position = 0

    def write_until(self, seconds: Fraction) -> None:
        """Encode what is still missing up to that time from the start."""
        import av

        end = round(seconds * self._sample_rate)
        while self._position < end:
            stop = min(end, self._position + self._sample_rate)
            part = self._part(self._position, stop)
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=self._layout)
            frame.sample_rate, frame.time_base = self._sample_rate, Fraction(1, self._sample_rate)
            frame.pts = self._position
            self._encode(self._resampler.resample(frame))
            self._position = stop

    def _part(self, start: int, stop: int) -> np.ndarray:
        given = np.asarray(self._samples[start:stop])
        if not np.isfinite(given).all():
            raise InputError("The audio holds values that are not numbers.")
        columns = given[:, None] if given.ndim == 1 else given
        part = np.zeros((1 if self._layout == "mono" else 2, stop - start), dtype=np.float32)
        part[:, : len(given)] = np.clip(columns.T, -1, 1)
        return part

    def finish(self) -> None:
        """Encode what the resampler and the encoder still hold."""
        self._encode(self._resampler.resample(None))
        self._container.mux(self._stream.encode(None))

    def _encode(self, frames: Iterable[Any]) -> None:
        for frame in frames:
            self._container.mux(self._stream.encode(frame))


def _checked_sound(audio: np.ndarray | Samples, sample_rate: int) -> np.ndarray | Samples:
    samples = audio if isinstance(audio, Samples) else np.asarray(audio)
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and samples.shape[1] not in (1, 2)):
        raise InputError(f"The audio has shape {samples.shape}; it must be (samples,) or (samples, 1 or 2 channels).")
    if not np.issubdtype(samples.dtype, np.floating):
        raise InputError(f"The audio is {samples.dtype}; it must be float in [-1, 1].")
    if not 1000 <= sample_rate <= 384000:
        raise InputError(f"The audio's sample rate is {sample_rate}; it must be from 1000 to 384000 Hz.")
    return samples


def _single_frames(frames: Iterable[np.ndarray | KeptFrames]) -> Iterator[np.ndarray | KeptFrames]:
    for item in frames:
        if isinstance(item, tuple):
            yield item
            continue
        pixels = np.asarray(item)
        yield from (_eight_bit(frame) for frame in (pixels if pixels.ndim == 4 else [pixels]))
        del item, pixels  # before the next ones are made


def _eight_bit(frame: np.ndarray) -> np.ndarray:
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise InputError(f"A frame has shape {frame.shape}; it must be (height, width, 3).")
    if frame.dtype == np.uint8:
        return np.ascontiguousarray(frame)
    if not np.issubdtype(frame.dtype, np.floating):
        raise InputError(f"A frame is {frame.dtype}; it must be uint8, or float in [0, 1].")
    if not np.isfinite(frame).all():
        raise InputError("A frame holds values that are not numbers.")
    return np.ascontiguousarray(np.round(np.clip(frame, 0, 1) * 255).astype(np.uint8))


def read_video(path: str | Path, max_frames: int | None = None) -> tuple[np.ndarray, float]:
    """Decode a video as players show it, at most its first `max_frames`: uint8 RGB (T, H, W, 3), and frames a second;
    for its sound see `load_audio`.

    Raises:
        InputError: if the file is missing, or holds no video that can be decoded.
    """
    import av

    check_readable(Path(path), f"There is no video {path}. Check the path.")
    try:
        with open_media(path) as container:
            streams = video_streams(container)
            if not streams:
                raise InputError(f"{path} holds no video.")
            stream = streams[0]
            shown = ShownFrames(stream)
            frames = [shown.of(frame) for frame in itertools.islice(container.decode(stream), max_frames)]
            fps = float(stream.average_rate or 0)
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} can't be decoded: it is no video, or it is damaged ({error}).") from error
    if not frames:
        raise InputError(f"{path} holds no frames.")
    return np.stack(frames), fps
