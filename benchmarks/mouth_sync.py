"""Whether lips and sounds are told together and apart, how late a sound is, and what the face mesh costs.

    python benchmarks/mouth_sync.py drawn [SCENES] [FIRST_SEED]   # two drawn people of 4 s; seeds from 1,000,000
    python benchmarks/mouth_sync.py videos SPAN SPAN …            # real faces

A SPAN is PATH[@FACE[:START-END]]: the FACE-th person from the left (0) speaks from START to END seconds; without them,
the only face speaks all the time. Each span is cut into windows of 3, 4 and 6 s, one a second, and all of it is judged
at once too. Foreign sounds are those of the other files.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from anytalker.conditioning.face_detection.detectors import FullRangeFaceDetector
from anytalker.conditioning.face_mesh.mouths import FaceMotion, follow_faces
from anytalker.curation.lip_sync import SyncJudgement, judge_sync
from anytalker.errors import NoScoreError
from anytalker.media.containers import open_media
from anytalker.media.recordings import SAMPLE_RATE, load_audio
from anytalker.miniature.corpus import place
from anytalker.miniature.voices.augmentation import augment
from anytalker.miniature.voices.speech import random_utterance
from anytalker.miniature.world.behaviour import converse
from anytalker.miniature.world.scenes import UNSEEN_SEED, Scene

FPS, FRAMES = 25.0, 100
DELAYS = (-8, -4, 0, 4, 8)


@dataclass(frozen=True)
class Speech:
    """A mouth (T, 3) that speaks, and the sound from its first frame on; `source` says what it comes from."""

    mouth: np.ndarray
    voice: np.ndarray
    fps: float
    source: str

    def cut(self, start: int, frames: int, late: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Mouth and sound of some frames; the sound comes `late` frames too late, its beginning is silent then."""
        first, last = ((start + step - late) / self.fps for step in (0, frames))
        sound = self.voice[max(0, int(first * SAMPLE_RATE)) : max(0, int(last * SAMPLE_RATE))]
        return self.mouth[start : start + frames], np.pad(sound, (max(0, -int(first * SAMPLE_RATE)), 0))


def judged(mouth: np.ndarray, fps: float, voice: np.ndarray, delay: int | None = None) -> SyncJudgement | None:
    """The judgement, or None where there is too little speech."""
    try:
        return judge_sync(mouth, fps, voice, delay)
    except NoScoreError:
        return None


def drawn_scene(seed: int, both: bool) -> tuple[list[Speech], float]:
    """Two drawn people as the mesh sees them, of whom one or both speak; and milliseconds of CPU a face."""
    rng, scene = np.random.default_rng([seed, 5]), Scene.random(2, seed)
    voices = [np.zeros(int(FRAMES / FPS * SAMPLE_RATE), np.float32) for _ in range(2)]
    visemes = [np.zeros((FRAMES, 4), np.float32) for _ in range(2)]
    for person in range(1 + both):
        moment = int(rng.integers(-10, 5))
        while moment < FRAMES - 6:
            spoken = random_utterance(rng, 1.5, 5.0)
            place(spoken.waveform, spoken.visemes, moment, voices[person], visemes[person], FPS)
            moment += int(spoken.seconds * FPS + rng.integers(2, 10))
        voices[person] = augment(voices[person], rng)
    height = int(rng.integers(100, 170))
    frames = list(scene.render(converse(visemes, FPS, rng, scene.gazes), height))
    boxes = np.array([[x, y, x + width, y + tall] for x, y, width, tall in scene.boxes(height)], dtype=float)
    tracks = boxes + rng.normal(0, 0.003 * height, (FRAMES, 2, 4))
    started = time.process_time()
    motion = follow_faces(frames, tracks)
    cost = (time.process_time() - started) / (2 * FRAMES) * 1e3
    return [Speech(motion.mouth(person), voices[person], FPS, str(seed)) for person in range(2)], cost


def tell_drawn(scenes: int, first: int) -> None:
    """Print the tables of drawn people."""
    rows = [(both, *drawn_scene(first + index, both)) for index in range(scenes) for both in (index % 3 > 0,)]
    print(f"{scenes} scenes, seeds from {first}, {np.median([row[2] for row in rows]):.1f} ms of CPU a face")
    print("| seconds | right of two | spans | delay ±1 | spans | own kept | foreign refused | known: own | foreign |")
    print("|---|---|---|---|---|---|---|---|---|")
    for seconds in (2.0, 2.5, 3.0, 4.0):
        frames = int(seconds * FPS)
        right, near, own, foreign, known, wrong = ([] for _ in range(6))
        for index, (both, pair, _) in enumerate(rows):
            for person in range(1 + both):
                for start in range(0, FRAMES - frames + 1, 25):
                    mouth, voice = pair[person].cut(start, frames)
                    mine, other = (judged(pair[who].cut(start, frames)[0], FPS, voice) for who in (person, 1 - person))
                    if mine is None:
                        continue
                    right.append(other is None or mine.confidence > other.confidence)
                    own.append(mine.agrees)
                    known.append(judge_sync(mouth, FPS, voice, 0).agrees)
                    late = DELAYS[len(near) % len(DELAYS)]
                    moved = judged(*_with_rate(pair[person].cut(start, frames, late)))
                    if moved is not None:
                        near.append(abs(moved.offset_frames - late) <= 1)
                    for step in (1, 2):
                        dubbed = rows[(index + step) % scenes][1][0].cut(start, frames)[1]
                        fake = judged(mouth, FPS, dubbed)
                        if fake is not None:
                            foreign.append(not fake.agrees)
                            wrong.append(not judge_sync(mouth, FPS, dubbed, 0).agrees)
        shares = " | ".join(f"{np.mean(values):.1%}" for values in (own, foreign, known, wrong))
        print(f"| {seconds} | {np.mean(right):.1%} | {len(right)} | {np.mean(near):.1%} | {len(near)} | {shares} |")


