"""Opening recordings and videos of any kind: one file, read by its content, that can't make us read another."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from anytalker.errors import InputError

FORMATS = (
    "aac,aa,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,dv,eac3,flac,flv,"
    "gsm,h264,hevc,ircam,ivf,loas,m4v,matroska,mjpeg,mlp,mov,mp3,mpc,mpc8,mpeg,mpegts,"
    "mpegvideo,mxf,nistsphere,nut,ogg,oma,qcp,rm,sbc,shn,sox,tak,truehd,tta,voc,w64,wav,"
    "wsd,wtv,wv,xwma"
)
"""FFmpeg's names of the containers that are read: those that hold their sound and pictures themselves.

Playlists and stream descriptions (HLS, DASH, concat, SDP and their like) are left out: they name files and addresses
that would be opened, too.
"""

VIDEO_SUFFIXES = (
    *(".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv"),
    *(".m2ts", ".m2t", ".mxf", ".3gp", ".vob", ".ogv"),
)
"""Endings of the names of videos, by which folders are searched for them."""
LONGEST_GAP = 3600.0
"""Seconds that a frame may stay on screen, or that sound may be missing; a larger gap means broken time stamps."""
UNEVEN = 0.08
"""Seconds by which time stamps of sound may be off before they count; less is the rounding of containers."""
_BACK = (0.5, 3.0, 15.0)
"""Seconds before a moment at which its key frame is looked for, one after another: most files have one in two."""
_UNSETTLED = 1.0
"""Seconds after a search in a program stream in which FFmpeg guesses the times of frames."""


def open_media(path: str | Path) -> Any:
    """A file as PyAV's input container, for use with `with`.

    The name is never taken for an address, whatever colons it holds, and nothing but this file is opened.

    Raises:
        InputError: if the file is of a kind that is not read.
        av.FFmpegError: if it is of no known kind, or is damaged.
    """
    import av

    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    try:
        return av.open(f"file:{path}", container_options=options, metadata_errors="replace")
    except av.ArgumentError as error:  # so FFmpeg answers where the kind is not on the list
        raise InputError(
            f"{path} can't be decoded: it is a playlist, or neither recording nor video. Give the file itself, "
            "such as a WAV, MP3 or MP4."
        ) from error


def check_readable(path: Path, missing: str) -> None:
    """Make sure that a file is there and can be read.

    Args:
        path: the file.
        missing: what to say if it isn't there.

    Raises:
        InputError: if it isn't there, is no file, or can't be read.
    """
    try:
        if path.is_file():
            path.open("rb").close()
            return
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from error
    raise InputError(missing)


def video_streams(container: Any) -> list[Any]:
    """The videos of a file, without cover pictures, which are streams of one frame, too."""
    return [stream for stream in container.streams.video if not _is_cover(stream)]


def _is_cover(stream: Any) -> bool:
    return "attached_pic" in str(getattr(stream.disposition, "name", None) or stream.disposition)


def decodable(container: Any, stream: Any, most_bad: int | None = None) -> Iterator[Any]:
    """All frames of a stream but those of packets that can't be decoded: bad reception, or tags at the end of an MP3.

    Args:
        container: the file.
        stream: of it.
        most_bad: packets that may be bad; None: any number.

    Raises:
        av.FFmpegError: at one bad packet more.
    """
    import av

    bad = 0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.FFmpegError:
            bad += 1
            if most_bad is not None and bad > most_bad:
                raise
            continue
        yield from frames


def frames_from(container: Any, stream: Any, seconds: float) -> Iterator[Any]:
    """Frames of a video, as PyAV decodes them, from a key frame that comes no later than a moment.

    Transport and program streams (.ts, .mpg) are searched by their bytes, and what is decoded there begins at the next
    key frame, which may be too late. So the first frame's time decides whether to go further back, at last to the
    beginning.

    Args:
        container: the file, nothing of it decoded yet.
        stream: of it.
        seconds: the moment, from the beginning of the stream.

    Raises:
        av.FFmpegError: if the file is damaged, or can't be searched, as bare H.264.
    """
    import av

    begin = stream.start_time or 0
    latest = seconds - (_UNSETTLED if container.format.name == "mpeg" else 0.0)
    moments = [seconds - back for back in _BACK if seconds > back]
    frames, first = container.decode(stream), None
    for moment in (*moments, 0.0, -1.0) if moments else ():  # the last ones: the beginning, for one kind or the other
        try:
            container.seek(begin + int(moment / stream.time_base), stream=stream)
        except av.FFmpegError:
            if first is None:
                raise
            break
        frames = container.decode(stream)
        first = next(frames, None)
        if first is not None and first.pts is not None and (first.pts - begin) * stream.time_base <= latest:
            break
    yield from chain([] if first is None else [first], frames)  # one of PyAV that is over can't be delegated to itself
