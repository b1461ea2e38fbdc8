"""What the exam's score of faces could reach: python benchmarks/exam_bounds.py [--scenes 40].

Scores, in place of a generated video,

- another take: the true video with the same lips, in which people blink, glance, nod and raise brows at other moments,
  as the voices leave it open. A model that behaves exactly like the world scores about this.
- lifeless: the true lips, heads and looks at the speaker, without blinks, glances aside, nods and raised brows.
- true latents: the true video through the autoencoder and the upscaler, as if the transformer knew all of it.

Frames are those of the exam, 97 each; heads at rest are compared. Scenes in which a head rests in the first frame only,
which is the picture, say nothing about takes and are left out there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import torch

from anytalker import AnyTalkerPipeline
from anytalker.miniature.corpus import CorpusSettings, RenderedClip
from anytalker.miniature.exam import EXAM_SEED, exam_clip, score_faces
from anytalker.miniature.world.behaviour import converse, talk
from anytalker.miniature.world.people import FaceState
from anytalker.models.latents import decode_video, encode_video
from anytalker.models.upscaler import halved
from anytalker.pipelines.ready import load_pipeline

HEIGHT = 256
FPS = CorpusSettings().fps
ALIKE = 99.0
"""PSNR in dB above which a face rests exactly as in the truth, and says nothing."""


class Never(np.random.Generator):
    """Chance that never gets around to anything: nobody blinks, glances aside or reacts."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def exponential(self, scale: float = 1.0, size: None = None) -> float:
        """Far in the future."""
        return 1e9

    def uniform(self, low: float = 0.0, high: float = 1.0, size: None = None) -> float:
        """Far in the future, too."""
        return 1e9


def behave(clip: RenderedClip, rng: np.random.Generator) -> list[list[FaceState]]:
    """The clip's people with the same lips and first frame; all else is drawn anew."""
    visemes = [np.array([[one.opening, 0.5, 0.0, 0.0] for one in person]) for person in clip.states]
    if len(visemes) == 1:
        people = [talk(visemes[0], FPS, rng, clip.scene.gazes[0])]
    else:
        people = converse(visemes, FPS, rng, clip.scene.gazes)
    return [
        [true[0]]
        + [
            replace(one, opening=lips.opening, width=lips.width, teeth=lips.teeth, tongue=lips.tongue)
            for one, lips in zip(other[1:], true[1:], strict=True)
        ]
        for other, true in zip(people, clip.states, strict=True)
    ]


def drawn(clip: RenderedClip, states: Sequence[Sequence[FaceState]]) -> np.ndarray:
    """Frames (T, H, W, 3) in [0, 1] of the clip's people in other states, of the size of generated ones."""
    frames = list(clip.scene.render(states, HEIGHT))
    width = frames[0].shape[1] // 32 * 32
    return np.stack([cv2.resize(frame, (width, HEIGHT)) for frame in frames]) / 255.0


@cache
def load(model: str) -> AnyTalkerPipeline:
    """The pipeline, once a process, on one thread: scenes are what runs in parallel."""
    torch.set_num_threads(1)
    return load_pipeline(model, "cpu")


@torch.no_grad()
def coded(clip: RenderedClip, model: str) -> np.ndarray:
    """The true frames after the autoencoder and the upscaler of a model."""
    vae = load(model).vae
    pixels = torch.from_numpy(drawn(clip, clip.states)).permute(0, 3, 1, 2).float() * 2 - 1
    small = torch.cat([halved(frame[None]) for frame in pixels])
    decoded = decode_video(vae, encode_video(vae, small.transpose(0, 1)[None]))[0].transpose(0, 1).clamp(-1, 1)
    return ((vae.upscaler.enlarge(decoded, pixels[0]) + 1) / 2).permute(0, 2, 3, 1).numpy()


def mark(model: str, persons: int, seed: int) -> dict[str, list[float]]:
    """PSNR of every face of a scene, by what stands for the generated video."""
    clip = exam_clip(persons, seed)
    ways: dict[str, Callable[[], np.ndarray]] = {
        "another take": lambda: drawn(clip, behave(clip, np.random.default_rng(EXAM_SEED + seed))),
        "lifeless": lambda: drawn(clip, behave(clip, Never())),
        "true latents": lambda: coded(clip, model),
    }
    boxes = clip.scene.boxes(HEIGHT)
    found = {way: score_faces(clip, make(), boxes)[0] for way, make in ways.items()}
    return {way: [score for score in scores if score < ALIKE] for way, scores in found.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--persons", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--model", default="tiny")
    options = parser.parse_args()
    print("| people | another take | lifeless | true latents |\n|---|---|---|---|")
    with ProcessPoolExecutor(2) as pool:
        for persons in options.persons:
            seeds = range(options.scenes)
            scenes = list(pool.map(mark, [options.model] * len(seeds), [persons] * len(seeds), seeds))
            found = {way: np.concatenate([scene[way] for scene in scenes]) for way in scenes[0]}
            cells = [f"{values.mean():.1f} ({len(values)})" for values in found.values()]
            print(f"| {persons} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
