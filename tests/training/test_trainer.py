"""Training: an interrupted run goes on as if it had not been, and many processes train as one does."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import UMT5EncoderModel

from anytalker import AnyTalkerError, AnyTalkerPipeline, InputError
from anytalker.data.shards import ShardWriter
from anytalker.models.digest import encoder_digest
from anytalker.models.transformer import AnyTalkerTransformerBlock
from anytalker.training import checkpoints, trainer, validation
from anytalker.training.config import TrainingConfig
from anytalker.training.trainer import Trainer, learning_rate
from tests.training.fixtures import damage, make_config, sample, train, weights, write_shards


def test_a_run_writes_a_model_that_makes_videos(tmp_path, tone) -> None:
    config = make_config(tmp_path)
    lines: list[str] = []
    losses = Trainer(config, lines.append).run()
    assert len(losses) == 4
    assert "step 4/4" in lines[-1]
    assert "left" in lines[0]
    before, after = weights(tmp_path), weights(tmp_path / "run")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    pipeline = AnyTalkerPipeline.from_pretrained(tmp_path / "run" / "model")
    video = pipeline(_picture(), [tone], faces=[(20, 20, 40, 40)], max_frames=9)
    assert video.frames.shape[0] == 9
    assert list((tmp_path / "run").glob("logs/events*"))


def _picture():
    from PIL import Image

    return Image.new("RGB", (96, 96), (90, 120, 150))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_run_resumes_to_the_same_losses_and_weights(tmp_path, monkeypatch, workers: int) -> None:
    data = {"workers": workers}
    whole = train(make_config(tmp_path, output=tmp_path / "whole", data=data))
    config = make_config(tmp_path, output=tmp_path / "cut", data=data)
    killed = Trainer(config, lambda line: None)
    real = killed._train_step

    def until_step_three(*arguments) -> float:
        if killed.step == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(killed, "_train_step", until_step_three)
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    resumed = Trainer(config, lambda line: None)
    assert resumed.step == 2
    assert resumed.run() == whole[2:]
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_accumulation_changes_the_losses_but_not_their_order(tmp_path) -> None:
    once = train(make_config(tmp_path, output=tmp_path / "a", steps=2))
    assert once == train(make_config(tmp_path, output=tmp_path / "b", steps=2))
    assert once != train(make_config(tmp_path, output=tmp_path / "c", steps=2, seed=1))
    assert once != train(make_config(tmp_path, output=tmp_path / "d", steps=2, groups=2))


def test_a_lora_run_changes_only_its_adapter(tmp_path) -> None:
    config = make_config(tmp_path, lora={"rank": 2, "layers": ["to_q", "to_v"]})
    runner = Trainer(config, lambda line: None)
    names = [name for name, parameter in runner.model.named_parameters() if parameter.requires_grad]
    assert names
    assert all("lora_" in name for name in names)
    frozen = {name: p.detach().clone() for name, p in runner.model.named_parameters() if not p.requires_grad}
    runner.run()
    now = dict(runner.model.named_parameters())
    assert all(torch.equal(now[name], value) for name, value in frozen.items())
    adapter = load_file(tmp_path / "run" / "adapter.safetensors")
    assert all("lora_" in name for name in adapter)
    before, after = weights(tmp_path), weights(tmp_path / "run")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.allclose(before[name], after[name], atol=1e-8)}
    assert changed
    assert all(name.split(".")[-2] in ("to_q", "to_v") for name in changed)
    with pytest.raises(InputError, match=r"lora\.layers"):
        Trainer(make_config(tmp_path, output=tmp_path / "bad", lora={"layers": ["wings"]}), lambda line: None)


def test_stage_two_goes_on_from_stage_one_with_real_pairs(tmp_path) -> None:
    train(make_config(tmp_path, train_image_encoder=True))
    write_shards(tmp_path / "duo", clips=6, persons=2)
    second = make_config(
        tmp_path,
        output=tmp_path / "stage2",
        model=tmp_path / "run" / "model",
        data={"single": [tmp_path / "duo"]},
        batches={"join": [1]},
    )
    assert len(train(second)) == 4
    assert not torch.equal(
        weights(tmp_path / "run")["proj_out.weight"], weights(tmp_path / "stage2")["proj_out.weight"]
    )


def test_the_image_encoder_is_trained_only_if_asked(tmp_path) -> None:
    def encoder(folder: Path) -> dict[str, torch.Tensor]:
        return load_file(folder / "model" / "image_encoder" / "model.safetensors")

    train(make_config(tmp_path))
    before, after = encoder(tmp_path), encoder(tmp_path / "run")
    assert all(torch.equal(before[name], after[name]) for name in before)
    train(make_config(tmp_path, output=tmp_path / "both", train_image_encoder=True))
    after = encoder(tmp_path / "both")
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_savings_are_really_made(tmp_path) -> None:
    runner = Trainer(make_config(tmp_path, output=tmp_path / "saving", gradient_checkpointing=True), lambda line: None)
    assert runner.pipeline.transformer.is_gradient_checkpointing
    plain = train(make_config(tmp_path, output=tmp_path / "plain", steps=1))
    assert train(make_config(tmp_path, output=tmp_path / "coarse", steps=1, precision="bf16")) != plain


@pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"gradient_checkpointing": True}])
def test_savings_train_nearly_the_same(tmp_path, changes) -> None:
    plain = train(make_config(tmp_path, output=tmp_path / "plain", steps=2))
    saving = train(make_config(tmp_path, output=tmp_path / "saving", steps=2, **changes))
    assert saving == pytest.approx(plain, rel=0.03)


def test_compiled_blocks_train_the_same_and_validation_compiles_nothing(tmp_path, monkeypatch) -> None:
    write_shards(tmp_path / "held-out", clips=1)
    compiled, graphs = [], []

    def counting(graph, inputs):
        graphs.append(graph)
        return graph

    def compile_counting(block: AnyTalkerTransformerBlock, **options: object) -> None:
        compiled.append(block)
        torch.nn.Module.compile(block, backend=counting, **options)

    monkeypatch.setattr(AnyTalkerTransformerBlock, "compile", compile_counting)
    torch.compiler.reset()
    options = {"steps": 2, "batches": {"join": [1]}}  # batches of one shape, so one graph is enough
    plain = train(make_config(tmp_path, output=tmp_path / "plain", **options))
    assert compiled == []
    options |= {"compile": True, "validation": {"every": 9, "data": [tmp_path / "held-out"]}}
    runner = Trainer(make_config(tmp_path, **options), lambda line: None)
    assert runner.run() == pytest.approx(plain, rel=1e-5)
    assert len(compiled) == 1
    needed = len(graphs)
    assert needed
    runner._validate()
    assert len(graphs) == needed
    assert list((tmp_path / "run" / "validation").glob("*/*.mp4")), "and yet it played whole clips"


def test_validation_measures_and_writes_videos(tmp_path) -> None:
    write_shards(tmp_path / "held-out", clips=3)
    validation = {"every": 2, "data": [tmp_path / "held-out"], "clips": 2, "videos": 1}
    lines: list[str] = []
    plain = train(make_config(tmp_path, output=tmp_path / "plain"))
    looked = Trainer(make_config(tmp_path, validation=validation), lines.append).run()
    assert looked == plain
    assert sum("validation  loss" in line for line in lines) == 2
    assert len(list((tmp_path / "run" / "validation").glob("*/*.mp4"))) == 2


def test_validation_looks_at_what_the_run_and_the_pipeline_do(tmp_path, monkeypatch) -> None:
    write_shards(tmp_path / "held-out", clips=1)
    runner = Trainer(make_config(tmp_path, validation={"every": 1, "data": [tmp_path / "held-out"]}), lambda line: None)
    measured, shown = [], []
    real_loss, real_conditioning = validation.group_loss, validation.Conditioning

    def loss(model, batch, *arguments):
        measured.append(batch.latents.shape[2])
        return real_loss(model, batch, *arguments)

    def conditioning(**values):
        shown.append(values)
        return real_conditioning(**values)

    monkeypatch.setattr(validation, "group_loss", loss)
    monkeypatch.setattr(validation, "Conditioning", conditioning)
    runner._validate()
    assert measured == [4], "the picture and a window of three, as the run trains on"
    assert shown[0]["condition"].shape[2] == 6, "the whole clip is shown"
    with torch.no_grad():
        null_text = AnyTalkerPipeline.from_pretrained(runner.config.model).encode_null_text(None)
    assert torch.equal(shown[0]["negative_prompt_embeds"], null_text)


def test_validation_measures_as_many_clips_as_asked(tmp_path) -> None:
    write_shards(tmp_path / "held-out", clips=3)

    def measured(clips: int) -> str:
        validation = {"every": 2, "data": [tmp_path / "held-out"], "clips": clips, "videos": 0}
        lines: list[str] = []
        Trainer(make_config(tmp_path, validation=validation), lines.append)._validate()
        return next(line for line in lines if "validation" in line)

    one, two, three, more = map(measured, (1, 2, 3, 9))
    assert len({one, two, three}) == 3
    assert more == three  # there are no more


@pytest.mark.parametrize(("every", "lines"), [(1, 5), (2, 3), (25, 1)])
def test_progress_is_said_every_so_many_steps_and_at_the_end(tmp_path, every: int, lines: int) -> None:
    said: list[str] = []
    losses = Trainer(make_config(tmp_path, steps=5, log_every=every), said.append).run()
    reports = [line for line in said if line.startswith("step ")]
    assert len(reports) == lines
    assert f"loss {sum(losses[-every:]) / len(losses[-every:]):.4f}" in reports[-1]


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(tmp_path, monkeypatch) -> None:
    train(make_config(tmp_path, steps=2))
    real = trainer.group_loss
    monkeypatch.setattr(trainer, "group_loss", lambda *arguments: real(*arguments) * float("nan"))
    with pytest.raises(AnyTalkerError, match=r"nan at step 2.*step 2 is kept.*lower learning rate and another output"):
        train(make_config(tmp_path, steps=4))
    assert checkpoints.checkpoint_steps(tmp_path / "run" / "checkpoints") == [2]


def test_a_gradient_that_is_no_number_spoils_no_weights(tmp_path) -> None:
    train(make_config(tmp_path, steps=2))
    runner = Trainer(make_config(tmp_path, steps=4), lambda line: None)
    runner.trained[0].register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(AnyTalkerError, match=r"gradient became nan at step 2.*step 2 is kept"):
        runner.run()
    assert all(parameter.isfinite().all() for parameter in runner.trained)
    assert checkpoints.checkpoint_steps(tmp_path / "run" / "checkpoints") == [2]


def test_a_lora_run_in_bfloat16_holds_its_frozen_matrices_in_it(tmp_path) -> None:
    write_shards(tmp_path / "held-out", clips=1)
    options = {"lora": {"rank": 2}, "precision": "bf16"}
    validation = {"every": 4, "data": [tmp_path / "held-out"]}
    runner = Trainer(make_config(tmp_path, validation=validation, **options), lambda line: None)
    kinds = {name: value.dtype for name, value in runner.model.transformer.named_parameters()}
    assert kinds["blocks.0.attn1.to_q.base_layer.weight"] == torch.bfloat16
    assert kinds["blocks.0.attn1.to_q.lora_A.default.weight"] == torch.float32
    assert kinds["blocks.0.scale_shift_table"] == torch.float32
    losses = runner.run()
    assert losses == pytest.approx(train(make_config(tmp_path, output=tmp_path / "fp32", lora={"rank": 2})), rel=0.02)
    before, after = weights(tmp_path), weights(tmp_path / "run")
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed
    assert all(name.split(".")[-2] in ("to_q", "to_k", "to_v") for name in changed), "the model is not coarsened"


def test_the_text_encoder_is_asked_once_and_gone(tmp_path, monkeypatch) -> None:
    config = make_config(tmp_path, batches={"join": [1, 2], "text_dropout": 0.5})
    monkeypatch.setattr(UMT5EncoderModel, "to", lambda *arguments, **options: pytest.fail("moved"))
    runner = Trainer(config, lambda line: None)
    assert runner.pipeline.text_encoder is None
    assert len(runner.run()) == 4


def test_tables_and_biases_do_not_decay(tmp_path) -> None:
    runner = Trainer(make_config(tmp_path), lambda line: None)
    names = {id(value): name for name, value in runner.model.named_parameters()}
    decays, stays = (
        {names[id(value)] for value in group["params"]} for group in runner.optimizer.optimizer.param_groups
    )
    assert "transformer.blocks.0.attn1.to_q.weight" in decays
    assert {"transformer.blocks.0.scale_shift_table", "transformer.blocks.0.attn1.to_q.bias"} <= stays


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory) -> tuple[TrainingConfig, list[float], dict[str, torch.Tensor]]:
    """A run with nothing special, its losses and weights."""
    folder = tmp_path_factory.mktemp("plain")
    config = make_config(folder, steps=3, batches={"text_dropout": 0.0})
    return config, train(config), weights(folder / "run")


@pytest.mark.parametrize(
    "changes",
    [
        {"shift": 7.0},
        {"data": {"crop": 8, "crop_probability": 1.0}},
        {"batches": {"lip_weight": 30.0}},
        {"batches": {"eye_weight": 30.0}},
        {"optimizer": {"weight_decay": 5.0}},
        {"optimizer": {"betas": (0.5, 0.5)}},
        {"optimizer": {"gradient_clip": 1e-9}},
        {"optimizer": {"average": 0.0}},
    ],
    ids=str,
)
def test_every_value_matters(plain_run, tmp_path, changes) -> None:
    config, plain_losses, plain = plain_run
    values = config.model_dump() | {"output": tmp_path / "changed"}
    for key, value in changes.items():
        values[key] = values[key] | value if isinstance(value, dict) else value
    losses = train(type(config).model_validate(values))
    changed = weights(tmp_path / "changed")
    assert any(not torch.equal(plain[name], changed[name]) for name in plain)
    only_averages = "average" in changes.get("optimizer", {})
    assert (losses == plain_losses) == only_averages


@pytest.mark.parametrize(
    ("about", "frames", "data", "reason"),
    [
        ({"condition": "zeros"}, (6,), {}, "made with condition 'zeros', but the model has 'still'"),
        ({"image_size": 224}, (6,), {}, "made with image_size 224"),
        ({"silence": "pauses"}, (6,), {}, "odd are of an earlier version, whose silent clips were others"),
        ({"audio_features": "of something else"}, (6,), {}, "odd hold voices as other audio features hear them"),
        ({"autoencoder": "0123456789abcdef"}, (6,), {}, "odd hold latents of another autoencoder"),
        ({}, (6, 3), {}, r"window is 3, but .*odd has clips of only 2 latent frames"),
        ({}, (6, 5), {"window": None}, r"odd has clips of \[5, 6\] latent frames; set data.window"),
    ],
)
def test_shards_that_do_not_fit_are_refused_at_the_start(tmp_path, about, frames, data, reason) -> None:
    with ShardWriter(tmp_path / "odd", 3, about) as writer:
        for number, length in enumerate(frames):
            writer.write(str(number), {}, sample(number, frames=length))
    with pytest.raises(InputError, match=reason):
        Trainer(make_config(tmp_path, data={"single": [tmp_path / "odd"], **data}), lambda line: None)


def test_shards_of_the_model_s_autoencoder_in_any_precision_fit(tmp_path) -> None:
    config = make_config(tmp_path)
    vae = AnyTalkerPipeline.from_pretrained(config.model).vae
    for kind in (torch.float32, torch.float16, torch.bfloat16):
        about = {"autoencoder": encoder_digest(copy.deepcopy(vae).to(kind))}
        with ShardWriter(tmp_path / str(kind), 3, about) as writer:
            for number in range(3):
                writer.write(str(number), {}, sample(number))
        Trainer(make_config(tmp_path, data={"single": [tmp_path / str(kind)]}), lambda line: None)


def test_held_out_shards_are_checked_at_the_start(tmp_path) -> None:
    validation = {"every": 2, "data": [tmp_path / "nowhere"]}
    with pytest.raises(InputError, match="nowhere holds no finished shards"):
        Trainer(make_config(tmp_path, validation=validation), lambda line: None)


def test_several_held_out_folders_take_turns(tmp_path) -> None:
    folders = [write_shards(tmp_path / name, clips=3) for name in ("first", "second")]
    validation = {"every": 4, "data": folders, "clips": 3, "videos": 3}
    Trainer(make_config(tmp_path, validation=validation), lambda line: None)._validate()
    names = sorted(path.name for path in (tmp_path / "run" / "validation").glob("*/*.mp4"))
    assert names == ["first-00000000.mp4", "first-00000001.mp4", "second-00000000.mp4"]


def test_scenes_of_two_and_three_people_do_not_share_a_batch(tmp_path) -> None:
    with ShardWriter(tmp_path / "mixed", 3) as writer:
        for number in range(6):
            writer.write(str(number), {}, sample(number, persons=2 + number % 2))
    config = make_config(tmp_path, data={"single": [tmp_path / "mixed"]}, batches={"join": [1]})
    with pytest.raises(InputError, match="2 people in 12×24, 3 people in 12×36 latents"):
        Trainer(config, lambda line: None)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_shard_ends_a_run_in_one_line(tmp_path, workers: int) -> None:
    config = make_config(tmp_path, steps=8, data={"workers": workers})
    damage(tmp_path / "single" / "clips-000002.tar")
    with pytest.raises(InputError, match=r"^The shard .*clips-000002\.tar is damaged"):
        train(config)


def test_rates_warm_up_and_stay_or_fall(tmp_path) -> None:
    optimizer = {"learning_rate": 1.0, "warmup_steps": 4}
    constant = make_config(tmp_path, steps=20, optimizer=optimizer)
    assert [learning_rate(constant, step) for step in (0, 3, 19)] == [0.25, 1.0, 1.0]
    cosine = make_config(tmp_path, steps=20, optimizer=optimizer | {"schedule": "cosine"})
    rates = [learning_rate(cosine, step) for step in range(20)]
    assert max(rates) == pytest.approx(1, abs=0.02)
    assert rates[-1] < 0.1
