"""A still of a video: its first frame that is not black, or the one shown at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anytalker.errors import InputError
from anytalker.media.color import HLG, PQ, tone_mapped
from anytalker.media.containers import frames_from, open_media, video_streams
from anytalker.media.shown_frames import pixel_aspect

_BLACK = 24
"""Brightness, of 255, that hardly anything of a black frame goes beyond."""
_SEARCHED_SECONDS = 10.0


def video_still(path: str | Path, at: float | None = None, max_pixels: int = 120_000_000) -> Image.Image | None:
    """A frame of a video, upright, in sRGB, its pixels square; None if the file is no video.

    Args:
        path: the file.
        at: seconds from its beginning; None: the first frame that isn't black.
        max_pixels: larger frames are not decoded.

    Raises:
        InputError: if it is damaged, too large, black for 10 seconds, or shorter than `at`.
    """
    import av

    try:
        media = open_media(path)
    except (InputError, av.FFmpegError):
        return None
    try:
        with media as container:
            streams = video_streams(container)
            if not streams or streams[0].codec_context is None:
                return None
            width, height = streams[0].codec_context.width, streams[0].codec_context.height
            if width * height > max_pixels:
                raise InputError(
                    f"{path} is {width}×{height} pixels; at most {max_pixels // 10**6} million are allowed. "
                    "Make it smaller."
                )
            frames = _timed(container, streams[0], at or 0.0)
            frame = _first_bright(frames, path) if at is None else _shown(frames, at, path)
            return _as_picture(frame, streams[0])
    except InputError:
        raise
    except (av.FFmpegError, ValueError) as error:
        raise InputError(f"The video {path} is damaged or cut off ({error}). Export it again, as MP4.") from error


def _timed(container: Any, stream: Any, at: float) -> Iterator[tuple[float, float, Any]]:
    """(start, end, frame) from a key frame before a time on, in seconds from the beginning of the video."""
    begin = stream.start_time or 0
    usual = 1 / float(stream.average_rate or 25)
    time = 0.0
    for frame in frames_from(container, stream, at):
        if frame.pts is not None:
            time = float((frame.pts - begin) * stream.time_base)
        length = float((frame.duration or 0) * stream.time_base) or usual
        yield time, time + length, frame
        time += length


def _first_bright(frames: Iterator[tuple[float, float, Any]], path: str | Path) -> Any:
    seen = False
    for start, _, frame in frames:
        seen = True
        if start > _SEARCHED_SECONDS:
            break
        grey = frame.reformat(width=64, height=64, format="gray").to_ndarray()
        if np.quantile(grey, 0.98) > _BLACK:
            return frame
    if not seen:
        raise InputError(f"The video {path} holds no frame that can be decoded. Export it again, as MP4.")
    raise InputError(
        f"The video {path} is black for its first {_SEARCHED_SECONDS:g} s, or throughout. "
        "Choose a moment with --at SECONDS."
    )


def _shown(frames: Iterator[tuple[float, float, Any]], at: float, path: str | Path) -> Any:
    shown, ends = None, 0.0
    for start, end, frame in frames:
        if start > at + 1e-4 and shown is not None:
            return shown
        shown, ends = frame, end
    if shown is None or at > ends:
        length = "" if shown is None else f": it lasts {ends:.2f} s"
        raise InputError(f"The video {path} has no frame at {at:g} s{length}. Choose an earlier moment.")
    return shown


def _as_picture(frame: Any, stream: Any) -> Image.Image:
    transfer = int(frame.color_trc)
    if transfer in (PQ, HLG):
        deep = frame.reformat(format="rgb48le").to_ndarray()
        image = Image.fromarray(tone_mapped(deep, transfer, int(frame.color_primaries)))
    else:
        image = Image.fromarray(frame.reformat(format="rgb24").to_ndarray())
    aspect = pixel_aspect(stream)
    if aspect != 1:
        image = image.resize((round(image.width * aspect), image.height), Image.Resampling.LANCZOS)
    turn = round(frame.rotation / 90) % 4
    quarters = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)[turn]
    return image if quarters is None else image.transpose(quarters)


def stream_transfer(path: str | Path) -> tuple[int, int] | None:
    """Transfer and primaries (ITU-T H.273) of the first pictures in a file; None where nothing is said of them."""
    import av

    try:
        with open_media(path) as container:
            context = container.streams.video[0].codec_context
            return int(context.color_trc), int(context.color_primaries)
    except (av.FFmpegError, InputError, IndexError, AttributeError, ValueError, TypeError):
        return None
