"""A moving picture of a video: python examples/animation.py talk.mp4 talk.webp [width] [frames a second]."""

from __future__ import annotations

import sys

from PIL import Image

from anytalker.media.video import read_video


def main() -> None:
    """Leave out frames down to the rate, and write a picture that plays again and again."""
    video, animation = sys.argv[1:3]
    width, wanted = (int(value) for value in (sys.argv[3:5] or ("544", "12")))
    frames, fps = read_video(video)
    step = max(1, round(fps / wanted))
    height = round(width * frames.shape[1] / frames.shape[2])
    pictures = [Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS) for frame in frames[::step]]
    pictures[0].save(
        animation, save_all=True, append_images=pictures[1:], duration=1000 * step / fps, loop=0, quality=70, method=6
    )


if __name__ == "__main__":
    main()
