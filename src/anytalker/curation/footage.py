"""A file of raw footage as a stream: upright frames on an even clock, and its sound beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anytalker.errors import InputError, first_line
from anytalker.files import atomic_path
from anytalker.media.containers import (
    LONGEST_GAP,
    UNEVEN,
    check_readable,
    decodable,
    frames_from,
    open_media,
    video_streams,
)
from anytalker.media.recordings import SAMPLE_RATE
from anytalker.media.shown_frames import ShownFrames

FPS = 25
"""Frames a second of curated clips, whatever the footage has (paper)."""
_AT_ONCE = 2**20
"""Samples of silence that are made at a time."""
_WHOLE = 0.98
"""Share of a file that must be there; of short ones, all but a second."""


class StoredSound:
    """Mono sound at 16 kHz in a file of 16-bit samples, read where it is needed."""

    dtype, ndim = np.dtype(np.float32), 1

    def __init__(self, path: Path) -> None:
        self._path, self._length = path, path.stat().st_size // 2

    def __len__(self) -> int:
        return self._length

    @property
    def shape(self) -> tuple[int]:
        """(samples,)."""
        return (self._length,)

    def __getitem__(self, part: slice) -> np.ndarray:
        """A part without steps, float32 (samples,) in [-1, 1]."""
        start, stop, _ = part.indices(self._length)
        values = np.fromfile(self._path, "<i2", count=max(0, stop - start), offset=2 * start)
        return values.astype(np.float32) / np.float32(32768)

    @classmethod
    def write(cls, path: Path, parts: Iterator[np.ndarray]) -> StoredSound:
        """Write parts one after another, whole or not at all."""
        with atomic_path(path) as partial, partial.open("wb") as file:
            for part in parts:
                file.write(np.clip(np.round(part * 32768), -32768, 32767).astype("<i2").tobytes())
        return cls(path)


class DamagedFootage(InputError):
    """A file that breaks off or can't be decoded from some time on; `seconds` is what came before."""

    def __init__(self, message: str, seconds: float = 0.0) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass(frozen=True)
