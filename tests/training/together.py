"""Programs that run in several processes, which talk through gloo."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from anytalker.training.config import TrainingConfig

TRAIN = """
import json, sys
from anytalker.training.config import TrainingConfig
from anytalker.training.trainer import Trainer
config = TrainingConfig.model_validate_json(open(sys.argv[1]).read())
runner = Trainer(config, print)
losses = runner.run()
open(sys.argv[2] + str(runner.watch.rank), "w").write(json.dumps(losses))
"""


def start(program: str, count: int, *arguments: str) -> list[subprocess.Popen[str]]:
    """Processes of a Python program, ranks 0 to `count` - 1."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return [
        subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def ended(processes: list[subprocess.Popen[str]]) -> tuple[list[int], list[str]]:
    """Exit codes of processes, and what they said of errors, once all have ended."""
    errors = [process.communicate(timeout=240)[1] for process in processes]
    return [process.returncode for process in processes], errors


def train_together(config: TrainingConfig, folder: Path, count: int = 2) -> list[float]:
    """The losses of a run in `count` processes."""
    (folder / "config.json").write_text(config.model_dump_json())
    codes, errors = ended(start(TRAIN, count, str(folder / "config.json"), str(folder / "losses")))
    assert not any(codes), "\n".join(error[-2000:] for error in errors)
    losses: list[float] = json.loads((folder / "losses0").read_text())
    return losses
