"""Look at a video as one picture: python examples/contact_sheet.py talk.mp4 sheet.png [columns] [rows]."""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image

from anytalker.media.video import read_video


def main() -> None:
    """Spread frames evenly over a sheet, read like a page."""
    video, sheet = sys.argv[1:3]
    columns, rows = (int(value) for value in (sys.argv[3:5] or ("4", "3")))
    frames, _ = read_video(video)
    chosen = frames[np.linspace(0, len(frames) - 1, columns * rows).astype(int)]
    lines = [np.concatenate(list(chosen[row * columns : (row + 1) * columns]), axis=1) for row in range(rows)]
    Image.fromarray(np.concatenate(lines)).save(sheet)


if __name__ == "__main__":
    main()
