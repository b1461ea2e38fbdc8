"""Short films of the drawn world, put together by the tests."""

from __future__ import annotations

import numpy as np

from anytalker.miniature.world.behaviour import talk
from anytalker.miniature.world.clips import babble
from anytalker.miniature.world.scenes import Scene

FPS = 25.0
HEIGHT = 108


def drawn(seed: int, count: int, take: int = 0, aside: float = 0.0, height: int = HEIGHT) -> list[np.ndarray]:
    """Somebody talks in a room: uint8 RGB frames (height, 16/9 of it, 3).

    Another take is another moment, `aside` moves them.
    """
    scene = Scene.random(1, seed, slot_width=16 / 9)
    rng = np.random.default_rng([seed, take])
    states = talk(babble(rng, count, FPS), FPS, rng, scene.gazes[0])
    for state in states:
        state.shift = (state.shift[0] + aside, state.shift[1])
    return list(scene.render([states], height))


def dissolved(first: list[np.ndarray], second: list[np.ndarray], length: int) -> list[np.ndarray]:
    """Both films, the last frames of the first blended with the first ones of the second."""
    shares = (np.arange(length) + 1) / (length + 1)
    blend = [
        (one * (1 - share) + other * share).astype(np.uint8)
        for one, other, share in zip(first[-length:], second[:length], shares, strict=True)
    ]
    return first[:-length] + blend + second[length:]
