"""The order of windows and steps: a video of any length is denoised with few windows in memory at a time.

Overlapping windows depend on each other: where they share latent frames, their velocities are averaged at every step.
So a window can take its next step as soon as all windows that overlap it have taken the last one; it need not wait for
the rest of the video. The result is that of taking each step for all windows before the next one.

An example: 11 latent frames, windows of 4 that share 2, and 3 steps. Frame 0 is the picture's and stands in front of
every window. Latent frames that belong to the same windows make up a `Segment`:

    latent frames   0     1-2   3-4   5-6   7-8   9-10
    window 0        x     x     x
    window 1        x           x     x
    window 2        x                 x     x
    window 3        x                       x     x

`Wavefront.next_step` chooses the earliest window whose segments have all taken as many steps as itself; if there is
none, the next window starts from noise. In each column one window takes a step, 1, 2 or 3; dots are windows that wait:

    window 0        1  .  2  .  .  3
    window 1           1  .  .  2  .  .  .  3
    window 2                 1  .  .  .  2  .  .  .  3
    window 3                          1  .  .  2  .  .  3
    frames finished                0-2      3-4   5-6  7-10

Window 0 can't take step 2 before window 1 has taken step 1, as segment 3-4 is an average of both. When window 0 is
finished, frames 0 to 2 are, too, and leave for the autoencoder; the memory of window 0 is free for window 3.

The picture's frame is changed by the first window alone. All others see it as it was at their step.

Windows of an earlier video may be kept (`KeptWindows`): they take no steps, and their frames stay as they are. The
windows beside them see these frames as they were on their way from noise: (1 − σ) final latents + σ noise.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch

from anytalker.denoising.segments import KeptSegment, KeptWindows, NoiseSource, Segment, Stepped
from anytalker.denoising.windows import Window


class Wavefront:
    """Which window takes which step next, and the latents of the windows that have started and are not finished.

    Call `next_step`, give `latents` to the model, return its velocity with `add_velocity`, and so on; collect what is
    `finished` at any time.

    Args:
        windows: as planned, in order.
        overlap: latent frames that neighbouring windows share, for the blending weights.
        total: latent frames of the video.
        scheduler: with its timesteps set (`set_timesteps`).
        noise: where the noise comes from.
        kept: windows that take no steps; a run with such windows can't be saved.

    Attributes:
        active: steps taken by each window that has started and is not finished, by its number.
        stepped: what the last velocity has moved; None: nothing.
    """

    def __init__(
        self,
        windows: Sequence[Window],
        overlap: int,
        total: int,
        scheduler: Any,
        noise: NoiseSource,
        kept: KeptWindows | None = None,
    ) -> None:
        self.windows, self.overlap, self.total = windows, overlap, total
        self._kept = kept
        self.timesteps, self.steps = scheduler.timesteps, len(scheduler.timesteps)
        self._scheduler, self._noise = scheduler, noise
        self._generator = getattr(noise, "generator", None)
        self._window_starts = [window.start for window in windows]
        self._segment_starts = sorted({1, total, *self._window_starts, *(window.stop for window in windows)})
        self.active: dict[int, int] = {}
        self.stepped: Stepped | None = None
        self._started = 0  # windows
        self._collected = 0  # final latent frames
        self._segments: dict[int, Segment] = {}  # by their first latent frame
        self._weights: dict[int, torch.Tensor] = {}  # of the frames of each active window
        self._picture: Segment | None = None
        self._picture_latents: list[torch.Tensor] = []  # before each step, and in the end

    @property
    def done(self) -> int:
        """Steps of windows that have been taken, out of windows × steps."""
        return sum(self.active.values()) + (self._started - len(self.active)) * self.steps

    def next_step(self) -> tuple[int, int] | None:
        """Number and step of the next window to take a step: the earliest that can, or one that starts for it.

        None if that is a kept window, which thereby is finished.

        Raises:
            StopIteration: if all windows have taken all steps.
        """
        for number, step in self.active.items():
            if all(segment.ready(step) for segment in self._segments_of(number)):
                return number, step
        if self._started == len(self.windows):
            raise StopIteration
        number = self._start_window()
        if number in self.active:
            return number, 0
        self.stepped = None
        return None

    def latents(self, number: int, step: int) -> torch.Tensor:
        """Latents (B, channels, 1 + frames, h, w) of an active window before its step, the picture's first."""
        parts = [segment.latents_at(step) for segment in self._segments_of(number)]
        return torch.cat([self._picture_latents[step], *parts], dim=2)

    def add_velocity(self, number: int, velocity: torch.Tensor) -> bool:
        """Take the step of an active window with its velocity, shaped as its latents; True if it was its last."""
        window = self.windows[number]
        weights = self._weights.get(number)
        if weights is None:
            weights = self._weights[number] = window.weights(self.overlap, self.total).to(velocity)
        step, moved = self.active[number], []
        if number == 0:
            assert self._picture is not None
            self._picture.add_velocity(velocity[:, :, :1], weights[:1])
            self._picture_latents.append(self._picture.latents)
            moved.append(self._picture)
        for segment in self._segments_of(number):
            frames = slice(1 + segment.start - window.start, 1 + segment.stop - window.start)
            segment.add_velocity(velocity[:, :, frames], weights[frames])
            moved += [segment] if segment.step > step else []
        self.stepped = Stepped(step, self.timesteps[step], tuple(moved)) if moved else None
        self.active[number] += 1
        if self.active[number] < self.steps:
            return False
        del self.active[number], self._weights[number]
        return True

    def replace(self, latents: torch.Tensor) -> None:
        """Put other latents in place of those of `stepped`, of the same shape."""
        assert self.stepped is not None
        begin = 0
        for segment in self.stepped.segments:
            end = begin + segment.stop - segment.start
            segment.latents, begin = latents[:, :, begin:end], end
            if segment is self._picture:
                self._picture_latents[-1] = segment.latents

    def unfinished(self) -> Iterator[torch.Tensor]:
        """Latents (B, channels, n, h, w) of the windows that have started and are not collected, as they are."""
        if self._collected == 0 and self._picture is not None:
            yield self._picture.latents
        yield from (segment.latents for segment in self._segments.values())

    def estimate(self) -> torch.Tensor | None:
        """What the earliest window in the making will look like; None if there is none that has taken a step.

        Returns:
            (B, channels, 2, h, w): the picture's frame, and the frame in the middle of the window, without noise.
        """
        number = next((number for number, step in self.active.items() if step), None)
        if number is None or self._picture is None:
            return None
        segments = self._segments_of(number)
        frames = torch.cat([segment.estimate for segment in segments], dim=2)
        middle = frames.shape[2] // 2
        return torch.cat([self._picture.estimate, frames[:, :, middle : middle + 1]], dim=2)

    def finished(self) -> Iterator[torch.Tensor]:
        """Final latents (B, channels, n, h, w) that have not been collected yet, in order."""
        if self._collected == 0 and self._picture is not None and self._picture.ready(self.steps):
            self._collected = 1
            yield self._picture_latents[-1]
        while self._collected in self._segments and self._segments[self._collected].ready(self.steps):
            segment = self._segments.pop(self._collected)
            self._collected = segment.stop
            yield segment.latents

    def _start_window(self) -> int:
        """Let the next window start: noise for those of its segments that no window before it has."""
        number, self._started = self._started, self._started + 1
        if number == 0:
            self._picture = self._new_segment(0, self._noise(0, 1))
            self._picture_latents = [self._picture.latents_at(0)]
            if isinstance(self._picture, KeptSegment):
                known = range(1, self.steps)
                self._picture_latents += [*map(self._picture.latents_at, known), self._picture.latents]
        for start, stop in self._spans_of(number):
            if start not in self._segments:
                self._segments[start] = self._new_segment(start, self._noise(start, stop))
        if self._kept is None or number not in self._kept.numbers:
            self.active[number] = 0
        return number

    def _segments_of(self, number: int) -> list[Segment]:
        return [self._segments[start] for start, _ in self._spans_of(number)]

    def _spans_of(self, number: int) -> list[tuple[int, int]]:
        """First latent frame and end (exclusive) of each segment of a window."""
        window, starts = self.windows[number], self._segment_starts
        return list(pairwise(starts[bisect_left(starts, window.start) : bisect_right(starts, window.stop)]))

    def _new_segment(self, start: int, latents: torch.Tensor) -> Segment:
        """A segment that starts at a latent frame, 0 for the picture's."""
        windows = range(1) if start == 0 else self._windows_at(start)
        stop = start + latents.shape[2]
        if self._kept is None or self._kept.numbers.isdisjoint(windows):
            return Segment(start, stop, windows, latents, self._scheduler, self._generator)
        return KeptSegment(start, stop, windows, latents, self._scheduler, self._kept.latents(start, stop))

    def _windows_at(self, frame: int) -> range:
        """Numbers of the windows that hold a latent frame; they follow each other."""
        stop = bisect_right(self._window_starts, frame)
        start = stop
        while start > 0 and self.windows[start - 1].stop > frame:
            start -= 1
        return range(start, stop)

    def state(self) -> dict[str, torch.Tensor]:
        """All that is needed to continue from here, as tensors on the CPU."""
        active = [[number, step] for number, step in self.active.items()]
        tensors = {
            "counters": torch.tensor([self._started, self._collected]),
            "active": torch.tensor(active, dtype=torch.long).reshape(-1, 2),
        }
        tensors |= {f"anchors.{step}": latents for step, latents in enumerate(self._picture_latents)}
        segments = {"anchor": self._picture} if self._picture is not None else {}
        segments |= {str(start): segment for start, segment in self._segments.items()}
        for name, segment in segments.items():
            tensors |= {f"segments.{name}.{key}": value for key, value in segment.state().items()}
        return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}

    def restore(self, tensors: dict[str, torch.Tensor], like: torch.Tensor) -> None:
        """Continue from what `state` returned, on the device of `like`; the noise must be restored, too."""

        def placed(value: torch.Tensor) -> torch.Tensor:
            return value.to(like.device) if value.is_floating_point() else value

        self._started, self._collected = tensors["counters"].tolist()
        self.active = dict(tensors["active"].tolist())
        count = sum(name.startswith("anchors.") for name in tensors)
        self._picture_latents = [placed(tensors[f"anchors.{step}"]) for step in range(count)]
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("segments."):
                _, owner, key = name.split(".", 2)
                parts.setdefault(owner, {})[key] = placed(value)
        self._segments = {}
        for owner, state in parts.items():
            segment = self._new_segment(0 if owner == "anchor" else int(owner), state["latents"])
            segment.restore(state)
            if owner == "anchor":
                self._picture = segment
            else:
                self._segments[segment.start] = segment
        self._segments = dict(sorted(self._segments.items()))
