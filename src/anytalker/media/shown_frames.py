"""Frames of a video as players show them: upright, their pixels square, in sRGB."""

from __future__ import annotations

from typing import Any

import numpy as np

from anytalker.media.color import HLG, PQ, tone_mapped


def pixel_aspect(stream: Any) -> float:
    """Width of a stream's pixels for their height; 1 where the file says nothing believable."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 0.1 < aspect < 10 and not 0.99 < aspect < 1.01 else 1.0


class ShownFrames:
    """Decoded frames as arrays; one that is shown several times is converted once.

    Args:
        stream: the video stream that the frames are of.
        height: of upright frames in pixels, where they have more; None: as they are.
    """

    def __init__(self, stream: Any, height: int | None = None) -> None:
        from av.video.reformatter import VideoReformatter

        self._aspect, self._height = pixel_aspect(stream), height
        self._to_rgb = VideoReformatter()  # one for all frames: making one takes longer than decoding a small frame
        self._frame: Any = None
        self._pixels = np.zeros((0, 0, 3), np.uint8)

    def of(self, frame: Any) -> np.ndarray:
        """A frame of PyAV as uint8 RGB (H, W, 3): rotated, and high dynamic range (PQ, HLG) brought to sRGB."""
        if frame is not self._frame:
            self._frame, self._pixels = frame, self._converted(frame)
        return self._pixels

    def _converted(self, frame: Any) -> np.ndarray:
        turns = round(frame.rotation / 90) % 4
        width, height = round(frame.width * self._aspect), frame.height
        upright_height = width if turns % 2 else height
        scale = min(1.0, (self._height or upright_height) / upright_height)
        size = {"width": max(2, round(width * scale)), "height": max(2, round(height * scale))}
        if int(frame.color_trc) in (PQ, HLG):
            deep = self._to_rgb.reformat(frame, format="rgb48le", **size).to_ndarray()
            pixels = tone_mapped(deep, int(frame.color_trc), int(frame.color_primaries))
        else:
            pixels = self._to_rgb.reformat(frame, format="rgb24", **size).to_ndarray()
        return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels
