"""The small SyncNet's exam on people, voices and conversations it never met: true renders of the drawn world.

    python benchmarks/sync_exam.py                       # 100 single clips, 40 of two people, 20 each of three and four
    python benchmarks/sync_exam.py --clips 0.2           # a fifth of that

Three questions, with the bars that a judge of lip sync must clear: is Sync-C of a true pair above that of the same
face with another clip's voice (99%), is a voice that comes up to 5 frames late or early found to do so, to the frame
(95%), and does every speaking face fit its own voice best (99%)?
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from anytalker.conventions import corners
from anytalker.errors import NoScoreError
from anytalker.evaluation.lip_sync.binding import binding
from anytalker.evaluation.lip_sync.crops import crop_faces
from anytalker.evaluation.lip_sync.scores import SyncTracks, embed_tracks, lip_sync_of
from anytalker.evaluation.lip_sync.silence import MOUTH, mouth_motions, silence
from anytalker.evaluation.lip_sync.syncnet import SyncModel, load_sync_model
from anytalker.media.recordings import SAMPLE_RATE
from anytalker.miniature.corpus import CorpusSettings, RenderedClip, render_clip
from anytalker.miniature.world.behaviour import is_speaking

FIRST_SEED = 6_000_000
CLIPS = {1: 100, 2: 40, 3: 20, 4: 20}
DELAYS = [-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5]


def delayed(voice: np.ndarray, frames: int, fps: float) -> np.ndarray:
    """The voice, that many video frames later (or earlier), as long as before."""
    samples = round(frames / fps * SAMPLE_RATE)
    if samples >= 0:
        return np.concatenate([np.zeros(samples, voice.dtype), voice])[: len(voice)]
    return np.concatenate([voice[-samples:], np.zeros(-samples, voice.dtype)])


def clips(persons: int, count: int, frames: int) -> Iterator[RenderedClip]:
    """Renders of unseen people and voices."""
    settings = CorpusSettings(persons=persons, frames=frames, unseen=True, silent_share=0.0)
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        yield render_clip(seed, settings)


def softened(frames: np.ndarray, height: int | None) -> np.ndarray:
    """Frames shrunk to a height and grown back, as soft as generated ones."""
    if height is None:
        return frames
    size = frames.shape[2], frames.shape[1]
    shrunk = (round(size[0] * height / size[1]), height)
    return np.stack([cv2.resize(cv2.resize(f, shrunk, interpolation=cv2.INTER_AREA), size) for f in frames])


def faces_of(clip: RenderedClip, model: SyncModel, soft: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Crops and where the faces are."""
    return crop_faces(softened(clip.frames, soft), corners(clip.boxes), model.crop)


def singles(model: SyncModel, count: int, frames: int, fps: float, soft: int | None) -> dict[str, Any]:
    """True against shuffled pairs, and delays."""
    tracks: list[SyncTracks] = []
    found, scores, errors = [], [], []
    for clip in clips(1, count, frames):
        crops, there = faces_of(clip, model, soft)
        voices = [delayed(clip.voices[0], delay, fps) for delay in DELAYS]
        embedded = embed_tracks(crops, there, voices, fps, model)
        tracks.append(embedded)
        offsets = [lip_sync_of(embedded, 0, voice).offset for voice in range(len(DELAYS))]
        found += [offset == delay for offset, delay in zip(offsets, DELAYS, strict=True)]
        errors.append([offset - delay for offset, delay in zip(offsets, DELAYS, strict=True)])
        scores.append(lip_sync_of(embedded, 0, DELAYS.index(0)))
    true = np.array([score.confidence for score in scores])
    others = np.array([_swap(track, tracks[index - 1]) for index, track in enumerate(tracks)])
    return {
        "clips": count,
        "true_above_shuffled": float((true > others).mean()),
        "sync_c_true": [float(true.mean()), float(true.min())],
        "sync_c_shuffled": [float(others.mean()), float(others.max())],
        "sync_d_true": float(np.mean([score.distance for score in scores])),
        "delays": len(found),
        "delays_found": float(np.mean(found)),
        "delays_within_one": float((np.abs(errors) <= 1).mean()),
        "clips_with_wrong_delays": {str(i): row for i, row in enumerate(errors) if any(row)},
    }


def _swap(face: SyncTracks, voice: SyncTracks) -> float:
    """Sync-C of one clip's face with another clip's voice."""
    mixed = SyncTracks(**{**vars(face), "voices": voice.voices, "sounding": voice.sounding})
    return lip_sync_of(mixed, 0, DELAYS.index(0)).confidence


def groups(model: SyncModel, persons: int, count: int, frames: int, fps: float, soft: int | None) -> dict[str, Any]:
    """Faces against voices, and silent mouths."""
    correct, ratios, unjudged = [], [], 0
    for clip in clips(persons, count, frames):
        crops, there = faces_of(clip, model, soft)
        try:
            result = binding(embed_tracks(crops, there, clip.voices, fps, model))
            correct += [right for right in result.correct if right is not None]
        except NoScoreError:
            unjudged += 1
        if model.crop == MOUTH:
            with suppress(NoScoreError):
                ratios.append(silence(mouth_motions(crops, there), speaking_spans(clip, fps), fps).ratio)
    return {
        "persons": persons,
        "clips": count,
        "clips_without_two_voices": unjudged,
        "faces": len(correct),
        "own_voice_best": float(np.mean(correct)) if correct else None,
        "silent_motion": float(np.mean(ratios)) if ratios else None,
    }


def speaking_spans(clip: RenderedClip, fps: float) -> list[list[tuple[float, float]]]:
    """The truth about who speaks when, in seconds."""
    spans = []
    for states in clip.states:
        speaking = is_speaking(np.array([[state.opening] * 4 for state in states]), fps).astype(int)
        changes = np.flatnonzero(np.diff(np.concatenate([[0], speaking, [0]])))
        spans.append([(start / fps, end / fps) for start, end in changes.reshape(-1, 2)])
    return spans


def main() -> None:
    """Hold the exam."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=float, default=1.0, help="share of the exam's clips")
    parser.add_argument("--frames", type=int, default=121)
    parser.add_argument("--soft", type=int, help="shrink frames to this height and back, as soft as generated ones")
    parser.add_argument("--model", type=Path, help="other weights than those of the package")
    parser.add_argument("--output", type=Path, help="write the results as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    model, fps = load_sync_model(options.model), CorpusSettings().fps
    counts = {persons: max(2, round(options.clips * count)) for persons, count in CLIPS.items()}
    results: dict[str, Any] = {"1": singles(model, counts.pop(1), options.frames, fps, options.soft)}
    print(json.dumps(results["1"], indent=2), flush=True)
    for persons, count in counts.items():
        results[str(persons)] = groups(model, persons, count, options.frames, fps, options.soft)
        print(json.dumps(results[str(persons)], indent=2), flush=True)
    alone = results["1"]
    faces = sum(results[str(persons)]["faces"] for persons in counts)
    own = sum(results[str(persons)]["own_voice_best"] * results[str(persons)]["faces"] for persons in counts)
    for name, value, bar in (
        ("true above shuffled", alone["true_above_shuffled"], 0.99),
        ("delays found exactly", alone["delays_found"], 0.95),
        ("own voice best", own / max(1, faces), 0.99),
    ):
        print(f"{name:22} {value:7.2%}  bar {bar:.0%}  {'passed' if value >= bar else 'FAILED'}")
    if options.output:
        options.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
