"""Latent frames that belong to the same windows: what takes a step when all these windows have given a velocity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from anytalker.denoising.sampler import Sampler

NoiseSource = Callable[[int, int], torch.Tensor]
"""Returns noise (B, channels, stop − start, h, w) for latent frames `start` to `stop`; called in order, once each."""

STATE_FORMAT = 2
"""Number of the form in which the state of a run is saved; parts of another form are not continued."""


@dataclass(frozen=True)
class KeptWindows:
    """Windows that are not denoised because their latents are known.

    Attributes:
        numbers: of the windows.
        latents: called as (start, stop); final latents (B, channels, stop − start, h, w) of frames of these windows.
    """

    numbers: frozenset[int]
    latents: NoiseSource


class Segment:
    """Latent frames that belong to the same windows; they take a step when all these windows have given a velocity.

    Args:
        start, stop: the latent frames, `stop` exclusive.
        windows: numbers of the windows that hold them, in order.
        latents: their noise (B, channels, stop − start, h, w).
        scheduler: with its timesteps set; the segment works with a copy that has a history of its own.
        generator: for samplers that draw noise at their steps.
    """

    def __init__(
        self,
        start: int,
        stop: int,
        windows: range,
        latents: torch.Tensor,
        scheduler: Any,
        generator: torch.Generator | None = None,
    ) -> None:
        self.start, self.stop, self.windows, self.latents = start, stop, windows, latents
        self.step = 0
        self.estimate = latents
        """What the latents would be without their noise, as the last step's velocity has it."""
        self.velocities = 0
        """How many of the windows have given their velocity of this step."""
        self._velocity_sum = torch.zeros_like(latents)
        self._weight_sum = latents.new_zeros(stop - start)
        self._sampler = Sampler(scheduler, generator)

    def ready(self, step: int) -> bool:
        """Whether it has taken exactly so many steps."""
        return self.step == step

    def latents_at(self, step: int) -> torch.Tensor:
        """Its latents before the step that it is to take next."""
        return self.latents

    def add_velocity(self, velocity: torch.Tensor, weights: torch.Tensor) -> None:
        """Add one window's velocity (B, channels, frames, h, w) with weights (frames,); the last one makes the step."""
        self._velocity_sum += velocity * weights.view(1, 1, -1, 1, 1)
        self._weight_sum += weights
        self.velocities += 1
        if self.velocities == len(self.windows):
            self._take_step()

    def _take_step(self) -> None:
        """Move the latents by the weighted mean of the velocities."""
        velocity = self._velocity_sum / self._weight_sum.view(1, 1, -1, 1, 1)
        self.estimate = self._sampler.estimate(self.step, velocity, self.latents)
        self.latents = self._sampler.step(self.step, velocity, self.latents)
        self.step, self.velocities = self.step + 1, 0
        self._velocity_sum = torch.zeros_like(self.latents)
        self._weight_sum = torch.zeros_like(self._weight_sum)

    def state(self) -> dict[str, torch.Tensor]:
        """All that changes from step to step, as tensors."""
        tensors = {"latents": self.latents, "counters": torch.tensor([self.step, self.velocities])}
        if self.velocities:
            tensors |= {"summed": self._velocity_sum, "weights": self._weight_sum}
        return tensors | {f"sampler.{name}": value for name, value in self._sampler.state().items()}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Continue from what `state` returned."""
        self.step, self.velocities = tensors["counters"].tolist()
        self.latents = tensors["latents"]
        if self.velocities:
            self._velocity_sum, self._weight_sum = tensors["summed"], tensors["weights"]
        known = {name.removeprefix("sampler."): value for name, value in tensors.items() if name.startswith("sampler.")}
        self._sampler.restore(known, self.latents.device)


@dataclass(frozen=True)
class Stepped:
    """The latents that one call of `Wavefront.add_velocity` has moved: those that no later window shares.

    Attributes:
        step: of the sampler, from 0.
        timestep: the sampler's at that step, in 0..1000.
        segments: they, in order; with a single window that is the whole video.
    """

    step: int
    timestep: torch.Tensor
    segments: tuple[Segment, ...]

    @property
    def latents(self) -> torch.Tensor:
        """Latents (B, channels, n, h, w) after the step."""
        return torch.cat([segment.latents for segment in self.segments], dim=2)

    @property
    def estimate(self) -> torch.Tensor:
        """What they would be without their noise, as far as the model can tell at this step; of the same shape."""
        return torch.cat([segment.estimate for segment in self.segments], dim=2)

    @property
    def frames(self) -> list[int]:
        """Their latent frames, 0 is the picture's."""
        return [frame for segment in self.segments for frame in range(segment.start, segment.stop)]


class KeptSegment(Segment):
    """Latent frames of kept windows: always ready, and never changed by the windows that overlap them.

    Args:
        final: their latents (B, channels, stop − start, h, w) without noise; for the rest see `Segment`.
    """

    def __init__(
        self,
        start: int,
        stop: int,
        windows: range,
        latents: torch.Tensor,
        scheduler: Any,
        final: torch.Tensor,
    ) -> None:
        super().__init__(start, stop, windows, latents, scheduler)
        self._noise, self._sigmas = latents, scheduler.sigmas
        self.latents = self.estimate = final.to(latents)

    def ready(self, step: int) -> bool:
        """Always."""
        return True

    def latents_at(self, step: int) -> torch.Tensor:
        """The final latents with as much of their noise as is left before a step."""
        if step == 0:  # where σ is nearly 1, and denoising starts from noise all the same
            return self._noise
        sigma = self._sigmas[step]
        return ((1 - sigma) * self.latents + sigma * self._noise).to(self.latents)

    def add_velocity(self, velocity: torch.Tensor, weights: torch.Tensor) -> None:
        """Nothing: they stay as they are."""
