"""The noise that a video starts from, drawn latent frame after latent frame."""

from __future__ import annotations

import torch


class Noise:
    """Standard normal noise; a longer video with the same seed begins with the same noise.

    Args:
        channels: of a latent.
        height, width: of the latents.
        like: its device and precision are those of the noise.
        generator: source, on the CPU; None: one that is seeded from torch's own.
    """

    def __init__(
        self, channels: int, height: int, width: int, like: torch.Tensor, generator: torch.Generator | None
    ) -> None:
        if generator is None:
            generator = torch.Generator().manual_seed(int(torch.randint(2**63 - 1, ())))
        self.generator = generator
        self._shape, self._like = (1, channels, 1, height, width), like

    def __call__(self, start: int, stop: int) -> torch.Tensor:
        """The next noise (1, channels, stop − start, h, w); to be asked for in order."""
        drawn = [torch.randn(self._shape, generator=self.generator) for _ in range(start, stop)]
        return torch.cat(drawn, dim=2).to(self._like)

    @property
    def seed(self) -> int:
        """The seed that the source was given."""
        return self.generator.initial_seed()

    def state(self) -> torch.Tensor:
        """State of the generator, uint8 (n,)."""
        return self.generator.get_state()

    def restore(self, state: torch.Tensor) -> None:
        """Continue from what `state` returned."""
        self.generator.set_state(state)
