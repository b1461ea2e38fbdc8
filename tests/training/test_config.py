"""Configurations: what is wrong is named, what is changed is changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from anytalker import InputError
from anytalker.training.config import TrainingConfig, load_config

PLAIN = "output: run\nmodel: model\nsteps: 10\nbatch_size: 2\ndata:\n  single: [shards]\n"


@pytest.fixture
def plain(tmp_path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(PLAIN)
    return path


def test_values_can_be_set_from_outside(plain) -> None:
    changes = ["steps=20", "optimizer.learning_rate=3e-4", "batches.join=[1, 2, 3]", "batch_size=3", "lora.rank=4"]
    config = load_config(plain, changes)
    assert (config.steps, config.optimizer.learning_rate, config.batches.join) == (20, 3e-4, [1, 2, 3])
    assert config.lora is not None
    assert config.lora.rank == 4
    assert load_config(plain).lora is None


def test_validation_is_turned_off_by_null(plain) -> None:
    plain.write_text(PLAIN + "validation:\n  every: 5\n  data: [held-out]\n")
    assert load_config(plain).validation.every == 5
    assert load_config(plain, ["validation=null"]).validation.every is None
    plain.write_text(PLAIN + "validation: null\n")
    assert load_config(plain).validation.every is None


def test_a_part_that_is_null_can_be_set(plain) -> None:
    plain.write_text(PLAIN + "lora: null\n")
    lora = load_config(plain, ["lora.rank=4"]).lora
    assert lora is not None
    assert lora.rank == 4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (["stepz=1"], "stepz"),
        (["data.colour=red"], "data.colour"),
        (["steps=0"], "steps"),
        (["optimizer.learning_rate=-1"], "optimizer.learning_rate"),
        (["batches.silent_probability=2"], "batches.silent_probability"),
        (["precision=fp8"], "precision"),
        (["loss_weighting=flat"], "loss_weighting"),
        (["batches.join=[3]"], "more than batch_size"),
        (["validation.every=5"], "validation.data names no shards"),
        (["lora.rank=4", "fsdp=true"], "can't be used together"),
        (["lora.rank=4", "train_image_encoder=true"], "adapter of the transformer alone"),
        (["fsdp=true", "validation.every=5", "validation.data=[held-out]"], "validation.every can't be used with fsdp"),
        (["batches.join=[0]"], "batches.join"),
        (["batches.box_wide=[-1, 2]"], "batches.box_wide"),
        (["batches.box_wide=[2, 1.6]"], "give the smaller number first"),
        (["seed=4294967296"], "seed"),
        (["optimizer.betas=[0.9, 1.5]"], "optimizer.betas"),
        (["steps=[1"], "not YAML"),
        (["steps"], "key=value"),
        (["steps.more=1"], "not a part"),
        (["data.crop=3"], "data.crop"),
        (["data.shares=[1, 2]"], "data: .*shares has 2 numbers for 1 folders"),
        (["data.shares=[0]"], "data.shares"),
        (["data.single=[shards, shards]"], "data: .*shards is named twice"),
    ],
)
def test_what_is_wrong_is_named(plain, changes, reason) -> None:
    with pytest.raises(InputError, match=reason):
        load_config(plain, changes)


def test_files_that_are_none_are_named(tmp_path) -> None:
    with pytest.raises(InputError, match="no configuration"):
        load_config(tmp_path / "gone.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(InputError, match="not YAML"):
        load_config(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_text("- steps")
    with pytest.raises(InputError, match="no keys"):
        load_config(tmp_path / "bad.yaml", ["steps=1"])
    (tmp_path / "bad.yaml").write_bytes(b"steps: \xff\xfe")
    with pytest.raises(InputError, match="not YAML"):
        load_config(tmp_path / "bad.yaml")


CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def test_configurations_are_shipped() -> None:
    assert CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(path: Path) -> None:
    assert isinstance(load_config(path), TrainingConfig)


def test_the_default_is_the_releases_and_the_miniatures_own_runs_say_theirs(plain) -> None:
    assert load_config(plain).loss_weighting == "release"
    for path in sorted((Path(__file__).parents[2] / "configs").glob("miniature-*.yaml")):
        config = load_config(path)
        assert config.loss_weighting == "uniform_bump"
        assert "loss_weighting" in config.model_fields_set


def test_what_earlier_versions_held_to_draw_from_is_of_no_account(tmp_path) -> None:
    (tmp_path / "old.yaml").write_text(PLAIN + "  shuffle: 100\n")
    (tmp_path / "new.yaml").write_text(PLAIN)
    assert load_config(tmp_path / "old.yaml") == load_config(tmp_path / "new.yaml")
