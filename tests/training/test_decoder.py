"""Fine-tuning a decoder on predicted latents: it learns them, still decodes true ones, and nothing else changes."""

from __future__ import annotations

import copy

import pytest
import torch

from anytalker import AnyTalkerError
from anytalker.miniature.world.clips import autoencoder_batches
from anytalker.models.autoencoder import MiniatureAutoencoder
from anytalker.models.digest import encoder_digest, weights_digest
from anytalker.models.latents import decode_video, encode_video
from anytalker.training.adversarial import PatchDiscriminator
from anytalker.training.decoder import DecoderTraining, decoding_parameters, train_decoder

Lesson = tuple[MiniatureAutoencoder, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    """A small autoencoder, and softened latents of two clips, the true ones, and their pixels."""
    return _lesson(2)


def _lesson(clips: int) -> Lesson:
    torch.manual_seed(0)
    pixels = next(autoencoder_batches(0, frames=9, sizes=[(clips, 64)]))
    vae = MiniatureAutoencoder(width=32, blocks=1, fine_width=16, fine_blocks=1)
    vae.start_from_components(pixels)
    true = encode_video(vae, pixels)
    return vae, (0.7 * true, true, pixels)


def _tuned(lesson, **changes) -> tuple[MiniatureAutoencoder, MiniatureAutoencoder]:
    vae, batch = lesson
    torch.manual_seed(1)
    settings = {"steps": 40, "warmup_steps": 2, "learning_rate": 2e-3, "adversarial_start": 14, "average": 0.9}
    tuned = train_decoder(
        copy.deepcopy(vae), iter(lambda: batch, None), DecoderTraining(**settings | changes), lambda line: None
    )
    return vae, tuned


def _error(vae: MiniatureAutoencoder, latents: torch.Tensor, pixels: torch.Tensor) -> float:
    return float((decode_video(vae, latents) - pixels).abs().mean())


def test_a_decoder_learns_its_models_guesses_and_keeps_the_encoder(lesson) -> None:
    vae, tuned = _tuned(lesson)
    guesses, true, pixels = lesson[1]
    assert _error(tuned, guesses, pixels) < 0.75 * _error(vae, guesses, pixels)
    assert encoder_digest(tuned) == encoder_digest(vae)
    assert weights_digest(tuned) != weights_digest(vae)
    assert torch.equal(encode_video(tuned, pixels), true)


def test_the_share_of_true_latents_decides_what_is_learned(lesson) -> None:
    guesses, true, pixels = lesson[1]
    only_guesses, only_true = (_tuned(lesson, true_share=share, adversarial_weight=0.0)[1] for share in (0.0, 1.0))
    assert _error(only_guesses, guesses, pixels) < _error(only_true, guesses, pixels)
    assert _error(only_true, true, pixels) < _error(only_guesses, true, pixels)


@pytest.mark.slow
def test_the_discriminator_gives_soft_guesses_stronger_edges() -> None:
    vae, (_, true, pixels) = _lesson(4)  # with fewer, edges become stronger than the true ones
    coarse = torch.nn.functional.avg_pool3d(true, (1, 4, 4), (1, 4, 4))
    hidden = (torch.nn.functional.interpolate(coarse, true.shape[2:]), true, pixels)

    def edges(video: torch.Tensor) -> float:
        return float(video.diff(dim=-1).abs().mean())

    strengths = [
        edges(decode_video(_tuned((vae, hidden), adversarial_weight=weight, bf16=False)[1], hidden[0]))
        for weight in (0.0, 1.0)
    ]
    assert 1.1 * strengths[0] < strengths[1] < edges(pixels)


def test_only_the_decoders_parameters_are_found(lesson) -> None:
    vae, (guesses, _, _) = lesson
    used = {id(one) for one in decoding_parameters(vae, guesses)}
    for name, parameter in vae.named_parameters():
        assert (id(parameter) in used) == name.startswith("decode"), name


def test_the_discriminator_sees_four_frames_and_scores_patches() -> None:
    scores, features = PatchDiscriminator(12)(torch.zeros(2, 12, 64, 32))
    assert scores.shape == (2, 1, 8, 4)
    assert [one.shape[2:] for one in features] == [(32, 16), (16, 8), (8, 4)]


def test_progress_is_told_and_the_average_saved_along_the_way(lesson) -> None:
    vae, batch = lesson
    lines: list[str] = []
    saved: list[str] = []
    tuned = train_decoder(
        copy.deepcopy(vae),
        iter(lambda: batch, None),
        DecoderTraining(steps=5, log_every=2, adversarial_start=2, average=0.5, save_every=2),
        lines.append,
        lambda averaged: saved.append(weights_digest(averaged)),
    )
    assert [line.split()[1] for line in lines] == ["1/5", "3/5", "5/5"]
    assert len(saved) == 2
    assert len({*saved, weights_digest(vae), weights_digest(tuned)}) == 4


def test_a_gradient_that_is_not_finite_ends_it(lesson) -> None:
    vae, (guesses, true, pixels) = lesson
    broken = (guesses * float("nan"), true, pixels)
    with pytest.raises(AnyTalkerError, match=r"gradient is not finite at step 1 \(loss nan\); lower learning_rate"):
        train_decoder(copy.deepcopy(vae), iter(lambda: broken, None), DecoderTraining(steps=2, true_share=0.0))
