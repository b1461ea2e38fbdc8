"""Prompts before the tokenizer."""

from __future__ import annotations

import pytest

from anytalker.conditioning.text import clean_prompt


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("two people talk", "two people talk"),
        ("  two\n\tpeople   talk ", "two people talk"),
        ("she says “yes”, it’s fine", 'she says "yes", it\'s fine'),
        ("salt &amp; pepper, &amp;lt;3", "salt & pepper, <3"),
        ("cafÃ©", "café"),
        ("", ""),
    ],
)
def test_a_prompt_is_read_as_the_release_reads_it(given, read) -> None:
    assert clean_prompt(given) == read
