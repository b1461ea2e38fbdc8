"""Makes an episode: frames and sound go to the file as they are made, so memory doesn't grow with the length."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from anytalker.files import write_json_atomic
from anytalker.media.video import write_video
from anytalker.miniature.episodes.drawing import draw_frames
from anytalker.miniature.episodes.plan import FPS, Plan
from anytalker.miniature.episodes.sound import FRAME, ShotSound, record
from anytalker.miniature.episodes.truth import episode_truth, lead_frames, shot_truth
from anytalker.miniature.voices.speech import SAMPLE_RATE

QUALITY, PRESET = 18, "superfast"


def write_episode(
    plan: Plan, output: Path, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Draw an episode into an MP4 file, and what is true of it into the .json beside it.

    Args:
        plan: what happens.
        output: the MP4 file.
        on_progress: called now and then with the frames done and all.

    Returns:
        What the .json holds.

    Raises:
        InputError: if the files can't be written.
    """
    film = _Film(plan, on_progress)
    write_video(output, film.frames(), FPS, film.sound, SAMPLE_RATE, QUALITY, preset=PRESET)
    truth = episode_truth(plan, film.shots)
    write_json_atomic(output.with_suffix(".json"), truth)
    return truth


class _Film:
    """Frames of all shots in order; what is heard and what is true comes beside them."""

    def __init__(self, plan: Plan, on_progress: Callable[[int, int], None]) -> None:
        self.plan, self.on_progress = plan, on_progress
        self.sound = _Track(plan.frames * FRAME)
        self.shots: list[dict[str, Any]] = []

    def frames(self) -> Iterator[np.ndarray]:
        """uint8 RGB (height, width, 3), one after another."""
        plan, count = self.plan, len(self.plan.shots)
        coming = self._begin(0)
        for index, shot in enumerate(plan.shots):
            drawn = coming
            following = plan.shots[index + 1] if index + 1 < count else None
            dissolve = following.dissolve if following else 0
            alone = shot.frames - (shot.dissolve // 2) - (lead_frames(following) if following else 0)
            for frame in range(alone):
                yield next(drawn)
                if frame % FPS == 0:
                    self.on_progress(shot.start + shot.dissolve // 2 + frame, plan.frames)
            if following:
                coming = self._begin(index + 1)
            for step in range(dissolve):
                share = (step + 1) / (dissolve + 1)
                yield cv2.addWeighted(next(drawn), 1 - share, next(coming), share, 0)
        self.on_progress(plan.frames, plan.frames)

    def _begin(self, index: int) -> Iterator[np.ndarray]:
        """Record a shot's sound, and get ready to draw it."""
        plan, shot = self.plan, self.plan.shots[index]
        sound: ShotSound = record(shot, plan.cast)
        self.sound.append(shot.start * FRAME, sound.waveform)
        self.shots.append(shot_truth(plan, index, sound))
        tail = plan.shots[index + 1].dissolve // 2 if index + 1 < len(plan.shots) else 0
        size = (plan.width, plan.height)
        return draw_frames(shot, plan.cast, sound.visemes, size, lead_frames(shot), tail)


class _Track:
    """The sound of an episode, read from the start to the end while it is made; what was read is forgotten."""

    def __init__(self, samples: int) -> None:
        self.dtype, self.ndim = np.dtype(np.float32), 1
        self._samples = samples
        self._parts: deque[tuple[int, np.ndarray]] = deque()

    def __len__(self) -> int:
        return self._samples

    @property
    def shape(self) -> tuple[int, ...]:
        """(samples,)."""
        return (self._samples,)

    def append(self, start: int, waveform: np.ndarray) -> None:
        """Add the sound (samples,) that begins at a sample."""
        self._parts.append((start, waveform))

    def __getitem__(self, part: slice) -> np.ndarray:
        """A part without a step, float32 (samples,), at or after what was read before."""
        start, stop, _ = part.indices(self._samples)
        samples = np.zeros(stop - start, dtype=np.float32)
        while self._parts and self._parts[0][0] + len(self._parts[0][1]) <= start:
            self._parts.popleft()
        for begin, waveform in list(self._parts):
            first, last = max(start, begin), min(stop, begin + len(waveform))
            if first < last:
                samples[first - start : last - start] = waveform[first - begin : last - begin]
        return samples
