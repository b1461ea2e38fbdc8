"""What a run is said to take, against runs that took it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from transformers import CLIPVisionConfig, CLIPVisionModel

from anytalker import InputError
from anytalker.doctor.allocations import AllocationCounter
from anytalker.doctor.memory import assumed_regions
from anytalker.models.settings import PipelineSettings
from anytalker.training import estimate
from anytalker.training.batches import Batch
from anytalker.training.config import TrainingConfig, load_config
from anytalker.training.estimate import estimate_run
from anytalker.training.model import TrainedModel, group_loss
from anytalker.training.run_shape import BatchKind, TrainingShape, _kinds_of, batch_kinds, training_shape
from anytalker.training.trainer import Trainer
from tests.models.test_transformer import small_model
from tests.training.fixtures import make_config, write_shards

IMAGE = {
    "hidden_size": 12,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda g, q, k, v, *_, **__: (
        sdpa_backward_flop_count(g, q, k, v)
    ),
}
"""What the library's counter lacks: attention on the CPU."""
KIND = BatchKind(scenes=2, people=2, frames=4, rows=12, columns=16, chance=1.0)
SIZES = {"num_attention_heads": 4, "ffn_dim": 256, "num_layers": 3}


def shape(**changes) -> TrainingShape:
    return TrainingShape(
        dict(small_model(**SIZES | {"audio_face_layout": "A"} | changes).config), IMAGE, PipelineSettings()
    )


@pytest.fixture(scope="module", autouse=True)
def simulated_once():
    """The same steps of the same model are simulated once."""
    known: dict[str, dict] = {}

    def simulate(config, model, kinds) -> dict:
        changing = [config.gradient_checkpointing, config.precision, config.train_image_encoder, config.lora]
        key = repr((changing, model, kinds))
        known[key] = known.get(key) or simulate_steps(config, model, kinds)
        return known[key]

    simulate_steps = estimate.simulate_steps
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimate, "simulate_steps", simulate)
        yield


