"""Many processes train as one does, sharded or not, and go on in any number of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint import FileSystemReader

from anytalker import AnyTalkerPipeline
from anytalker.models.precision import stays_float32
from tests.processes import ended, start_together
from tests.training.fixtures import make_config, train, weights, write_model, write_shards
from tests.training.together import train_together


def assert_same_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        if name.endswith(".self_attn.k_proj.bias"):  # moves by rounding alone: softmax does not see it
            continue
        assert float((second[name] - value).norm()) <= 1e-4 * max(1e-3, float(value.norm())), name


def layout_b(folder: Path, layers: int) -> None:
    """A model with the 14B's layout, in which every layer has people's layers of its own."""
    write_shards(folder / "single")
    write_model(folder / "model", audio_face_layout="B", audio_dim=12, num_layers=layers)


@pytest.mark.slow
def test_two_processes_train_as_one_that_accumulates(tmp_path) -> None:
    losses = train(make_config(tmp_path, output=tmp_path / "one", groups=2, steps=2))
    config = make_config(tmp_path, output=tmp_path / "two", groups=2, steps=2)
    assert train_together(config, tmp_path) == pytest.approx(losses, rel=1e-4)
    assert_same_weights(weights(tmp_path / "one"), weights(tmp_path / "two"))


@pytest.mark.slow
def test_a_run_of_one_process_goes_on_in_two(tmp_path) -> None:
    whole = train(make_config(tmp_path, output=tmp_path / "whole", groups=2, steps=3))
    assert train(make_config(tmp_path, groups=2, steps=1)) == whole[:1]
    assert train_together(make_config(tmp_path, groups=2, steps=3), tmp_path) == pytest.approx(whole[1:], rel=1e-4)
    assert_same_weights(weights(tmp_path / "whole"), weights(tmp_path / "run"))


@pytest.mark.slow
def test_a_sharded_run_trains_the_same_and_goes_on_in_any_number_of_processes(tmp_path) -> None:
    layout_b(tmp_path, layers=2)
    options = {"groups": 6, "batch_size": 1, "batches": {"join": [1]}, "train_image_encoder": True}
    whole = train(make_config(tmp_path, output=tmp_path / "whole", steps=4, **options))
    options |= {"fsdp": True}
    losses = train(make_config(tmp_path, steps=1, **options))
    losses += train_together(make_config(tmp_path, steps=2, **options), tmp_path, 3)
    losses += train_together(make_config(tmp_path, steps=3, **options), tmp_path, 2)
    losses += train(make_config(tmp_path, steps=4, **options))
    assert losses == pytest.approx(whole, rel=1e-4)
    models = [AnyTalkerPipeline.from_pretrained(tmp_path / name / "model") for name in ("whole", "run")]
    for part in ("transformer", "image_encoder"):
        assert_same_weights(*(model.components[part].state_dict() for model in models))


PRECISIONS = """
import json, sys
from anytalker.training.config import TrainingConfig
from anytalker.training.trainer import Trainer
runner = Trainer(TrainingConfig.model_validate_json(open(sys.argv[1]).read()), print)
computed = {}
def note(name):
    def see(module, *arguments):
        computed.update({f"{name}.{key}": str(value.dtype) for key, value in module.named_parameters(recurse=False)})
    return see
for part in ("transformer", "image_encoder"):
    for name, module in runner.pipeline.components[part].named_modules():
        module.register_forward_pre_hook(note(f"{part}.{name}"))
losses = runner.run()
held = [value for parameter in runner.trained for value in (parameter, *runner.optimizer.state[parameter].values())]
held += [parameter.grad for parameter in runner.trained if parameter.grad is not None]
answer = {"losses": losses, "computed": computed, "held": sorted({str(value.dtype) for value in held})}
open(sys.argv[2] + str(runner.watch.rank), "w").write(json.dumps(answer))
"""


@pytest.mark.slow
def test_a_sharded_run_in_bfloat16_holds_float32_and_computes_in_both(tmp_path) -> None:
    layout_b(tmp_path, layers=2)
    plain = train(make_config(tmp_path, output=tmp_path / "plain", steps=2, groups=2))
    config = make_config(tmp_path, steps=2, groups=2, fsdp=True, precision="bf16")
    (tmp_path / "config.json").write_text(config.model_dump_json())
    codes, errors = ended(start_together(PRECISIONS, 2, str(tmp_path / "config.json"), str(tmp_path / "answer")))
    assert codes == [0, 0], errors
    answers = [json.loads((tmp_path / f"answer{rank}").read_text()) for rank in range(2)]
    assert answers[0] == answers[1]
    assert answers[0]["held"] == ["torch.float32"]
    assert answers[0]["losses"] == pytest.approx(plain, rel=0.01)
    computed = answers[0]["computed"]
    assert {"transformer.blocks.1.norm_people.weight", "transformer.blocks.0.scale_shift_table"} <= computed.keys()
    for name, kind in computed.items():
        exact = name.startswith("image_encoder.") or stays_float32(name)
        assert kind == ("torch.float32" if exact else "torch.bfloat16"), name


def test_the_frozen_stays_out_of_sharded_checkpoints(tmp_path) -> None:
    train(make_config(tmp_path, steps=2, fsdp=True))
    stored = FileSystemReader(next((tmp_path / "run" / "checkpoints").glob("step-*/sharded"))).read_metadata()
    names = stored.state_dict_metadata.keys()
    assert any(name.startswith("model.transformer") for name in names)
    assert not any(name.startswith("model.image_encoder") for name in names), "what is frozen is in the model already"
    assert any(name.endswith(".exp_avg") for name in names)
    assert not any("param_groups" in name for name in names), "the optimizer's settings are in the configuration"
