"""Prompts as the text encoder was trained to read them."""

from __future__ import annotations

import html


def clean_prompt(text: str) -> str:
    """A prompt with its encoding fixed, HTML entities resolved, quotes straight and white space simple (release)."""
    import ftfy

    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())
