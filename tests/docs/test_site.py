"""The documentation site builds strictly and offline, and its references hold what the package has."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer
from material.plugins.search.plugin import SearchPlugin
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page
from mkdocstrings_handlers.python._internal import rendering

from anytalker.cli.app import app
from tests.docs.pages import ROOT

pytestmark = pytest.mark.slow


_LOADING = re.compile(r"""<(?:script|img|iframe|link|source)\b(?:"[^"]*"|'[^']*'|[^>"'])*>""", re.IGNORECASE)
"""A tag that loads something; thousands of pages' tags are few different ones."""


class _Outside(HTMLParser):
    """Collects what a page loads from other hosts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        loads = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}
        address = dict(attributes).get(loads.get(tag, ""))
        if address and re.match(r"(https?:)?//", address):
            self.found.append(f"<{tag}> {address}")


def without_navigation(_: SearchPlugin, context: dict, page: Page, nav: Navigation, **__: object) -> dict:
    """What the template of a page gets, in place of what the search does: the first page has the whole navigation."""
    return context if page.is_homepage else context | {"nav": Navigation([], nav.pages)}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built as `mkdocs build --strict` does: any warning, such as a broken link, is an error.

    What takes long and shows nothing of that is left out: the navigation in each of hundreds of pages, long
    signatures broken into lines, with a process for each, the colours of code, and what the search looks through.
    """
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        patch.setattr(rendering, "_get_formatter", lambda: lambda text, _: text)
        patch.setattr(SearchPlugin, "on_page_context", without_navigation)
        config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True)
        config.mdx_configs["pymdownx.highlight"]["use_pygments"] = False
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
        config.plugins.on_shutdown()
    return folder


def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    tags = {tag: page for page in pages for tag in _LOADING.findall(page.read_text(encoding="utf-8"))}
    for tag, page in tags.items():
        parser = _Outside()
        parser.feed(tag)
        assert parser.found == [], page
    assert len(tags) > 50


def test_every_command_and_option_is_described(site: Path) -> None:
    text = (site / "commands" / "index.html").read_text(encoding="utf-8")

    def check(name: str, command: object) -> None:
        assert f"<code>{name}</code>" in text
        for parameter in command.params:  # type: ignore[attr-defined]
            for option in parameter.opts if not parameter.hidden else ():
                assert not option.startswith("--") or option in text, f"{name} {option}"
        for below, found in getattr(command, "commands", {}).items():
            if not found.hidden:
                check(f"{name} {below}", found)

    check("anytalker", typer.main.get_command(app))


@pytest.mark.parametrize(
    "name",
    [
        "anytalker.AnyTalkerPipeline",
        "anytalker.AnyTalkerTransformer3DModel",
        "anytalker.models.conversion.from_release",
        "anytalker.models.conversion.to_release",
        "anytalker.evaluation.interactivity",
    ],
)
def test_public_names_are_in_the_python_reference(site: Path, name: str) -> None:
    text = (site / "python" / "index.html").read_text(encoding="utf-8")
    assert re.search(rf'id="{re.escape(name)}"', text)


def test_modules_have_pages(site: Path) -> None:
    for module in ("models/transformer", "models/conversion", "evaluation"):
        assert "doc-heading" in (site / "reference" / module / "index.html").read_text(encoding="utf-8")
