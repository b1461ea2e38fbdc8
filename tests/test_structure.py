"""The package's structure holds: rooms import one way, few of them each other, and files and functions stay short.

`python tools/structure.py` prints what is measured here.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
LONGEST_FILE, LONGEST_FUNCTION = 400, 60


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("structure", ROOT / "tools" / "structure.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["structure"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def structure(tool):
    return tool.read_structure(ROOT)


def test_nothing_imports_in_a_circle(structure) -> None:
    assert structure.circle() == []
    assert structure.circle_of_rooms() == []


def test_rooms_know_a_third_of_each_other_at_most(structure) -> None:
    assert 3 * len(structure.arrows) <= structure.possible


def test_the_ground_knows_no_room(structure, tool) -> None:
    ground = [module for module in structure.modules if tool.room_of(module) == tool.GROUND]
    assert {other for module in ground for other in structure.imports[module]} <= set(ground)


def test_long_files_and_functions_say_why(structure) -> None:
    files = [module for module, lines in structure.modules.items() if lines > LONGEST_FILE]
    functions = [key for key, lines in structure.functions.items() if lines > LONGEST_FUNCTION]
    assert [long for long in (*files, *functions) if long not in structure.explained] == []


def test_a_circle_is_found(tool, tmp_path) -> None:
    package = tmp_path / "src" / "anytalker"
    for room, imported in (("first", "second"), ("second", "first")):
        (package / room).mkdir(parents=True)
        (package / room / "one.py").write_text(f"def load():\n    from anytalker.{imported}.one import load\n")
    found = tool.read_structure(tmp_path)
    assert sorted(set(found.circle())) == ["anytalker.first.one", "anytalker.second.one"]
    assert sorted(set(found.circle_of_rooms())) == ["first", "second"]
    assert (len(found.arrows), found.possible) == (2, 1)
