"""What `anytalker demo` shows, and pictures of the miniature's people for anyone's own tries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from anytalker.conventions import PixelBox
from anytalker.files import atomic_path, write_json_atomic
from anytalker.miniature.voices.speech import SAMPLE_RATE, random_utterance
from anytalker.miniature.world.scenes import UNSEEN_SEED, Scene

PICTURE_HEIGHT = 288
_OVERLAP_SECONDS = 0.1


def demo_scene(persons: int, seconds: float, seed: int) -> tuple[Image.Image, list[PixelBox], list[np.ndarray]]:
    """People nobody has seen, and a conversation: they take turns, so that both speaking and listening can be watched.

    Args:
        persons: how many people.
        seconds: how long they talk.
        seed: another seed, other people and words.

    Returns:
        The picture, one face box (x, y, width, height) a person, and one 16 kHz voice (samples,) a person, all of the
        same length.
    """
    scene = Scene.random(persons, UNSEEN_SEED + seed)
    rng = np.random.default_rng([seed, 23])
    samples = int(round((seconds + 0.5) * SAMPLE_RATE))
    voices = [np.zeros(samples, dtype=np.float32) for _ in range(persons)]
    turn = max(0.9, seconds / max(persons, 2))
    start, speaker = 0.0, 0
    while start < seconds:
        utterance = random_utterance(rng, 0.75 * turn, turn).waveform
        begin = int(start * SAMPLE_RATE)
        length = min(len(utterance), samples - begin)
        voices[speaker % persons][begin : begin + length] += utterance[:length]
        start += len(utterance) / SAMPLE_RATE - _OVERLAP_SECONDS
        speaker += 1
    picture = Image.fromarray(scene.picture(PICTURE_HEIGHT))
    return picture, scene.boxes(PICTURE_HEIGHT), voices


def write_picture(persons: int, seed: int, output: Path) -> None:
    """Draw people, write the picture, and beside it a JSON file {"persons": [{"box_xywh": [x, y, width, height]}]}."""
    scene = Scene.random(persons, seed)
    with atomic_path(output) as partial:
        Image.fromarray(scene.picture(PICTURE_HEIGHT)).save(partial)
    boxes = [{"box_xywh": list(box)} for box in scene.boxes(PICTURE_HEIGHT)]
    write_json_atomic(output.with_suffix(".json"), {"persons": boxes})