class Footage:
    """A file of footage. Frames are counted on an even clock of `FPS` frames a second from its first picture.

    Attributes:
        path: the file.
        limit: frames of it that are used; None: all.
    """

    path: Path
    limit: int | None = None

    def probe(self) -> tuple[int, int]:
        """Size (width, height) in pixels, upright.

        Raises:
            InputError: if the file holds no video.
        """
        for frame in self.frames(0, 1):
            return frame.shape[1], frame.shape[0]
        raise InputError(f"{self.path.name} holds no frames.")

    def frames(
        self, start: int = 0, end: int | None = None, height: int | None = None, every: int = 1
    ) -> Iterator[np.ndarray]:
        """Frames `start` to `end` (exclusive; None: to the last), or every n-th of them, uint8 RGB (H, W, 3).

        A variable frame rate becomes even by repeating and leaving out frames, rotation is undone, and high dynamic
        range is brought to sRGB.

        Args:
            start, end: frame numbers.
            height: scale to this height at most; the width follows. None: as filmed.
            every: from one frame to the next.

        Raises:
            InputError: if the file is missing or no video.
            DamagedFootage: if it breaks off.
        """
        import av

        check_readable(self.path, f"There is no file {self.path}. Check the path.")
        number = start
        if self.limit is not None:
            end = min(self.limit, end if end is not None else self.limit)
        try:
            with open_media(self.path) as container:
                streams = video_streams(container)
                if not streams:
                    raise InputError(f"{self.path.name} holds no video.")
                stream = streams[0]
                if stream.codec_context is None:
                    raise InputError(f"The video of {self.path.name} is of a kind that can't be decoded.")
                stream.thread_type = "AUTO"
                picture = ShownFrames(stream, height)
                for frame, until in _shown_until(frames_from(container, stream, start / FPS), stream):
                    while (number + 0.5) / FPS < until:
                        if end is not None and number >= end:
                            return
                        if (number - start) % every == 0:
                            yield picture.of(frame)
                        number += 1
                    if number == end:  # the next one may be damaged
                        return
                promised = float(stream.duration * stream.time_base) if stream.duration else 0.0
                if self.limit is None and number / FPS < min(promised - 1, _WHOLE * promised):
                    message = f"{self.path.name} is cut off: {number / FPS:.1f} of {promised:.1f} s can be decoded."
                    raise DamagedFootage(message, number / FPS)
        except (av.FFmpegError, OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            message = f"{self.path.name} is damaged or no video ({_said(error)})."
            raise DamagedFootage(message, number / FPS) from error

    def sound(self) -> Iterator[np.ndarray]:
        """The sound in parts, mono float32 (samples,) at 16 kHz, its first sample heard at the first frame.

        There are no parts if there is no sound; where it breaks off, nothing follows.
        """
        import av

        try:
            with open_media(self.path) as container:
                if not container.streams.audio or not video_streams(container):
                    return
                sound, video = container.streams.audio[0], video_streams(container)[0]
                late = _seconds(sound.start_time, sound) - _seconds(video.start_time, video)
                parts = _placed(_mono(container, sound), round(late * SAMPLE_RATE))
                yield from parts if self.limit is None else _first(parts, round(self.limit / FPS * SAMPLE_RATE))
        except (av.FFmpegError, OSError, InputError):
            return


def _said(error: Exception) -> str:
    """What FFmpeg says of an error, without its number and the path."""
    return getattr(error, "strerror", None) or first_line(error)


def _shown_until(frames: Iterator[Any], stream: Any) -> Iterator[tuple[Any, float]]:
    """(frame, seconds from the first picture at which the next one takes its place)."""
    begin = stream.start_time or 0
    usual = 1 / float(stream.average_rate or FPS)
    previous, shown = None, 0.0
    for frame in frames:
        time = shown + usual if frame.pts is None else float((frame.pts - begin) * stream.time_base)
        if previous is not None and time > shown:
            if time - shown > LONGEST_GAP:
                yield previous, shown + usual
                raise ValueError(f"its time stamps jump by {time - shown:.0f} s")
            yield previous, time
        previous, shown = frame, max(time, shown)
    if previous is not None:
        yield previous, shown + usual


def _seconds(time: int | None, stream: Any) -> float:
    return float((time or 0) * stream.time_base)


def _mono(container: Any, stream: Any) -> Iterator[np.ndarray]:
    """The sound by its time stamps: where some is missing there is silence, so that what follows keeps its time."""
    import av

    resampler = av.AudioResampler(format="flt", rate=SAMPLE_RATE)
    kind: tuple[Any, ...] | None = None
    begin, heard, skip = stream.start_time or 0, 0, 0
    try:
        for frame in decodable(container, stream):
            if frame.pts is not None:
                early = float((frame.pts - begin) * stream.time_base) - heard / SAMPLE_RATE
                missing = round(early * SAMPLE_RATE) if abs(early) > UNEVEN else 0
                if missing > LONGEST_GAP * SAMPLE_RATE:
                    return
                for start in range(0, missing, _AT_ONCE):
                    yield np.zeros(min(_AT_ONCE, missing - start), np.float32)
                heard += max(0, missing)
                skip = max(0, -missing)
            before, kind = kind, (frame.format.name, frame.layout.name, frame.sample_rate)
            rest: list[Any] = []
            if before not in (None, kind):  # broadcasts change between stereo and surround
                rest, resampler = resampler.resample(None), av.AudioResampler(format="flt", rate=SAMPLE_RATE)
            for part in (*rest, *resampler.resample(frame)):
                samples = _mean(part)[skip:]
                skip = max(0, skip - part.samples)
                heard += len(samples)
                yield samples
        for part in resampler.resample(None):
            yield _mean(part)[skip:]
    except (av.FFmpegError, ValueError):
        return  # what was heard before the damage is used


def _mean(part: Any) -> np.ndarray:
    channels = part.to_ndarray().reshape(-1, part.layout.nb_channels)
    return np.nan_to_num(np.clip(channels.mean(axis=1), -1, 1)).astype(np.float32)


def _placed(parts: Iterator[np.ndarray], late: int) -> Iterator[np.ndarray]:
    """The parts, preceded by `late` samples of silence, or with as many cut off if it is below zero."""
    if late > 0:
        yield np.zeros(late, np.float32)
    skip = max(0, -late)
    for part in parts:
        yield part[skip:]
        skip = max(0, skip - len(part))


def _first(parts: Iterator[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    for part in parts:
        yield part[:samples]
        samples -= len(part)
        if samples <= 0:
            return