def _with_rate(pair: tuple[np.ndarray, np.ndarray], fps: float = FPS) -> tuple[np.ndarray, float, np.ndarray]:
    return pair[0], fps, pair[1]


def decoded(path: Path) -> Iterator[np.ndarray]:
    """Frames of a video, uint8 RGB, one after the other."""
    with open_media(path) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def tracked(path: Path, people: int) -> np.ndarray:
    """Boxes (T, P, 4) of the surest faces from the left, looked for in every fifth frame."""
    detect, keys, found, count = FullRangeFaceDetector(), [], [], 0
    for count, frame in enumerate(decoded(path), 1):
        if (count - 1) % 5 == 0:
            faces = sorted(detect(Image.fromarray(frame)), key=lambda face: -face[1])[:people]
            if len(faces) == people:
                keys.append(count - 1)
                found.append(sorted([x, y, x + width, y + height] for (x, y, width, height), _ in faces))
    corners = np.array(found, dtype=float).reshape(len(keys), -1).T
    tracks = [np.interp(np.arange(count), keys, corner) for corner in corners]
    return np.stack(tracks, axis=1).reshape(count, people, 4)


def read_spans(specifications: Sequence[str]) -> list[Speech]:
    """Read what is spoken in videos; every video is read once."""
    parsed = [specification.partition("@")[::2] for specification in specifications]
    motions: dict[str, tuple[FaceMotion, np.ndarray, float]] = {}
    for path in dict.fromkeys(path for path, _ in parsed):
        people = 1 + max(int(rest.partition(":")[0] or 0) for other, rest in parsed if other == path)
        with open_media(path) as container:
            fps = float(container.streams.video[0].average_rate)
        boxes = tracked(Path(path), people)
        started = time.process_time()
        motion = follow_faces(decoded(Path(path)), boxes)
        cost = (time.process_time() - started) / boxes[..., 0].size * 1e3
        print(f"{Path(path).name}: {people} faces, {cost:.1f} ms of CPU a face with decoding", flush=True)
        motions[path] = motion, load_audio(path), fps
    spoken = []
    for path, rest in parsed:
        face, _, span = rest.partition(":")
        motion, sound, fps = motions[path]
        start, end = (float(part) for part in span.split("-")) if span else (0.0, len(motion.opening) / fps)
        first, last = int(start * fps), int(end * fps)
        mouth = motion.mouth(int(face or 0))[first:last]
        spoken.append(Speech(mouth, sound[int(first / fps * SAMPLE_RATE) :], fps, Path(path).stem + f" {face or 0}"))
    return spoken


def tell_videos(specifications: Sequence[str]) -> None:
    """Print the tables of real people."""
    spans = read_spans(specifications)
    print("| who | seconds | windows | delay 0±1 | delay 5±1 | own kept | foreign refused | known: own | foreign |")
    print("|---|---|---|---|---|---|---|---|---|")
    for span in spans:
        for seconds in sorted({3.0, 4.0, 6.0, len(span.mouth) / span.fps}):
            frames = int(seconds * span.fps)
            if frames > len(span.mouth):
                continue
            near, late, own, known, foreign, wrong = ([] for _ in range(6))
            for start in range(0, max(1, len(span.mouth) - frames + 1), int(span.fps)):
                mouth, voice = span.cut(start, frames)
                mine, known_mine = (judged(mouth, span.fps, voice, delay) for delay in (None, 0))
                if mine is None or known_mine is None:
                    continue
                near.append(abs(mine.offset_frames) <= 1)
                moved = judged(*_with_rate(span.cut(start, frames, 5), span.fps))
                late.append(moved is not None and abs(moved.offset_frames - 5) <= 1)
                own.append(mine.agrees)
                known.append(known_mine.agrees)
                for other in spans:
                    if other.source.split()[0] == span.source.split()[0]:
                        continue
                    for begin in range(0, max(1, len(other.mouth) - frames + 1), int(other.fps)):
                        dubbed = other.voice[int(begin / other.fps * SAMPLE_RATE) :][: len(voice)]
                        fake = judged(mouth, span.fps, dubbed)
                        if fake is not None:
                            foreign.append(not fake.agrees)
                            wrong.append(not judge_sync(mouth, span.fps, dubbed, 0).agrees)
            shares = " | ".join(f"{np.mean(values):.0%}" for values in (near, late, own, foreign, known, wrong))
            print(f"| {span.source} | {seconds:.1f} | {len(near)} | {shares} |")
    print("\nEverything at once, each mouth (row) with each sound (column), confidence at the delay 0±1:")
    for span in spans:
        row = [
            judged(span.mouth, span.fps, other.voice[: int(len(other.mouth) / other.fps * SAMPLE_RATE)], 0)
            for other in spans
        ]
        print(f"| {span.source} | " + " | ".join("–" if one is None else f"{one.confidence:.2f}" for one in row) + " |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    kind, *rest = sys.argv[1:]
    if kind == "drawn":
        tell_drawn(int(rest[0]) if rest else 60, int(rest[1]) if len(rest) > 1 else UNSEEN_SEED)
    else:
        tell_videos(rest)
