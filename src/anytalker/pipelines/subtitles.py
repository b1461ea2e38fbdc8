"""Subtitles drawn into frames, and speakers as chapters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from anytalker.errors import InputError
from anytalker.timeline.model import Timeline

_LATIN = 0x250
_PUNCTUATION = range(0x2010, 0x2027)
_SHARE = 16
_LEAST = 10


def check_subtitles(timeline: Timeline | None, burn: bool) -> None:
    """Make sure that there is something to be read, and that it can be drawn.

    Raises:
        InputError: if no turn has a text, or one to be drawn has letters that the package's font lacks.
    """
    texts = [f"{turn.person} {turn.text}" for turn in timeline.turns if turn.text] if timeline else []
    if not texts:
        raise InputError("--subtitles needs texts: they come from --script, or a --timeline with text.")
    for text in texts if burn else ():
        strange = [one for one in text if ord(one) >= _LATIN and ord(one) not in _PUNCTUATION]
        if strange:
            raise InputError(
                f"--subtitles burn has no letters for {strange[0]!r} in {text[:40]!r}; it draws Latin ones. Take "
                "--subtitles srt, which players show in any script."
            )


def chapters_of(timeline: Timeline, seconds: float) -> list[tuple[str, float, float]]:
    """Whose word it is, one after another without a gap: name, start and end in seconds of a video of that length."""
    starts: list[tuple[str, float]] = []
    for turn in timeline.turns:
        if starts and starts[-1][1] == turn.start:
            starts[-1] = (f"{starts[-1][0]}, {turn.person}", turn.start)
        elif not starts or starts[-1][0] != turn.person:
            starts.append((turn.person, turn.start if starts else 0.0))
    ends = [*(start for _, start in starts[1:]), seconds]
    return [(name, start, end) for (name, start), end in zip(starts, ends, strict=True)]


def burned(chunks: Iterable[np.ndarray], timeline: Timeline, fps: float) -> Iterator[np.ndarray]:
    """Frames with what is said at the time, white on dark at the bottom.

    Args:
        chunks: uint8 (t, H, W, 3), in order.
        timeline: who says what when.
        fps: frames a second.
    """
    turns = [turn for turn in timeline.turns if turn.text]
    number = 0
    shown: tuple[tuple[str, ...], tuple[np.ndarray, np.ndarray] | None] = ((), None)
    for chunk in chunks:
        frames = np.array(chunk)
        for frame in frames:
            moment = (number + 0.5) / fps
            lines = tuple(f"{turn.person}: {turn.text}" for turn in turns if turn.start <= moment < turn.end)
            if lines != shown[0]:
                shown = lines, _drawn(lines, frame.shape[1], frame.shape[0]) if lines else None
            if shown[1] is not None:
                color, opacity = shown[1]
                below = frame[-len(color) :]
                below[:] = np.round(below * (1 - opacity) + color * opacity)
            number += 1
        yield frames


def labelled(chunks: Iterable[np.ndarray], text: str) -> Iterator[np.ndarray]:
    """Frames with a short text in the upper left corner, such as "AI-generated".

    Args:
        chunks: uint8 (t, H, W, 3), in order.
        text: in Latin letters.
    """
    drawn: tuple[np.ndarray, np.ndarray] | None = None
    for chunk in chunks:
        frames = np.array(chunk)
        if drawn is None:
            height, width = frames.shape[1:3]
            font = ImageFont.load_default(size=max(_LEAST, height // _SHARE))
            drawn = _drawn((text,), min(width, round(font.getlength(text) * 1.1) + 8), height)
        color, opacity = drawn
        corner = frames[:, : color.shape[0], : color.shape[1]]
        corner[:] = np.round(corner * (1 - opacity) + color * opacity)
        yield frames


def _drawn(lines: tuple[str, ...], width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Colours (h, W, 3) and opacities (h, W, 1) in [0, 1] of the band at the bottom."""
    size = max(_LEAST, height // _SHARE)
    font = ImageFont.load_default(size=size)
    rows = [row for line in lines for row in _wrapped(line, font, width * 0.94)]
    tall = round(size * 1.3)
    band = Image.new("L", (width, min(height, tall * len(rows) + tall // 3)))
    draw = ImageDraw.Draw(band)
    for place, row in enumerate(rows):
        draw.text((width / 2, (place + 0.6) * tall), row, fill=255, font=font, anchor="mm")
    text = np.asarray(band, dtype=np.float32)[..., None] / 255
    return 255 * text.repeat(3, axis=2), np.maximum(text, 0.55)


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> Iterator[str]:
    row = ""
    for word in text.split():
        longer = f"{row} {word}".strip()
        if row and font.getlength(longer) > width:
            yield row
            longer = word
        row = longer
    yield row
