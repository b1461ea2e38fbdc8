"""Who appears in an episode: people of the drawn world, each with a voice that is unlike the others'."""

from __future__ import annotations

import numpy as np

from anytalker.miniature.episodes.plan import Member
from anytalker.miniature.voices.speech import Voice
from anytalker.miniature.world.people import Person

_LANGUAGES = ("en-us", "en-us", "en", "en-gb-scotland", "de", "fr", "es", "it", "pt-br", "pl", "nl")
_VARIANTS = {
    "male": ("m1", "m2", "m3", "m4", "m6", "m7", "grandpa"),
    "female": ("f1", "f2", "f3", "f4", "f5", "Andrea", "belinda"),
}


def draw_cast(rng: np.random.Generator, seed: int, count: int) -> tuple[Member, ...]:
    """Draw people and voices; no two have the same variant of a voice, and those of a gender differ in pitch.

    Args:
        rng: source of the voices.
        seed: of the people; the same seed and number, the same person.
        count: how many people, 2 to 14.
    """
    people = [Person.random(np.random.default_rng([seed, 41, index])) for index in range(count)]
    language = str(rng.choice(_LANGUAGES))
    genders = _genders(rng, people)
    variants = {gender: list(rng.permutation(names)) for gender, names in _VARIANTS.items()}
    pitches = {gender: _apart(rng, genders.count(gender), 15, 85) for gender in _VARIANTS}
    speeds = _apart(rng, count, 130, 215)
    cast = []
    for index, (person, gender) in enumerate(zip(people, genders, strict=True)):
        base = language if rng.random() < 0.75 else str(rng.choice(_LANGUAGES))
        lively = int(rng.integers(30, 80))
        voice = Voice(f"{base}+{variants[gender].pop()}", speeds.pop(), pitches[gender].pop(), lively)
        cast.append(Member(f"p{index + 1}", person, voice, gender))
    return tuple(cast)


def _genders(rng: np.random.Generator, people: list[Person]) -> list[str]:
    """Men's voices for beards, and otherwise whichever there are fewer of."""
    genders = ["male" if person.beard != "none" else "" for person in people]
    for index in rng.permutation(len(people)):
        if not genders[index]:
            fewer = "female" if genders.count("female") <= genders.count("male") else "male"
            genders[index] = fewer
    while genders.count("male") > len(_VARIANTS["male"]):
        genders[genders.index("male")] = "female"
    return genders


def _apart(rng: np.random.Generator, count: int, low: int, high: int) -> list[int]:
    """Numbers from `low` to `high` in random order, one from each of `count` equal steps."""
    steps = low + (high - low) * (np.arange(count) + rng.uniform(0.25, 0.75, count)) / max(1, count)
    return [int(value) for value in rng.permutation(steps)]
