"""Training in several processes, which talk through gloo."""

from __future__ import annotations

import json
from pathlib import Path

from anytalker.training.config import TrainingConfig
from tests.processes import ended, start_together

TRAIN = """
import json, sys
from anytalker.training.config import TrainingConfig
from anytalker.training.trainer import Trainer
config = TrainingConfig.model_validate_json(open(sys.argv[1]).read())
runner = Trainer(config, print)
losses = runner.run()
open(sys.argv[2] + str(runner.watch.rank), "w").write(json.dumps(losses))
"""


def train_together(config: TrainingConfig, folder: Path, count: int = 2) -> list[float]:
    """The losses of a run in `count` processes."""
    (folder / "config.json").write_text(config.model_dump_json())
    codes, errors = ended(start_together(TRAIN, count, str(folder / "config.json"), str(folder / "losses")))
    assert not any(codes), "\n".join(error[-2000:] for error in errors)
    losses: list[float] = json.loads((folder / "losses0").read_text())
    return losses
