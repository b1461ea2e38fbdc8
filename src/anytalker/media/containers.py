"""Opening recordings and videos of any kind: one file, read by its content, that can't make us read another."""

from __future__ import annotations

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
