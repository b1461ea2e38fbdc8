"""Denoising windows as a wave: only as many are in work as there are steps, however long the video is.

Windows couple where they overlap: before a window can take its next step, its neighbours must have taken the last one.
So window k can be ahead of window k + 1 by one step, of window k + 2 by two, and the first window is finished when
about as many windows as there are steps have begun. What is finished leaves; the next window enters with fresh noise.
The numbers are those of taking every step for all windows at once.

Latent frames that belong to the same windows share a `Segment`, which has its own state of the sampler. The picture's
frame stands in front of every window; the first window alone moves it, and all the others see it as it was at their
step.
"""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from diffusers import UniPCMultistepScheduler
from torch.overrides import TorchFunctionMode

from anytalker.denoising.windows import Window

NoiseSource = Callable[[int, int], torch.Tensor]
"""Gives the noise (B, channels, stop − start, h, w) of latent frames start to stop; called in order, once a frame."""

_COUNTERS = ("_step_index", "this_order", "lower_order_nums")


class _Unchecked(TorchFunctionMode):
    """The sampler solves 2×2 systems of its noise levels; asking the device whether it could would wait for it."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.linalg.solve:
            return torch.linalg.solve_ex(*args, **(kwargs or {}))[0]
        return function(*args, **(kwargs or {}))


class Segment:
    """Latent frames that belong to the same windows, on their way from noise to video.

    Args:
        start, stop: the latent frames, `stop` exclusive.
        windows: numbers of the windows that hold them, in order.
        latents: their noise (B, channels, stop − start, h, w).
        scheduler: ready for the run; the segment works with a copy that has a history of its own.
    """

    def __init__(
        self,
        start: int,
        stop: int,
        windows: range,
        latents: torch.Tensor,
        scheduler: UniPCMultistepScheduler,
    ) -> None:
        self.start, self.stop, self.windows, self.latents = start, stop, windows, latents
        self.step = 0
        self.heard = 0
        self._summed = torch.zeros_like(latents)
        self._weights = latents.new_zeros(stop - start)
        self._scheduler: Any = copy.copy(scheduler)
        self._scheduler.model_outputs = list(scheduler.model_outputs)
        self._scheduler.timestep_list = list(scheduler.timestep_list)

    def add(self, velocity: torch.Tensor, weights: torch.Tensor) -> None:
        """Hear one window's velocity with its weights (frames,); after the last of them the segment takes its step."""
        self._summed += velocity * weights.view(1, 1, -1, 1, 1)
        self._weights += weights
        self.heard += 1
        if self.heard < len(self.windows):
            return
        blended = self._summed / self._weights.view(1, 1, -1, 1, 1)
        timestep = self._scheduler.timesteps[self.step]
        with _Unchecked():
            self.latents = self._scheduler.step(blended, timestep, self.latents, return_dict=False)[0]
        self.step, self.heard = self.step + 1, 0
        self._summed = torch.zeros_like(self.latents)
        self._weights = torch.zeros_like(self._weights)

    def state(self) -> dict[str, torch.Tensor]:
        """All that changes, as tensors."""
        sampler = self._scheduler
        counters = [getattr(sampler, name, None) for name in _COUNTERS]
        known = [-1 if value is None else value for value in counters]
        tensors = {"latents": self.latents, "counters": torch.tensor([self.step, self.heard, *known])}
        if self.heard:
            tensors |= {"summed": self._summed, "weights": self._weights}
        if sampler.last_sample is not None:
            tensors["last_sample"] = sampler.last_sample
        outputs = enumerate(sampler.model_outputs)
        return tensors | {f"model_outputs.{place}": output for place, output in outputs if output is not None}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take up what `state` gave."""
        sampler = self._scheduler
        self.step, self.heard, *counters = tensors["counters"].tolist()
        self.latents = tensors["latents"]
        if self.heard:
            self._summed, self._weights = tensors["summed"], tensors["weights"]
        for name, value in zip(_COUNTERS, counters, strict=True):
            setattr(sampler, name, None if value < 0 else value)
        sampler.last_sample = tensors.get("last_sample")
        for place in range(len(sampler.model_outputs)):
            sampler.model_outputs[place] = tensors.get(f"model_outputs.{place}")
            past = self.step - len(sampler.model_outputs) + place
            sampler.timestep_list[place] = sampler.timesteps[past] if past >= 0 else None


class Wavefront:
    """Which window takes which step next, and the latents in between.

    Args:
        windows: as planned, in order.
        overlap: latent frames that neighbouring windows share, for the blending weights.
        total: latent frames of the video.
        scheduler: ready for the run (`set_timesteps`).
        noise: where the noise comes from.
    """

    def __init__(
        self,
        windows: Sequence[Window],
        overlap: int,
        total: int,
        scheduler: UniPCMultistepScheduler,
        noise: NoiseSource,
    ) -> None:
        self.windows, self.overlap, self.total = windows, overlap, total
        self.timesteps, self.steps = scheduler.timesteps, len(scheduler.timesteps)
        self.active: dict[int, int] = {}
        self._scheduler, self._noise = scheduler, noise
        self._starts = [window.start for window in windows]
        self._edges = sorted({1, total, *self._starts, *(window.stop for window in windows)})
        self._segments: dict[int, Segment] = {}
        self._entered = 0
        self._emitted = 0
        self._anchor: Segment | None = None
        self._anchors: list[torch.Tensor] = []
        self._weights: dict[int, torch.Tensor] = {}

    @property
    def done(self) -> int:
        """Steps of windows that have been taken, out of windows × steps."""
        return sum(self.active.values()) + (self._entered - len(self.active)) * self.steps

    def next(self) -> tuple[int, int]:
        """Number and step of the next window to take a step; the earliest that can, or one that enters for it.

        Raises:
            StopIteration: if all windows have taken all steps.
        """
        for number, step in self.active.items():
            if all(segment.step == step for segment in self._segments_of(number)):
                return number, step
        if self._entered == len(self.windows):
            raise StopIteration
        return self._enter(), 0

    def latents(self, number: int, step: int) -> torch.Tensor:
        """Latents (B, channels, 1 + frames, h, w) of an active window before its step, the picture's first."""
        parts = [segment.latents for segment in self._segments_of(number)]
        return torch.cat([self._anchors[step], *parts], dim=2)

    def add(self, number: int, velocity: torch.Tensor) -> bool:
        """Take the step of an active window with its velocity, shaped as its latents; True if it was its last."""
        window = self.windows[number]
        weights = self._weights.get(number)
        if weights is None:
            weights = self._weights[number] = window.weights(self.overlap, self.total).to(velocity)
        if number == 0:
            assert self._anchor is not None
            self._anchor.add(velocity[:, :, :1], weights[:1])
            self._anchors.append(self._anchor.latents)
        for segment in self._segments_of(number):
            places = slice(1 + segment.start - window.start, 1 + segment.stop - window.start)
            segment.add(velocity[:, :, places], weights[places])
        self.active[number] += 1
        if self.active[number] < self.steps:
            return False
        del self.active[number], self._weights[number]
        return True

    def finished(self) -> Iterator[torch.Tensor]:
        """Final latents (B, channels, n, h, w) that nobody has been given yet, in order, as far as there are any."""
        if self._emitted == 0 and self._anchor is not None and self._anchor.step == self.steps:
            self._emitted = 1
            yield self._anchors[-1]
        while self._emitted in self._segments and self._segments[self._emitted].step == self.steps:
            segment = self._segments.pop(self._emitted)
            self._emitted = segment.stop
            yield segment.latents

    def state(self) -> dict[str, torch.Tensor]:
        """All that is needed to go on from here, as tensors on the CPU."""
        active = [[number, step] for number, step in self.active.items()]
        tensors = {
            "counters": torch.tensor([self._entered, self._emitted]),
            "active": torch.tensor(active, dtype=torch.long).reshape(-1, 2),
        }
        tensors |= {f"anchors.{step}": latents for step, latents in enumerate(self._anchors)}
        segments = {"anchor": self._anchor} if self._anchor is not None else {}
        segments |= {str(start): segment for start, segment in self._segments.items()}
        for name, segment in segments.items():
            tensors |= {f"segments.{name}.{key}": value for key, value in segment.state().items()}
        return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}

    def restore(self, tensors: dict[str, torch.Tensor], like: torch.Tensor) -> None:
        """Take up what `state` gave, on the device of `like`; the noise must go on where it was, too."""

        def placed(value: torch.Tensor) -> torch.Tensor:
            return value.to(like.device) if value.is_floating_point() else value

        self._entered, self._emitted = tensors["counters"].tolist()
        self.active = dict(tensors["active"].tolist())
        count = sum(name.startswith("anchors.") for name in tensors)
        self._anchors = [placed(tensors[f"anchors.{step}"]) for step in range(count)]
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("segments."):
                _, owner, key = name.split(".", 2)
                parts.setdefault(owner, {})[key] = placed(value)
        self._segments = {}
        for owner, state in parts.items():
            anchor = owner == "anchor"
            segment = self._new_segment(0 if anchor else int(owner), state["latents"])
            segment.restore(state)
            if anchor:
                self._anchor = segment
            else:
                self._segments[segment.start] = segment
        self._segments = dict(sorted(self._segments.items()))

    def _new_segment(self, start: int, latents: torch.Tensor) -> Segment:
        stop = start + latents.shape[2]
        if start == 0:
            return Segment(0, 1, range(1), latents, self._scheduler)
        last = bisect_right(self._starts, start)
        first = last
        while first > 0 and self.windows[first - 1].stop > start:
            first -= 1
        return Segment(start, stop, range(first, last), latents, self._scheduler)

    def _segments_of(self, number: int) -> list[Segment]:
        window = self.windows[number]
        return [self._segments[start] for start, _ in self._edges_within(window)]

    def _edges_within(self, window: Window) -> list[tuple[int, int]]:
        first, last = bisect_right(self._edges, window.start - 1), bisect_right(self._edges, window.stop)
        return list(pairwise(self._edges[first:last]))

    def _enter(self) -> int:
        number, self._entered = self._entered, self._entered + 1
        if number == 0:
            self._anchor = self._new_segment(0, self._noise(0, 1))
            self._anchors = [self._anchor.latents]
        for start, stop in self._edges_within(self.windows[number]):
            if start not in self._segments:
                self._segments[start] = self._new_segment(start, self._noise(start, stop))
        self.active[number] = 0
        return number
