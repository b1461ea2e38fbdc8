"""Draw the package's structure from its imports, in words: `python tools/structure.py [CHECKOUT]`.

A room is a folder that holds modules. The modules right below the package (errors, files, processes) are the ground
that every room stands on, and no room. An arrow runs from a room to another that it imports, at the top of a file, in
a function, or for types alone.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path

PACKAGE = "anytalker"
GROUND = ""
"""The room of the modules right below the package, which is none."""


@dataclass(frozen=True)
class Structure:
    """What a checkout's imports and definitions look like.

    Attributes:
        modules: lines of every module, by its dotted name.
        imports: what every module imports of the package.
        functions: lines of every function, by module, name and the line where it begins.
        explained: which of all these begin with a comment "# Long because ...", modules by their name alone.
    """

    modules: Mapping[str, int]
    imports: Mapping[str, frozenset[str]]
    functions: Mapping[tuple[str, str, int], int]
    explained: frozenset[str | tuple[str, str, int]]

    @property
    def rooms(self) -> list[str]:
        """All rooms, by name."""
        return sorted({room_of(module) for module in self.modules} - {GROUND})

    @property
    def arrows(self) -> dict[tuple[str, str], list[tuple[str, str]]]:
        """The imports behind every arrow between two rooms."""
        found = defaultdict(list)
        for module in sorted(self.imports):
            for other in sorted(self.imports[module]):
                if room_of(module) != room_of(other) and GROUND not in (room_of(module), room_of(other)):
                    found[room_of(module), room_of(other)].append((module, other))
        return dict(found)

    @property
    def possible(self) -> int:
        """As many arrows as there can be without a circle."""
        return len(self.rooms) * (len(self.rooms) - 1) // 2

    def circle(self) -> list[str]:
        """Modules that import each other in a circle; empty if there is none."""
        return _circle(self.imports)

    def circle_of_rooms(self) -> list[str]:
        """Rooms that import each other in a circle; empty if there is none."""
        return _circle({room: [to for start, to in self.arrows if start == room] for room in self.rooms})


def read_structure(checkout: Path) -> Structure:
    """Read all modules of a checkout's package; files that only hand names on (`__init__`, `__main__`) are left out."""
    source = checkout / "src"
    paths = {
        ".".join(path.relative_to(source).with_suffix("").parts): path
        for path in (source / PACKAGE).rglob("*.py")
        if path.stem not in ("__init__", "__main__")
    }
    texts = {module: path.read_text(encoding="utf-8").splitlines() for module, path in paths.items()}
    trees = {module: ast.parse("\n".join(lines)) for module, lines in texts.items()}
    functions = {
        (module, node.name, _begin(node)): (node.end_lineno or node.lineno) - node.lineno + 1
        for module, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    return Structure(
        {module: len(lines) for module, lines in texts.items()},
        {module: frozenset(set(_imported(tree, paths)) - {module}) for module, tree in trees.items()},
        functions,
        frozenset(
            [
                *(module for module, lines in texts.items() if _explained(lines[:20])),
                *(key for key in functions if _explained(texts[key[0]][key[2] - 2 : key[2] + functions[key] - 1])),
            ]
        ),
    )


def _begin(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The line of a function or of its first decorator."""
    return min(node.lineno, *(one.lineno for one in node.decorator_list), node.lineno)


def _explained(lines: list[str]) -> bool:
    return any(line.strip().startswith("# Long because") for line in lines)


def room_of(module: str) -> str:
    """The room in which a module is; `GROUND` for those right below the package."""
    return ".".join(module.split(".")[1:-1]) or GROUND


def _imported(tree: ast.AST, known: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in [*names, node.module] if name in known)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)


def _circle(graph: Mapping[str, object]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()  # type: ignore[arg-type]
    except CycleError as error:
        return list(error.args[1])
    return []


def main() -> None:
    """Print the rooms from the top floor down, their arrows, and the longest files and functions."""
    checkout = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    structure = read_structure(checkout)
    arrows = structure.arrows
    share = len(arrows) / structure.possible
    print(f"{len(structure.rooms)} rooms, {len(arrows)} of {structure.possible} possible arrows ({share:.0%})")
    print("circle of files:", " -> ".join(structure.circle()) or "none")
    print("circle of rooms:", " -> ".join(structure.circle_of_rooms()) or "none")
    for room in structure.rooms:
        files = [module for module in structure.modules if room_of(module) == room]
        lines = sum(structure.modules[module] for module in files)
        print(f"\n{room}: {len(files)} files, {lines} lines")
        for start, to in sorted(arrows):
            if start == room:
                pairs = chain.from_iterable(arrows[start, to])
                print(f"  -> {to}: {', '.join(dict.fromkeys(module.split('.')[-1] for module in pairs))}")
    print("\nlongest files:")
    for module in sorted(structure.modules, key=lambda name: -structure.modules[name])[:8]:
        print(f"  {structure.modules[module]:4}  {module}")
    print("longest functions:")
    for module, name, line in sorted(structure.functions, key=lambda key: -structure.functions[key])[:12]:
        print(f"  {structure.functions[module, name, line]:4}  {module}.{name} (line {line})")


if __name__ == "__main__":
    main()
