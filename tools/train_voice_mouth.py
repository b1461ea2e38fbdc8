"""Train the network that says which mouth a voice makes one expect, from synthetic speech alone.

    python tools/train_voice_mouth.py src/anytalker/curation/weights/voice_mouth.safetensors

Takes about ten minutes of one core. The voices are espeak-ng's, also faster and slower, with rooms, filters and noise;
the mouths are those of the drawn world, and besides them how open each sound is, whatever its loudness.
"""

from __future__ import annotations

import argparse
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from scipy.signal import resample_poly

from anytalker.curation.voice_mouth import NAMES, RATE, VoiceMouth, voice_spectra
from anytalker.files import atomic_path
from anytalker.miniature.voices import speech
from anytalker.miniature.voices.augmentation import augment
from anytalker.miniature.voices.sentences import random_sentence

LONGEST = 6.0
ROWS = 300
"""Rows of a training example: 3 s."""
HELD_OUT = 40


def random_voice(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A clean voice (samples,), and its mouth (moments, 5), see `NAMES`, at the rate of visemes."""
    base, variant = speech._draw(rng, speech._BASE_VOICES), speech._draw(rng, speech._VARIANTS)
    text = " ".join(random_sentence(rng, base.partition("-")[0]) for _ in range(2))
    manner = int(rng.integers(120, 231)), int(rng.integers(10, 91)), int(rng.integers(20, 91))
    waveform, phonemes = speech._clean_voice(text, f"{base}+{variant}" if variant else base, *manner)
    waveform = waveform[: int(LONGEST * speech.SAMPLE_RATE)].astype(np.float32)
    seconds = len(waveform) / speech.SAMPLE_RATE
    phonemes = [phoneme for phoneme in phonemes if phoneme[0] < seconds]
    shapes, closure = speech._phoneme_shapes(phonemes, seconds, math.ceil(seconds * speech.VISEME_RATE))
    visemes = speech._visemes(waveform, phonemes)[: len(shapes)]
    spread = (visemes[:, 1] - 0.5) * np.clip(6 * visemes[:, 0], 0, 1)
    return waveform, np.stack([visemes[:, 0], spread, visemes[:, 2], shapes[:, 0], closure], axis=1)


def example(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectra (rows, 32) of a recorded voice, and its mouth (rows, 5)."""
    waveform, mouth = random_voice(rng)
    faster = Fraction(float(np.exp(rng.uniform(-0.22, 0.22)))).limit_denominator(40)
    waveform = resample_poly(waveform, faster.denominator, faster.numerator).astype(np.float32)
    spectra = voice_spectra(augment(waveform, rng))
    moments = (np.arange(len(spectra)) + 0.5) / RATE * float(faster)
    known = (np.arange(len(mouth)) + 0.5) / speech.VISEME_RATE
    rows = np.stack([np.interp(moments, known, column) for column in mouth.T], axis=1)
    return spectra, torch.from_numpy(rows.astype(np.float32))


def loss_of(expected: torch.Tensor, mouths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared error and missing correlation, and the correlation of each value; silence is neither open nor shut."""
    counts = torch.ones_like(mouths)
    counts[..., 3:] = (mouths[..., :1] > 0.02).float()
    total = counts.sum(dim=1, keepdim=True) + 1e-3

    def centered(values: torch.Tensor) -> torch.Tensor:
        return (values - (values * counts).sum(dim=1, keepdim=True) / total) * counts

    one, other = centered(expected), centered(mouths)
    power = one.square().sum(dim=1) * other.square().sum(dim=1)
    correlation = (one * other).sum(dim=1) / ((power + 1e-4).sqrt() + 0.1)
    error = (counts * (expected - mouths)).square().mean()
    return 5 * error + 0.5 * (1 - correlation).mean(), correlation.mean(dim=0)


def batch(
    examples: list[tuple[torch.Tensor, torch.Tensor]], rng: np.random.Generator, size: int = 16
) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectra (B, 300, 32), varied, and mouths (B, 300, 5) of random examples from random moments on."""
    spectra, mouths = torch.zeros(size, ROWS, 32), torch.zeros(size, ROWS, len(NAMES))
    for row, chosen in enumerate(rng.choice(len(examples), size)):
        heard, mouth = examples[chosen]
        start = int(rng.integers(0, max(1, len(heard) - ROWS)))
        part = vary(heard[start : start + ROWS], rng)
        spectra[row, : len(part)], mouths[row, : len(part)] = part, mouth[start : start + ROWS]
    return spectra, mouths


def vary(spectra: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Spectra (rows, 32) as of another throat, another microphone and another room: real voices differ more than these.

    Formants move by up to two bands, bands are louder or softer by a smooth curve, loudness is bent, bands are missing.
    """
    bands = np.arange(spectra.shape[1])
    moved = np.clip(bands * np.exp(rng.uniform(-0.12, 0.12)) + rng.uniform(-0.7, 0.7), 0, len(bands) - 1.001)
    low = torch.from_numpy(moved.astype(int))
    share = torch.from_numpy((moved % 1).astype(np.float32))
    heard = spectra[:, low] * (1 - share) + spectra[:, low + 1] * share
    curve = np.interp(bands, np.linspace(0, len(bands) - 1, 6), rng.normal(0, 0.1, 6)).astype(np.float32)
    noise = torch.from_numpy(rng.normal(0, 0.04, heard.shape).astype(np.float32))
    heard = torch.where(heard > 0, heard + torch.from_numpy(curve), heard) + noise
    heard = heard.clamp(min=0) ** float(np.exp(rng.uniform(-0.25, 0.25)))
    first, count = int(rng.integers(0, len(bands))), int(rng.integers(0, 7))
    heard[:, first : first + count] = 0
    return heard


def main() -> None:
    """Train and save in half precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--voices", type=int, default=1100)
    parser.add_argument("--steps", type=int, default=900)
    settings = parser.parse_args()
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    examples = [example(rng) for _ in range(settings.voices)]
    held, kept = examples[:HELD_OUT], examples[HELD_OUT:]
    network = VoiceMouth().train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
        spectra, mouths = batch(kept, rng)
        loss, _ = loss_of(network(spectra), mouths)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 100 == 0:
            with torch.no_grad():
                found = torch.stack([loss_of(network(one[None]), two[None])[1] for one, two in held]).mean(dim=0)
            values = ", ".join(f"{name} {value:.3f}" for name, value in zip(NAMES, found.tolist(), strict=True))
            print(f"step {step + 1}: correlation on unseen voices: {values}", flush=True)
    with atomic_path(settings.path) as partial:
        save_file({name: value.half().contiguous() for name, value in network.state_dict().items()}, partial)


if __name__ == "__main__":
    main()
