"""A picture that shows, before any work is done, whose face gets which voice, and who speaks when."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from anytalker.conventions import PixelBox

_COLORS = ("#e6550d", "#3182bd", "#31a354", "#756bb1", "#d6a500", "#c2185b")
_LISTENER = "#888888"
_STEPS = (0.5, 1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600)
"""Seconds from one mark of the clock to the next."""


def draw_preview(picture: Image.Image, boxes: Sequence[PixelBox], voices: Sequence[str | None]) -> Image.Image:
    """The picture with a numbered frame around every face, and the name of its voice.

    Args:
        picture: the picture.
        boxes: one face box (x, y, width, height) a person.
        voices: one name a person; None: listens.
    """
    shown = picture.convert("RGB").copy()
    draw = ImageDraw.Draw(shown)
    line = max(2, round(max(shown.size) / 300))
    font = ImageFont.load_default(size=max(12, round(max(shown.size) / 45)))
    for number, (box, voice) in enumerate(zip(boxes, voices, strict=True), start=1):
        color = _LISTENER if voice is None else _COLORS[(number - 1) % len(_COLORS)]
        x, y, width, height = box
        draw.rectangle((x, y, x + width, y + height), outline=color, width=line)
        text = f"{number}  {voice or 'listens'}"
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        tall, wide = bottom - top + 3 * line, right - left + 4 * line
        corner = (max(0, min(x, shown.width - wide)), y - tall if y >= tall else min(y + height, shown.height - tall))
        draw.rectangle((*corner, corner[0] + wide, corner[1] + tall), fill=color)
        draw.text((corner[0] + 2 * line - left, corner[1] + line - top), text, fill="white", font=font)
    return shown


def draw_lanes(width: int, lanes: Sequence[tuple[str, Sequence[tuple[float, float]]]], seconds: float) -> Image.Image:
    """Who speaks when: a lane a person, in the colours of `draw_preview`, and a clock below.

    Args:
        width: pixels.
        lanes: name and spans [start, end) in seconds, once a person.
        seconds: the video's length.
    """
    size = max(12, round(width / 45))
    font = ImageFont.load_default(size=size)
    row, left = 2 * size, min(width // 3, 8 * size)
    shown = Image.new("RGB", (width, row * (len(lanes) + 1)), "white")
    draw = ImageDraw.Draw(shown)
    scale = (width - left - size) / max(seconds, 1e-6)
    step = next((one for one in _STEPS if one * scale >= 4 * size), _STEPS[-1])
    for number in range(int(seconds / step) + 1):
        x = left + number * step * scale
        draw.line((x, 0, x, row * len(lanes) + size // 3), fill="#dddddd")
        draw.text((x, row * len(lanes) + size // 2), _clock(number * step), fill="#555555", font=font, anchor="ma")
    for place, (name, spans) in enumerate(lanes):
        color = _COLORS[place % len(_COLORS)] if spans else _LISTENER
        middle = row * place + row // 2
        text = name
        while text and draw.textlength(text, font=font) > left - size:
            text = text[:-1]
        draw.text((size // 2, middle), text, fill=color, font=font, anchor="lm")
        draw.line((left, middle, width - size, middle), fill="#eeeeee")
        for start, end in spans:
            first, last = left + start * scale, left + min(end, seconds) * scale
            if first < last:
                draw.rectangle((first, middle - size // 2, max(first + 1, last), middle + size // 2), fill=color)
    return shown


def stacked(above: Image.Image, below: Image.Image) -> Image.Image:
    """One picture above another of the same width."""
    whole = Image.new("RGB", (above.width, above.height + below.height))
    whole.paste(above, (0, 0))
    whole.paste(below, (0, above.height))
    return whole


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{int(rest):02}" if seconds == int(seconds) else f"{seconds:g}"
