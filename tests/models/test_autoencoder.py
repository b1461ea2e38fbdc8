"""The small autoencoder keeps the contract of Wan's: 4n+1 frames, ×4 in time, ×8 in space."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anytalker import AnyTalkerPipeline
from anytalker.evaluation.lip_sync.mouths import mouth_signal
from anytalker.miniature.corpus import CorpusSettings, render_clip
from anytalker.miniature.guesses import guess
from anytalker.miniature.world.clips import autoencoder_batches
from anytalker.models.autoencoder import MiniatureAutoencoder
from anytalker.models.latents import Deblocking, decode_video, encode_video, picture_latents, still_latents
from anytalker.training.autoencoder import AutoencoderTraining, motion_weights, train_autoencoder


@pytest.fixture
def vae() -> MiniatureAutoencoder:
    return MiniatureAutoencoder(width=32, blocks=1, fine_width=16, fine_blocks=1).eval()


@pytest.mark.parametrize("frames", [1, 5, 13])
def test_shapes(vae, frames: int) -> None:
    pixels = torch.rand(2, 3, frames, 32, 48) * 2 - 1
    latents = encode_video(vae, pixels)
    assert latents.shape == (2, 16, (frames - 1) // 4 + 1, 4, 6)
    assert decode_video(vae, latents).shape == pixels.shape


def test_latent_frames_are_independent(vae) -> None:
    pixels = torch.rand(1, 3, 9, 32, 32)
    changed = pixels.clone()
    changed[:, :, 5:] = 0
    difference = (encode_video(vae, changed) - encode_video(vae, pixels)).abs().amax(dim=(0, 1, 3, 4))
    assert difference[:2].max() == 0
    assert difference[2] > 0


def test_a_still_picture_stands_still(vae) -> None:
    picture = torch.rand(1, 3, 1, 32, 32)
    still = still_latents(vae, picture, 9)
    assert still.shape[2] == 9
    torch.testing.assert_close(still, encode_video(vae, picture.expand(-1, -1, 33, -1, -1)))


def test_the_releases_condition_is_the_picture_and_grey(vae) -> None:
    picture = torch.rand(1, 3, 1, 32, 32)
    latents = picture_latents(vae, picture, 3)
    torch.testing.assert_close(latents[:, :, :1], encode_video(vae, picture))
    torch.testing.assert_close(latents[:, :, 1:2], latents[:, :, 2:])


def test_a_deepened_decoder_decodes_the_same_and_can_learn_more(vae) -> None:
    for parameter in vae.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    latents = torch.randn(1, 16, 3, 4, 6)
    deeper = vae.deepened(fine_blocks=3)
    assert deeper.config.fine_blocks == 3
    assert torch.equal(deeper.decode(latents).sample, vae.decode(latents).sample)
    pixels = torch.rand(1, 3, 5, 32, 48)
    assert torch.equal(deeper.encode(pixels).latent_dist.mode(), vae.encode(pixels).latent_dist.mode())
    assert len(list(deeper.decoder)) == len(list(vae.decoder)) + 2
    with pytest.raises(ValueError, match="fine_blocks is 1, but there are 3 already"):
        deeper.deepened(fine_blocks=1)


def test_principal_components_already_reconstruct(vae) -> None:
    pixels = next(autoencoder_batches(0, frames=5, sizes=[(12, 64)]))
    vae.start_from_components(pixels)
    error = (decode_video(vae, encode_video(vae, pixels)) - pixels).square().mean()
    assert error < 0.15 * pixels.var()


def test_training_lowers_the_error_and_saves(vae, tmp_path) -> None:
    batches = autoencoder_batches(0, frames=5, sizes=[(2, 32)])
    clip = next(batches)
    vae.start_from_components(clip)

    def error() -> float:
        return float((decode_video(vae, encode_video(vae, clip)) - clip).abs().mean())

    before = error()
    lines: list[str] = []
    settings = AutoencoderTraining(steps=25, warmup_steps=2, save_every=10, log_every=5)
    train_autoencoder(vae, iter([clip] * 25), settings, tmp_path, lines.append)
    assert error() < before
    assert "PSNR" in lines[-1]
    loaded = MiniatureAutoencoder.from_pretrained(tmp_path)
    assert torch.equal(encode_video(loaded, clip), encode_video(vae, clip))


def test_moving_pixels_weigh_more() -> None:
    clip = torch.zeros(1, 3, 5, 8, 8)
    clip[:, :, 1::2, 2:4, 2:4] = 1.0
    weights = motion_weights(clip, 10.0)
    assert weights.shape == (1, 1, 5, 8, 8)
    assert weights[..., 6, 6].max() == 1
    assert weights[0, 0, 2, 2, 2] == 11
    assert torch.equal(motion_weights(clip, 10.0, 5.0), weights)


def test_what_has_come_to_rest_elsewhere_weighs_more_if_asked_for() -> None:
    clip = torch.zeros(1, 3, 5, 8, 8)
    clip[:, :, 1:, 2:4, 2:4] = 1.0
    assert motion_weights(clip, 10.0)[0, 0, 1:].max() == 1
    weights = motion_weights(clip, 10.0, 5.0)[0, 0, 1:]
    assert (weights[:, 2:4, 2:4] == 6).all()
    assert weights[:, 4:, 4:].max() == 1


def test_the_shipped_autoencoder_keeps_every_frames_lips() -> None:
    vae = AnyTalkerPipeline.from_pretrained("tiny").vae
    within = []
    for seed in range(900_000, 900_004):
        clip = render_clip(seed, CorpusSettings(frames=33, silent_share=0))
        pixels = torch.from_numpy(clip.frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        with torch.no_grad():
            decoded = vae.decode(vae.encode(pixels).latent_dist.mode()).sample
        signals = [
            mouth_signal((video[0].permute(1, 2, 3, 0).numpy() + 1) / 2, clip.boxes[0])[1:].reshape(-1, 4)
            for video in (pixels, decoded)
        ]
        within.append(np.corrcoef(*[(signal - signal.mean(1, keepdims=True)).ravel() for signal in signals])[0, 1])
    assert np.mean(within) > 0.6


def test_deblocking_brings_what_the_model_makes_closer_to_the_truth() -> None:
    pipeline = AnyTalkerPipeline.from_pretrained("tiny")
    vae = pipeline.vae
    clips = [render_clip(seed, CorpusSettings(frames=33)) for seed in range(900_000, 900_002)]
    pixels = torch.stack([torch.from_numpy(clip.frames) for clip in clips]).permute(0, 4, 1, 2, 3) / 127.5 - 1
    guesses = torch.stack([guess(pipeline, clip, 0.875, 24.0, 0)["guess"] for clip in clips]).float()
    errors, jumps = [], []
    for strength in (0.0, vae.config.deblocking):
        vae.register_to_config(deblocking=strength)
        decoded = decode_video(vae, guesses)
        errors.append(float((decoded - pixels).square().mean()))
        differences = (decoded[:, :, 1:] - decoded[:, :, :-1]).abs().mean(dim=(0, 1, 3, 4))
        jumps.append(float(differences[4::4].mean() / differences[6::4].mean()))
    assert errors[1] < errors[0]
    assert jumps[0] > 1.2
    assert jumps[1] < 1 + 0.8 * (jumps[0] - 1)


def test_deblocking_evens_small_jumps_and_leaves_large_ones_and_steady_motion() -> None:
    steady = torch.linspace(-0.8, 0.8, 21).view(1, 1, 21, 1, 1).expand(1, 3, 21, 4, 4)
    deblock = Deblocking(MiniatureAutoencoder(width=16, blocks=1, fine_width=8, fine_blocks=1))
    torch.testing.assert_close(deblock(steady.clone(), last=True), steady)
    for jump, left in ((0.05, 0.0), (0.5, 0.5 - 2 * 0.04)):
        jumping = steady.clone()
        jumping[:, :, 5:] += jump
        softened = deblock(jumping.clone(), last=True)
        assert torch.equal(softened[:, :, :3], jumping[:, :, :3])
        across = softened[:, :, 5] - softened[:, :, 4]
        torch.testing.assert_close(across, torch.full_like(across, 0.08 + left))
