"""The messages of the troubleshooting page are those of the program."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "troubleshooting.md"


def _texts(path: Path) -> list[str]:
    """The string constants of a module; each piece of an f-string between values is one."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


@pytest.fixture(scope="module")
def said() -> str:
    return "\n".join(text for path in sorted((ROOT / "src").rglob("*.py")) for text in _texts(path))


@pytest.mark.parametrize(
    "message", [block.text for block in blocks(PAGE.read_text(encoding="utf-8"))], ids=lambda text: text[:40].strip()
)
def test_message_is_in_the_program(message: str, said: str) -> None:
    pieces = [piece.strip(" .()") for piece in re.split(r"…|[.;] ", message.strip())]
    assert any(len(piece) > 10 for piece in pieces)
    for piece in pieces:
        assert piece in said, piece
