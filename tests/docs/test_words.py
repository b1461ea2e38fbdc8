"""Lines of Markdown are short enough for diffs to be read, and the words are the field's."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT

WRITTEN = [*(page for page in PAGES if page.parent.name != "exam"), ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
LONGEST = 100
AVOIDED = r"\b(nought|said so|says so|mends?|mended|bears|whoever|house rules?)\b"


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_lines_are_short(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    long = [f"{page.name}:{number}" for number, line in enumerate(lines, 1) if len(line) > LONGEST]
    tables = {f"{page.name}:{number}" for number, line in enumerate(lines, 1) if line.lstrip().startswith("|")}
    assert [line for line in long if line not in tables] == []


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_words_are_plain(page: Path) -> None:
    assert re.findall(AVOIDED, page.read_text(encoding="utf-8"), re.IGNORECASE) == []


MEASURED = [
    (page, section)
    for page in sorted((ROOT / "docs" / "measurements").glob("*.md"))
    for section in re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
]


@pytest.mark.parametrize(
    ("page", "section"), MEASURED, ids=[f"{page.stem}: {section.splitlines()[0]}" for page, section in MEASURED]
)
def test_measurements_name_command_and_commit(page: Path, section: str) -> None:
    source = section.split("\n\n")[1]
    assert source.startswith("Command: "), page
    assert re.search(r"commits? `[0-9a-f]{7}`", source), page


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_names_and_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in sorted(set(re.findall(r"`(anytalker(?:\.\w+)+)", text))):
        if name != "anytalker.json":
            pkgutil.resolve_name(name)
    for file in set(re.findall(r"`((?:benchmarks|configs|examples|src|tests|tools)/[\w/.-]+\w/?)", text)):
        assert (ROOT / file).exists(), file


def test_pages_that_the_code_names_exist() -> None:
    for folder in ("src", "benchmarks", "tools", "examples"):
        for path in (ROOT / folder).rglob("*.py"):
            for page in re.findall(r"docs/[\w/]+\.md", path.read_text(encoding="utf-8")):
                assert (ROOT / page).is_file(), f"{path}: {page}"
