"""The doctor's advice, followed to the letter: what it says fits does fit, and it gives up no more than it must."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from anytalker import cli
from anytalker.doctor import advice as module
from anytalker.doctor.advice import outlook, suggest
from anytalker.doctor.report import GPU_REST, Machine
from anytalker.extras import EXTRAS
from anytalker.hardware.placement import Placement

GIB = 2**30


def run(command: str, monkeypatch, capsys) -> str:
    words = shlex.split(command)
    assert words[0] == "anytalker"
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    assert not ended.value.code, shown.err
    return shown.out


@pytest.mark.parametrize(
    ("model", "card"),
    [
        *((model, card) for model in ("1.3b", "14b") for card in (6, 8, 10, 12, 16, 24, 48, 80)),
        *(("tiny", card) for card in (0.5, 1.0, 1.1, 2)),
    ],
)
def test_the_advised_command_fits(model: str, card: float, monkeypatch, capsys) -> None:
    said = run(f"anytalker doctor --model {model} --card {card}", monkeypatch, capsys)
    found = suggest(model, Machine("cuda", int(card * GIB), GPU_REST), None, 5.0, 2)
    if "It fits with" in said:
        commands = [line.strip() for line in said.splitlines() if line.startswith("  anytalker ")]
        assert [command.split()[1] for command in commands] == ["generate", "doctor"]
        assert "It fits." in run(commands[1], monkeypatch, capsys)
        assert found is not None
        options = shlex.join(found.options)
        assert all(options in command for command in commands)
        assert ("--max-frames" in commands[0]) == found.shortened
    elif "It fits." in said:
        assert found is not None
        assert found.options == ([] if model == "tiny" else ["--model", model])
    else:
        assert f"Nothing of {model} fits." in said
        assert found is None


def test_a_card_of_8_gib_takes_both_models_with_all_options_that_they_need() -> None:
    card = Machine("cuda", 8 * GIB, GPU_REST)
    for model in ("1.3b", "14b"):
        found = suggest(model, card, None, 5.0, 2)
        assert found is not None
        assert "--memory low" in found.generate()
    assert suggest("14b", Machine("cuda", 2 * GIB, GPU_REST), None, 5.0, 2) is None


def test_what_keeps_the_video_as_it_is_is_tried_first(monkeypatch) -> None:
    tried = []
    real = module.plan_video

    def plan(model, machine, size, seconds, persons, placement):
        tried.append((placement.weights, placement.memory, seconds, size))
        return real("tiny", machine, size, seconds, persons, placement)

    monkeypatch.setattr(module, "plan_video", plan)
    least = real("tiny", Machine("cuda", 0, GPU_REST), (208, 128), 1.0, 1, Placement("low", "float8"))[0].peak
    assert suggest("tiny", Machine("cuda", least - 1, GPU_REST), (416, 240), 5.0, 1) is None
    assert len(tried) == 2, "as it is asked for, and the least"
    assert suggest("tiny", Machine("cuda", least, GPU_REST), (416, 240), 5.0, 1) is not None
    del tried[:2]
    tried.append(tried.pop(1))  # the least is tried before what lies between
    assert [way[:2] for way in tried[:4]] == [
        ("full", "high"),
        ("full", "balanced"),
        ("full", "low"),
        ("float8", "high"),
    ]
    assert [way[2] for way in tried[:7]] == [5.0] * 6 + [81 / 24]
    assert tried[-1][3][0] < tried[0][3][0] == 416
    assert len(tried) == len(set(tried)) <= 72


def test_a_model_whose_weights_are_too_large_is_not_tried(monkeypatch) -> None:
    monkeypatch.setattr(module, "plan_video", lambda *given: pytest.fail("planned a video"))
    assert suggest("14b", Machine("cuda", 2 * GIB, GPU_REST), None, 5.0, 2) is None


def test_every_model_is_looked_at_when_none_is_named(monkeypatch, capsys) -> None:
    said = run("anytalker doctor --card 8", monkeypatch, capsys)
    for model in ("tiny", "1.3b", "14b"):
        assert f"\n  {model} " in said
    assert "anytalker download 14b\n  anytalker generate --model 14b --memory low" in said
    assert "does not fit" in run("anytalker doctor --card 1.5", monkeypatch, capsys)


def test_a_full_size_model_on_a_cpu_is_possible_and_slow() -> None:
    roomy = outlook("1.3b", Machine("cpu", 200 * GIB, GIB // 2), None, 2.0, 1)
    assert roomy.suggestion is not None
    assert roomy.cpu_hours is not None
    larger = outlook("14b", Machine("cpu", 300 * GIB, GIB // 2), None, 2.0, 1)
    assert larger.cpu_hours is not None
    assert larger.cpu_hours > 3 * roomy.cpu_hours > 0
    assert outlook("1.3b", Machine("cpu", 4 * GIB, GIB // 2), None, 2.0, 1).suggestion is None
    assert outlook("tiny", Machine("cpu", 4 * GIB, GIB // 2), None, 2.0, 1).cpu_hours is None


def test_the_extras_are_those_of_the_package() -> None:
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    declared = project["optional-dependencies"]
    imported = {"pyyaml": "yaml", "c2pa-python": "c2pa"}
    names = {
        extra: {
            imported.get(name, name.replace("-", "_"))
            for name in (line.split(">")[0] for line in lines)
            if not name.startswith("anytalker[")
        }
        for extra, lines in declared.items()
        if extra not in ("test", "dev", "docs")
    }
    assert {extra: set(modules) for extra, modules in EXTRAS.items()} == names
