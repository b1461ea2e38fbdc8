"""The benchmark for GPUs, at a small size on the CPU: every kind of part measures something, and is saved."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("gpu")
    yield module
    for name in [name for name in sys.modules if name.split(".")[0] in ("gpu", "gpu_parts")]:
        del sys.modules[name]


@pytest.mark.slow
def test_every_kind_of_part_measures_and_is_saved(gpu, tmp_path, capsys) -> None:
    parts = ["ceilings", "step-1.3b", "step-14b", "video-14b-low", "vae", "training-1.3b", "training-14b-lora"]
    parts += ["changes-1.3b", "changes-14b", "writing"]
    output = tmp_path / "gpu.jsonl"
    gpu.main(["--small", "--together", "--output", str(output), "--parts", *parts])
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert list(dict.fromkeys(row["part"] for row in rows)) == parts
    steps = {(row["part"], row["what"], row.get("people")): row for row in rows if row["part"].startswith("step")}
    for part in ("step-1.3b", "step-14b"):
        for persons in (0, 2, 4):
            assert steps[part, "exact", persons]["error"] == 0
            assert steps[part, "exact", persons]["s"] > 0
        assert 0 < steps[part, "weights float8", 2]["error"] < 0.1
        assert steps[part, "dense AFCA", 2]["error"] < 0.01
    assert all(row["same file"] for row in rows if row["part"] == "writing" and "same file" in row)
    assert all(math.isfinite(row["loss"]) for row in rows if row["part"].startswith("training"))
    capsys.readouterr()
    gpu.main(["--table", str(output)])
    table = capsys.readouterr().out
    assert "**step-1.3b** (CPU, torch" in table
    assert all(line.count("|") > 3 for line in table.splitlines() if line.startswith("| "))


def test_a_part_that_takes_too_long_is_named(gpu, tmp_path) -> None:
    output = tmp_path / "gpu.jsonl"
    output.touch()
    gpu.Measurement("ceilings", True, output).run(0.05)
    (row,) = [json.loads(line) for line in output.read_text().splitlines()]
    assert row["part"] == "ceilings"
    assert "stopped after" in row["not measured"]


def test_operations_of_a_step_are_counted(gpu) -> None:
    from gpu_parts.scale import TRUE
    from gpu_parts.steps import step_flops

    tokens = 21 * 30 * 52
    attention = 30 * 4 * tokens * tokens * 1536
    assert step_flops({}, TRUE.grid) == pytest.approx(
        attention + 30 * 2 * tokens * (6 * 1536**2 + 2 * 1536 * 8960), rel=0.03
    )
