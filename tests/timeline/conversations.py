"""Random timelines, with all that can be in them."""

from __future__ import annotations

import numpy as np

from anytalker.timeline.model import Person, SpokenVoice, Timeline, Turn, TurnSound

NAMES = ("Anna", "Ben Lee", "Çağla", "דנה", "Émile-2", "李雷", "100% Kim", "o'Neil_x", "Zoë 🎤")
WORDS = (
    "hello",
    "wait -- what",
    "1 < 2 & 3 > 2",
    "שלום עולם",
    "naïve 😀",
    "- dash",
    "--> arrow",
    "Ben: said so",
    "<v x>",
    "ok",
)


def random_timeline(seed: int, sounds: bool = True) -> Timeline:
    """People who speak in turns and across each other, in whole milliseconds; the same seed, the same timeline."""
    rng = np.random.default_rng(seed)
    names = list(rng.permutation(NAMES)[: rng.integers(1, 6)])
    people = [
        Person(
            name=name,
            face=[None, (3, 4, 50, 60), (7.5, 8.25), 2, "mask.png"][rng.integers(5)],
            voice=[None, SpokenVoice(name="en-us+f2", pitch=1.25)][rng.integers(2)],
        )
        for name in names
    ]
    turns = []
    for name in names:
        clock = 0
        for _ in range(rng.integers(1, 6)):
            start = clock + int(rng.integers(0, 4_000_000 if rng.random() < 0.1 else 3000))
            clock = start + int(rng.integers(1, 5000))
            turns.append(
                Turn(
                    person=name,
                    start=start / 1000,
                    end=clock / 1000,
                    text=None if rng.random() < 0.2 else " ".join(rng.choice(WORDS, rng.integers(1, 4))) + " end",
                    sound=TurnSound(file="a b.wav:left", offset=1.5) if sounds and rng.random() < 0.3 else None,
                    language="de" if rng.random() < 0.2 else None,
                    direction="laughs" if rng.random() < 0.2 else None,
                    strength=float(rng.choice([0, 1, 2.5])),
                    look_at=str(rng.choice(names)) if rng.random() < 0.2 else None,
                )
            )
    return Timeline.of(turns, people)
