"""Training: losses mean what they say, and an interrupted run goes on exactly as if it had not been."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from anytalker import AnyTalkerError
from anytalker.training import trainer
from anytalker.training.autoencoder import warmup_cosine
from anytalker.training.batches import BatchSettings
from anytalker.training.losses import add_noise, flow_matching_loss, sample_sigmas, timestep_weights
from anytalker.training.trainer import Conditioner, TrainingSettings, TrainingState, train
from tests.models.test_transformer import small_model
from tests.training.test_batches import clip

SETTINGS = TrainingSettings(
    steps=6, batch_size=2, window=3, crop=8, warmup_steps=2, save_every=3, log_every=1, batches=BatchSettings()
)


def small_state(settings: TrainingSettings) -> TrainingState:
    from transformers import ByT5Tokenizer, CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    tokenizer = ByT5Tokenizer(extra_ids=0)
    text = UMT5Config(
        vocab_size=len(tokenizer), d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2, dropout_rate=0.0
    )
    image = CLIPVisionConfig(
        hidden_size=12, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8
    )
    conditioner = Conditioner(UMT5EncoderModel(text).eval(), tokenizer, CLIPVisionModel(image), 48)
    transformer = small_model(audio_channels=8, text_len=48, num_layers=1).train()
    return TrainingState.start(transformer, conditioner, settings)


def clips() -> list:
    generator = torch.Generator().manual_seed(5)
    made = []
    for index in range(6):
        one = clip(float(index), frames=6)
        one.latents[:] = torch.randn(one.latents.shape, generator=generator)
        made.append(one)
    return made


def losses_of(lines: list[str]) -> list[str]:
    return [line.split("loss ")[1].split()[0] for line in lines]


def test_a_killed_run_resumes_to_the_same_losses_and_weights(tmp_path) -> None:
    whole, cut = [], []
    finished = train(small_state(SETTINGS), clips(), SETTINGS, tmp_path / "a.pt", whole.append)
    first = small_state(SETTINGS)

    def until_step_four(line: str) -> None:
        cut.append(line)
        if "step 4/" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(first, clips(), SETTINGS, tmp_path / "b.pt", until_step_four)
    resumed = small_state(replace(SETTINGS, seed=99))
    resumed.load(tmp_path / "b.pt")
    assert resumed.step == 3
    again: list[str] = []
    train(resumed, clips(), SETTINGS, tmp_path / "b.pt", again.append)
    assert losses_of(cut)[:3] + losses_of(again) == losses_of(whole)
    for key, value in finished.averaged.items():
        assert torch.equal(resumed.averaged[key], value), key


def test_a_run_may_begin_with_anothers_averaged_weights(tmp_path) -> None:
    first = train(small_state(SETTINGS), clips(), SETTINGS, tmp_path / "a.pt", lambda line: None)
    second = small_state(SETTINGS)
    second.start_from(tmp_path / "a.pt")
    assert second.step == 0
    weights = second.transformer.state_dict()
    assert all(torch.equal(weights[key], first.averaged[f"transformer.{key}"]) for key in weights)


def test_training_learns_a_fixed_clip(tmp_path) -> None:
    settings = replace(SETTINGS, steps=60, log_every=20, learning_rate=3e-3)
    lines: list[str] = []
    still = [clip(0.5, frames=6)] * 4
    train(small_state(settings), still, settings, tmp_path / "a.pt", lines.append)
    values = [float(value) for value in losses_of(lines)]
    assert values[-1] < 0.7 * values[0]


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(tmp_path, monkeypatch) -> None:
    checkpoint = tmp_path / "a.pt"
    state = small_state(SETTINGS)
    train(state, clips(), replace(SETTINGS, steps=3), checkpoint, lambda line: None)
    saved = checkpoint.read_bytes()
    monkeypatch.setattr(trainer, "flow_matching_loss", lambda *arguments: arguments[0].sum() * float("nan"))
    with pytest.raises(AnyTalkerError, match=r"nan at step 3.*a\.pt.*learning rate"):
        train(state, clips(), SETTINGS, checkpoint, lambda line: None)
    assert checkpoint.read_bytes() == saved


def test_averaged_weights_trail_the_trained_ones(tmp_path) -> None:
    state = train(small_state(SETTINGS), clips(), SETTINGS, tmp_path / "a.pt", lambda line: None)
    averaged, _ = state.averaged_models()
    differences = [
        (a - b).abs().max().item() for a, b in zip(averaged.parameters(), state.transformer.parameters(), strict=True)
    ]
    assert max(differences) > 0


def test_the_perfect_velocity_has_no_loss_and_places_weigh() -> None:
    latents, noise = torch.randn(2, 4, 3, 4, 4), torch.randn(2, 4, 3, 4, 4)
    ones = torch.ones(2)
    place = torch.ones(2, 1, 1, 4, 4)
    assert flow_matching_loss(noise - latents, latents, noise, ones, place) == 0
    wrong = noise - latents
    wrong[..., 0, 0] += 1
    place[..., 0, 0] = 15
    plain = flow_matching_loss(wrong, latents, noise, ones, torch.ones(2, 1, 1, 4, 4))
    assert flow_matching_loss(wrong, latents, noise, ones, place) == pytest.approx(
        float(plain) * 15 * 16 / 30, rel=1e-5
    )


def test_noise_levels_are_shifted_and_weights_average_to_one() -> None:
    sigmas = sample_sigmas(4000, 3.0, torch.Generator().manual_seed(0))
    assert 0 < sigmas.min() < sigmas.max() < 1
    assert sigmas.median() == pytest.approx(0.75, abs=0.02)
    weights = timestep_weights(sigmas, 3.0)
    assert weights.mean() == pytest.approx(1.0, abs=0.01)
    assert weights[sigmas.sub(0.75).abs().argmin()] > weights[sigmas.argmax()]
    point = add_noise(torch.zeros(1, 1, 1, 1, 1), torch.ones(1, 1, 1, 1, 1), torch.tensor([0.3]))
    assert point.item() == pytest.approx(0.3)


def test_the_rate_warms_up_and_falls() -> None:
    rates = [warmup_cosine(step, 10, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == 1
    assert rates[-1] < 0.05
