"""Fit the directions in which speaker embeddings differ between people more than within one, from synthetic voices.

    python tools/fit_voice_space.py src/anytalker/diarization/weights/voice_space.safetensors

Linear discriminant analysis: four people each talk in 60 recordings, every one with noise, a room and a microphone of
its own. Differences between recordings don't count, as a diarisation sees only one. Deviations within a person get a
share of white noise, so that no direction is trusted more than real voices deserve. It takes some five minutes.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from safetensors.torch import save_file
from scipy.linalg import eigh

from anytalker.diarization.voice_encoder import GE2EEmbedder
from anytalker.miniature.voices.augmentation import augment
from anytalker.miniature.voices.conversation import random_speakers, random_text

RECORDINGS, PEOPLE, UTTERANCES = 60, 4, 6
WINDOW, HOP, LONGEST = 25600, 9600, 80000
WHITE, KEPT = 0.3, 30


def recording(rng: np.random.Generator, embed: GE2EEmbedder) -> list[np.ndarray]:
    """Embeddings (windows, 256) of each of the people of a recording."""
    speakers = random_speakers(rng, PEOPLE)
    said = [[s.say(random_text(rng, s.language))[:LONGEST] for _ in range(UTTERANCES)] for s in speakers]
    sound = augment(np.concatenate([utterance for utterances in said for utterance in utterances]), rng)
    people, start = [], 0
    for utterances in said:
        windows = []
        for utterance in utterances:
            heard = sound[start : start + len(utterance)]
            firsts = range(0, max(1, len(heard) - WINDOW + HOP), HOP)
            windows += [np.resize(heard[first : first + WINDOW], WINDOW) for first in firsts]
            start += len(utterance)
        people.append(embed(np.stack(windows)))
    return people


def main() -> None:
    """Fit, write."""
    rng, embed = np.random.default_rng(7), GE2EEmbedder()
    within, between = np.zeros((256, 256)), np.zeros((256, 256))
    freedom = 0
    for _ in range(RECORDINGS):
        people = recording(rng, embed)
        means = np.stack([person.mean(axis=0) for person in people])
        for person, mean in zip(people, means, strict=True):
            within += (person - mean).T @ (person - mean)
            freedom += len(person) - 1
        between += (means - means.mean(axis=0)).T @ (means - means.mean(axis=0)) / (PEOPLE - 1) / RECORDINGS
    within /= freedom
    within = (1 - WHITE) * within + WHITE * np.trace(within) / 256 * np.eye(256)
    variances, directions = eigh(between, within)
    kept = {"directions": directions[:, ::-1][:, :KEPT], "variances": variances[::-1][:KEPT]}
    save_file({name: torch.tensor(value.copy(), dtype=torch.float32) for name, value in kept.items()}, sys.argv[1])
    print("Variances between people, where those within one are 1:", np.round(kept["variances"], 1))


if __name__ == "__main__":
    main()
