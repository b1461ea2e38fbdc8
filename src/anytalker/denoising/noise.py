"""The noise that a video starts from, drawn latent frame after latent frame."""

from __future__ import annotations

import torch


class Noise:
    """Standard normal noise; a longer video with the same seed begins with the same noise.

    Args:
        channels: of a latent.
        height, width: of the latents.
        like: its device and precision are those of the noise.
        generator: source, on the CPU or a GPU; None: one on the CPU that is seeded from torch's own.
    """

    def __init__(
        self, channels: int, height: int, width: int, like: torch.Tensor, generator: torch.Generator | None
    ) -> None:
        if generator is None:
            generator = torch.Generator().manual_seed(int(torch.randint(2**63 - 1, ())))
        self.generator = generator
        self._seed = _seed_of(generator)
        self._shape, self._like = (1, channels, 1, height, width), like

    def __call__(self, start: int, stop: int) -> torch.Tensor:
        """The next noise (1, channels, stop − start, h, w); to be asked for in order."""
        device = self.generator.device
        drawn = [torch.randn(self._shape, generator=self.generator, device=device) for _ in range(start, stop)]
        return torch.cat(drawn, dim=2).to(self._like)

    @property
    def seed(self) -> int | None:
        """The seed that the noise is drawn from; None if something else was drawn from the source before."""
        return self._seed

    def state(self) -> torch.Tensor:
        """State of the generator, uint8 (n,)."""
        return self.generator.get_state()

    def restore(self, state: torch.Tensor) -> None:
        """Continue from what `state` returned."""
        self.generator.set_state(state)


def _seed_of(generator: torch.Generator) -> int | None:
    seed = generator.initial_seed()
    unused = torch.Generator(generator.device).manual_seed(seed)
    return seed if torch.equal(unused.get_state(), generator.get_state()) else None


class GivenNoise:
    """Noise that somebody has drawn before, with the methods of `Noise`.

    Args:
        latents: (1, channels, f, h, w).
        like: its device and precision are those of the noise.
    """

    seed: int | None = None

    def __init__(self, latents: torch.Tensor, like: torch.Tensor) -> None:
        self.latents = latents.to(like)

    def __call__(self, start: int, stop: int) -> torch.Tensor:
        """The noise (1, channels, stop − start, h, w)."""
        return self.latents[:, :, start:stop].clone()

    def state(self) -> torch.Tensor:
        """Nothing: it is the same at any time."""
        return torch.zeros(1, dtype=torch.uint8)

    def restore(self, state: torch.Tensor) -> None:
        """Nothing to do."""
