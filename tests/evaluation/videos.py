"""Videos that `write_video` would not write."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_uneven_video(path: Path, frames: np.ndarray) -> None:
    """A video whose second half plays at a quarter of the speed of the first."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width = frames.shape[1:3]
        stream.codec_context.time_base = Fraction(1, 96)
        moment = 0
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = moment, Fraction(1, 96)
            moment += 4 if index < len(frames) // 2 else 16
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
