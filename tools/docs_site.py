"""MkDocs hooks: pages of the documentation that are made from the package at build time.

- `commands.md`: every command with its arguments and options, from the typer app.
- `reference/`: a page a public module, found by walking the package's files.
- `changelog.md`, `contributing.md`: the files at the repository's root.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "anytalker"
_SKIPPED = {"cli"}
"""Folders of the package without a Python interface; the command reference describes them."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated reference pages into the navigation, in place of `reference/`."""
    for section in config.nav or []:
        for title, entries in section.items():
            if title == "Reference":
                for entry in entries:
                    if entry.get("Modules") == "reference/":
                        entry["Modules"] = _navigation()
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {
        "commands.md": command_reference(),
        "changelog.md": _from_root("CHANGELOG.md"),
        "contributing.md": _from_root("CONTRIBUTING.md"),
    }
    pages |= {_page(module): _module_page(module) for module in public_modules()}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def public_modules() -> list[str]:
    """Dotted names of all modules of the package that have no part with a leading underscore, sorted."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] in _SKIPPED or path.name == "__main__.py":
            continue
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if parts and not any(part.startswith("_") for part in parts):
            found.add(".".join(parts))
    return sorted(found)


def command_reference() -> str:
    """Markdown of all commands of the command line."""
    from anytalker.cli.app import app

    lines = [
        "# Commands",
        "",
        "This page is made from the program itself. `anytalker COMMAND --help` prints the same.",
        "",
    ]
    for words, command in _walk(["anytalker"], typer.main.get_command(app)):
        lines += _command(words, command)
    return "\n".join(lines)


def _walk(words: list[str], command: Any) -> Iterator[tuple[list[str], Any]]:
    if not command.hidden:
        yield words, command
        for name, below in getattr(command, "commands", {}).items():
            yield from _walk([*words, name], below)


def _command(words: list[str], command: Any) -> list[str]:
    name = " ".join(words)
    context = typer.Context(command, info_name=name)
    lines = [f"## `{name}`", "", _plain(command.help or ""), ""]
    lines += ["```text", " ".join([name, *command.collect_usage_pieces(context)]), "```", ""]
    described = [parameter.get_help_record(context) for parameter in command.params if parameter.name != "help"]
    rows = [f"| `{_cell(option)}` | {_cell(_plain(text))} |" for option, text in filter(None, described)]
    if rows:
        lines += ["| option | what it does |", "|---|---|", *rows, ""]
    for below, found in getattr(command, "commands", {}).items():
        if not found.hidden:
            lines.append(f"- [`{name} {below}`](#{_anchor([*words, below])})")
    return [*lines, ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _plain(text: str) -> str:
    """Help text as Markdown that shows it as it is."""
    return re.sub(r"([\\`*_<\[\]])", r"\\\1", text).strip()


def _anchor(words: list[str]) -> str:
    return "-".join(words)


def _page(module: str) -> str:
    folder = PACKAGE / module.replace(".", "/")
    return f"reference/{module.replace('.', '/')}{'/index' if folder.is_dir() else ''}.md"


def _module_page(module: str) -> str:
    options = "    options:\n      heading_level: 1\n      show_root_full_path: true\n      show_submodules: false\n"
    return f"::: anytalker.{module}\n{options}"


def _navigation() -> list[Any]:
    """The reference's pages as a tree, folders before the modules in them."""
    tree: list[Any] = []
    folders: dict[str, list[Any]] = {"": tree}
    modules = public_modules()
    for module in modules:
        above, _, name = module.rpartition(".")
        if (PACKAGE / module.replace(".", "/")).is_dir():
            folders[module] = [_page(module)]
            folders[above].append({name: folders[module]})
        else:
            folders[above].append({name: _page(module)})
    return tree


def _from_root(name: str) -> str:
    """A file of the repository's root; links into docs/ become relative, links to other files plain text."""
    text = (ROOT / name).read_text(encoding="utf-8")
    text = re.sub(r"\]\(docs/([^)]+)\)", r"](\1)", text)
    text = text.replace("](CONTRIBUTING.md)", "](contributing.md)").replace("](CHANGELOG.md)", "](changelog.md)")
    return re.sub(r"\[([^\]]+)\]\((?:src|tests|benchmarks|tools|configs)/[^)]*\)", r"\1", text)