def batch_of(kind: BatchKind, model: TrainedModel) -> Batch:
    place, sizes = (kind.frames, kind.rows, kind.columns), model.transformer.config
    heard = (sizes.audio_window, sizes.audio_blocks, sizes.audio_channels)
    grid = (kind.frames, kind.rows // 2, kind.columns // 2)
    return Batch(
        latents=torch.randn(kind.scenes, 16, *place),
        condition=torch.randn(kind.scenes, 16, *place),
        mask=torch.randn(kind.scenes, 4, *place),
        audio=torch.randn(kind.scenes, kind.people, 4 * kind.frames - 3, *heard),
        faces=torch.randn(kind.scenes, kind.people, 3, 16, 16),
        pictures=torch.randn(kind.scenes, 3, 16, 16),
        face_masks=assumed_regions(kind.people, grid, kind.scenes).face_masks,
        loss_weights=torch.ones(kind.scenes, 1, 1, *place[1:]),
        prompts=[],
    )


@pytest.mark.parametrize(("layout", "checkpointing"), [("A", False), ("A", True), ("B", True)])
def test_operations_and_activations_are_those_of_a_step(tmp_path, layout: str, checkpointing: bool) -> None:
    config = make_config(tmp_path, gradient_checkpointing=checkpointing)
    known = shape(audio_face_layout=layout)
    flops, activations = estimate.simulate_steps(config, known, [KIND])[KIND]

    transformer = small_model(**SIZES | {"audio_face_layout": layout})
    if checkpointing:
        transformer.enable_gradient_checkpointing()
    model = TrainedModel(transformer, CLIPVisionModel(CLIPVisionConfig(**IMAGE)), False).train()
    batch, prompts = batch_of(KIND, model), torch.randn(2, 6, 8)

    def step() -> None:
        loss = group_loss(model, batch, prompts, 3.0, "release", torch.Generator().manual_seed(0))
        loss.backward()

    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counted:
        step()
    assert flops == pytest.approx(counted.get_total_flops(), rel=0.02)
    for value in model.parameters():
        if value.requires_grad:
            value.grad = None
            value.register_post_accumulate_grad_hook(lambda one: setattr(one, "grad", None))
    with AllocationCounter() as allocated:
        step()
    assert activations == pytest.approx(allocated.peak, rel=0.05)


def test_checkpointing_takes_less_memory_and_more_operations(tmp_path) -> None:
    kept, again = (
        estimate.simulate_steps(make_config(tmp_path, gradient_checkpointing=on), shape(), [KIND])[KIND]
        for on in (False, True)
    )
    assert 1.2 < again[0] / kept[0] < 1.4
    assert again[1] < 0.6 * kept[1]


@pytest.mark.parametrize("changes", [{}, {"train_image_encoder": True}, {"lora": {"rank": 2}, "precision": "bf16"}])
def test_states_are_those_of_a_run(tmp_path, changes) -> None:
    config = make_config(tmp_path, steps=1, save_every=1, **changes)
    known, missing = training_shape(config.model)
    kinds, lacking = batch_kinds(config, known.settings)
    assert missing == lacking == []
    said = estimate_run(config, known, kinds)

    trainer = Trainer(config, lambda line: None)
    trainer.run()
    values = list(trainer.model.parameters())
    moments = [state[name] for state in trainer.optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    held = {
        "weights": values,
        "gradients": [value.grad for value in values if value.grad is not None],
        "optimizer": moments,
        "averages": trainer.average.shadow_params,
    }
    assert said.states == {name: sum(value.nbytes for value in kept) for name, kept in held.items()}
    assert said.trained == sum(value.numel() for value in trainer.trained)
    (checkpoint,) = trainer.checkpoints.iterdir()
    written = sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file())
    names_and_numbers = 700 * len(trainer.trained) + 50_000
    assert said.checkpoint <= written <= said.checkpoint + names_and_numbers


def test_processes_share_what_is_sharded(tmp_path) -> None:
    config = make_config(tmp_path, groups=8)
    alone, four = (estimate_run(config, shape(), [KIND], processes) for processes in (1, 4))
    assert four.states == alone.states | {"gradient buckets": alone.states["gradients"]}
    assert (alone.groups, four.groups, four.flops) == (8, 2, alone.flops)
    assert four.hours(1.0) == pytest.approx(alone.hours(1.0) / 4)
    sharded = estimate_run(make_config(tmp_path, groups=8, fsdp=True), shape(), [KIND], 4)
    assert sharded.sharded
    for name, size in alone.states.items():
        assert sharded.states[name] == pytest.approx(size / 4, abs=1)
    fewer = estimate_run(make_config(tmp_path, groups=4, fsdp=True), shape(), [KIND], 4)
    assert sharded.computing == fewer.computing  # gradients are shared out after every group
    with pytest.raises(InputError, match="3 processes can't share"):
        estimate_run(config, shape(), [KIND], 3)


def test_batches_are_those_of_the_shards(tmp_path) -> None:
    write_shards(tmp_path / "duo", clips=4, persons=2)
    data = {"single": [tmp_path / "single", tmp_path / "duo"], "joined": [tmp_path / "single"]}
    config = make_config(tmp_path, batch_size=4, data=data, batches={"join": [1, 2]})
    whole = [BatchKind(4, 1, 4, 12, 12, 0.375), BatchKind(4, 2, 4, 12, 24, 0.125), BatchKind(4, 2, 4, 12, 24, 0.5)]
    assert batch_kinds(config, PipelineSettings()) == (whole, [])
    config = make_config(
        tmp_path,
        batch_size=5,
        data={"joined": [tmp_path / "duo"], "window": None, "crop": 8, "crop_probability": 0.75},
        batches={"join": [1, 2], "join_once": True},
    )
    cut = [BatchKind(5, 1, 6, 8, 8, 0.375), BatchKind(5, 1, 6, 12, 12, 0.125)]
    cut += [BatchKind(2, 4, 6, 8, 40, 0.375), BatchKind(2, 4, 6, 12, 48, 0.125)]
    assert batch_kinds(config, PipelineSettings()) == (cut, [])
    data = config.data.model_copy(update={"crop": 12})
    kinds = batch_kinds(config.model_copy(update={"data": data}), PipelineSettings())[0]
    assert [(kind.rows, kind.columns) for kind in kinds] == [(12, 12), (12, 48)]
    assert _kinds_of(config, 1, (1, 6, 8, 14), 1.0)[0] == BatchKind(5, 1, 6, 8, 8, 0.75)  # wide, though no higher


def test_what_is_missing_is_named_and_counted_all_the_same(tmp_path) -> None:
    config = make_config(tmp_path, data={"single": [tmp_path / "none"], "joined": [tmp_path / "gone"], "window": 20})
    config = config.model_copy(update={"batches": config.batches.model_copy(update={"join": [1, 2]})})
    kinds, missing = batch_kinds(config, PipelineSettings())
    assert [(kind.people, kind.rows, kind.columns, kind.frames) for kind in kinds] == [
        (1, 60, 104, 21),
        (2, 60, 104, 21),
    ]
    assert [str(tmp_path / name) in line for name, line in zip(("none", "gone"), missing, strict=True)] == [True] * 2
    alone = replace(PipelineSettings(), max_area=256 * 128)
    assert batch_kinds(config, alone)[0][0].rows * batch_kinds(config, alone)[0][0].columns <= 32 * 16


def test_a_model_is_known_by_its_configuration_alone(tmp_path) -> None:
    config = make_config(tmp_path)
    before, _ = training_shape(config.model)
    for weights in config.model.rglob("*.safetensors"):
        weights.unlink()
    after, missing = training_shape(config.model)
    assert after == before
    assert len(missing) == 1
    with pytest.raises(InputError, match="--like"):
        training_shape(tmp_path / "nothing")
    known, missing = training_shape(tmp_path / "nothing", str(config.model))
    assert known == before
    assert str(tmp_path / "nothing") in missing[0]
    named, missing = training_shape(Path("runs/14b/start"))
    assert named.transformer["num_layers"] == 40
    assert missing[0].endswith("Counted as 14b.")


PAPER = {
    "1.3b-stage1": (2e-5, 48, [1, 2], 8),
    "1.3b-stage2": (5e-6, 48, [1], 8),
    "14b-stage1": (2e-5, 32, [1, 2], 16),
    "14b-stage2": (5e-6, 16, [1], 16),
}


@pytest.mark.parametrize("name", PAPER)
def test_full_size_configurations_have_the_papers_values(name: str) -> None:
    rate, clips, join, processes = PAPER[name]
    config = load_config(Path(__file__).parents[2] / "configs" / f"{name}.yaml")
    assert isinstance(config, TrainingConfig)
    assert (config.optimizer.learning_rate, config.groups * config.batch_size) == (rate, clips)
    assert (config.batches.join, config.groups % processes, config.shift) == (join, 0, 3.0)
    assert config.steps == (2_400_000 if name.endswith("1") else 50_000)
    assert (config.loss_weighting, config.precision, config.fsdp) == ("release", "bf16", True)
    assert config.gradient_checkpointing
    assert config.model == Path("runs", name.partition("-")[0], "start" if name.endswith("1") else "stage1/model")
