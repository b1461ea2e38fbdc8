"""Pictures in H.264, encoded in groups that need no others, so that a later video can copy them as they are."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.codec.context import Flags
from av.video.reformatter import ColorRange, Colorspace

from anytalker.errors import InputError
from anytalker.media.containers import open_media

GROUP = 32
"""Frames of a group."""
_CODEC = "libx264"
_START_CODE = b"\0\0\0\1"


class KeptFrames(NamedTuple):
    """Frames that are copied from an earlier video, where they are the same.

    Attributes:
        start, stop: `stop` exclusive; both at borders of groups, or at the end of both videos.
    """

    start: int
    stop: int


class EarlierPictures:
    """The pictures of a video that `PictureTrack` has written in groups.

    Args:
        path: the MP4.

    Attributes:
        width, height: of its pictures.

    Raises:
        InputError: if it can't be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        try:
            with open_media(path) as container:
                context = container.streams.video[0].codec_context
                self.width, self.height = context.width, context.height
                self._parameters = context.extradata or b""
        except (av.FFmpegError, OSError, IndexError) as error:
            raise InputError(f"{path} can't be read ({error}).") from error

    def fits(self, rate: Fraction, options: dict[str, str]) -> bool:
        """Whether its packets can stand between those of a new encoder with these options: one header is for both."""
        encoder = _new_encoder(self.width, self.height, rate, options)
        encoder.open()
        parameters = [part for part in (encoder.extradata or b"").split(_START_CODE) if part and part[0] & 31 in (7, 8)]
        return bool(parameters) and all(part.rstrip(b"\0") in self._parameters for part in parameters)

    def packets(self, frames: KeptFrames, rate: Fraction) -> Iterator[Any]:
        """Packets of these frames, in the order of decoding, for a file whose encoder is `PictureTrack`'s."""
        with open_media(self.path) as container:
            stream = container.streams.video[0]
            assert stream.time_base is not None
            container.seek(round(frames.start / rate / stream.time_base), stream=stream)
            inside = False
            for packet in container.demux(stream):
                if packet.pts is None:
                    return
                if packet.is_keyframe:
                    frame = round(packet.pts * stream.time_base * rate)
                    if frame >= frames.stop:
                        return
                    inside = frame >= frames.start
                if inside:
                    packet.update(_with_start_codes(bytes(packet)))
                    yield packet


class PictureTrack:
    """The pictures of an MP4: encoded, or copied from an earlier one.

    Args:
        container: of PyAV, to write to.
        rate: frames a second.
        options: of libx264.
        earlier: the video to copy from.

    Attributes:
        count: frames so far.
    """

    def __init__(
        self, container: Any, rate: Fraction, options: dict[str, str], earlier: EarlierPictures | None = None
    ) -> None:
        self._container, self._rate, self._options, self._earlier = container, rate, options, earlier
        self._stream = container.add_stream(_CODEC, rate=rate, options=options)
        self._encoder: Any = self._stream.codec_context
        self._shape: tuple[int, ...] | None = None
        self._running = False
        self._delay: int | None = None
        self._written = 0
        self.count = 0

    def add(self, pixels: np.ndarray) -> Iterator[None]:
        """Encode a frame, uint8 (H, W, 3); yields once.

        Raises:
            InputError: if its sides are odd, or those of the frames before it are others.
        """
        self._begin(pixels.shape)
        if self._encoder is None:
            height, width = pixels.shape[:2]
            self._encoder = _new_encoder(width, height, self._rate, self._options)
        picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        picture.pts, picture.time_base = self.count, 1 / self._rate
        self._running = True
        self._mux(self._encoder.encode(picture))
        self.count += 1
        yield

    def copy(self, frames: KeptFrames) -> Iterator[None]:
        """Take frames from the earlier video, of which `frames.start` is the next one; yields after each."""
        assert self._earlier is not None
        assert frames.start == self.count
        self._begin((self._earlier.height, self._earlier.width, 3))
        self.finish()
        for packet in self._earlier.packets(frames, self._rate):
            self._mux([packet])
            self.count += 1
            yield
        if self.count != frames.stop:
            raise InputError(f"{self._earlier.path} is damaged: frames {frames.start} to {frames.stop} are not whole.")

    def finish(self) -> None:
        """Write what the encoder still holds; a frame after it begins a group."""
        if self._running:
            self._mux(self._encoder.encode(None))
            self._encoder, self._running = None, False

    def _begin(self, shape: tuple[int, ...]) -> None:
        """Make sure that the frame is like the others."""
        if self._shape is None:
            height, width = shape[:2]
            if height % 2 or width % 2:
                raise InputError(f"Frames are {width}×{height}; both sides must be even for H.264.")
            self._shape = shape
            _describe(self._stream.codec_context, width, height, self._rate)
            self._stream.time_base = 1 / self._rate
        elif shape != self._shape:
            raise InputError(
                f"Frame {self.count} is {shape[1]}×{shape[0]}, the ones before it are "
                f"{self._shape[1]}×{self._shape[0]}; all must have one size."
            )

    def _mux(self, packets: Any) -> None:
        for packet in packets:
            packet.stream = self._stream
            frame = 1 / self._rate / packet.time_base
            if self._delay is None:
                self._delay = round((packet.pts - packet.dts) / frame)
            if self._earlier is not None:  # the delay of a stretch that is shorter than it is another one
                packet.dts = round((self._written - self._delay) * frame)
            self._written += 1
            self._container.mux(packet)


def grouped(options: dict[str, str]) -> dict[str, str]:
    """Options of libx264 with which every group of `GROUP` frames can be decoded by itself."""
    return options | {"g": str(GROUP), "keyint_min": str(GROUP), "sc_threshold": "0"}


def _new_encoder(width: int, height: int, rate: Fraction, options: dict[str, str]) -> Any:
    """An encoder whose header is that of a stream in an MP4."""
    encoder = av.CodecContext.create(_CODEC, "w")
    encoder.options = dict(options)
    encoder.framerate = rate
    encoder.flags |= Flags.global_header
    _describe(encoder, width, height, rate)
    return encoder


def _describe(encoder: Any, width: int, height: int, rate: Fraction) -> None:
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.colorspace = Colorspace.ITU601  # what PyAV converts RGB to: say so to the players
    encoder.color_range = ColorRange.MPEG
    encoder.time_base = 1 / rate


def _with_start_codes(data: bytes) -> bytes:
    """A packet of an MP4, whose units follow their lengths, as an encoder gives it; of the same length."""
    parts, place = [], 0
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        parts += [_START_CODE, data[place + 4 : place + 4 + length]]
        place += 4 + length
    return b"".join(parts)
