"""What the pages print: blocks of code, the commands in them, and the commands in the running text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`((?:anytalker|python|torchrun|accelerate|pytest) [^`]+)`")
_VARIABLE = re.compile(r"\$([A-Z]+)")


@dataclass(frozen=True)
class Block:
    """A block of code: its language, its text, and the page's line that its first line is."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """A command of a shell block, in words, and the page's line that it begins on."""

    words: tuple[str, ...]
    line: int

    def __str__(self) -> str:
        return " ".join(self.words)


def blocks(text: str) -> list[Block]:
    """All blocks of a page."""
    return [Block(match[1], match[2], text.count("\n", 0, match.start(2)) + 1) for match in _BLOCK.finditer(text)]


def spans(text: str) -> list[str]:
    """Commands in the running text of a page."""
    prose = _BLOCK.sub("", text)
    return [" ".join(match[1].split()) for match in _SPAN.finditer(prose)]


def commands(block: Block, variables: dict[str, str]) -> Iterator[Command]:
    """The commands of a shell block: lines that go on are joined, comments dropped, variables set and put in.

    Args:
        block: of shell.
        variables: what the page has set so far; more may be added.

    Raises:
        ValueError: at shell syntax other than this and `&&`.
    """
    line = block.line
    for printed in re.findall(r"(?:[^\n]*\\\n)*[^\n]*\n", block.text):
        first, line = line, line + printed.count("\n")
        whole = _VARIABLE.sub(lambda match: variables.get(match[1], match[0]), printed.replace("\\\n", ""))
        lexer = shlex.shlex(whole, posix=True, punctuation_chars="&|;<>")
        lexer.whitespace_split = True
        words = list(lexer)
        if not words:
            continue
        if assigned := re.fullmatch(r"([A-Z]+)=(.*)", words[0], re.DOTALL):
            variables[assigned[1]] = assigned[2]
            continue
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            if any(re.fullmatch("[&|;<>]+", word) or "$" in word for word in words[:end]):
                raise ValueError(f"only && and variables that the page sets are understood: {printed}")
            yield Command(tuple(words[:end]), first)
            words = words[end + 1 :]


def all_commands() -> list[tuple[str, Command]]:
    """Every command of a shell block, and the name of its page."""
    found = []
    for page in PAGES:
        variables: dict[str, str] = {}
        for block in blocks(page.read_text(encoding="utf-8")):
            if block.language == "bash":
                found += [(page.name, command) for command in commands(block, variables)]
    return found
