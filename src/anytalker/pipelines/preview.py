"""A picture that shows, before any work is done, whose face gets which voice."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from anytalker.conventions import PixelBox

_COLORS = ("#e6550d", "#3182bd", "#31a354", "#756bb1", "#d6a500", "#c2185b")
_LISTENER = "#888888"


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
