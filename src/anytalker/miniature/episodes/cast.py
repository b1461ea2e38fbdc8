"""Who appears in an episode: people of the drawn world, each with a voice that is unlike the others'."""

from __future__ import annotations

import numpy as np

from anytalker.miniature.episodes.plan import Member
from anytalker.miniature.voices.speech import Voice
from anytalker.miniature.world.people import Person

_LANGUAGES = ("en-us", "en-us", "en", "en-gb-scotland", "de", "fr", "es", "it", "pt-br", "pl", "nl")
_VARIANTS = {
    "male": ("m3", "david", "Marco", "kaukovalta", "iven", "Jacky", "travis", "miguel"),
    "female": ("f2", "anika", "Alicia", "steph3", "shelby", "belinda", "grandma", "Andrea"),
}
"""espeak-ng's variants that speaker embeddings tell apart best at the same pitch."""


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
    timbres = {gender: _timbres(rng, names, genders.count(gender)) for gender, names in _VARIANTS.items()}
    speeds = [int(speed) for speed in rng.permutation(_apart(rng, count, 130, 215))]
    cast = []
    for index, (person, gender) in enumerate(zip(people, genders, strict=True)):
        base = language if rng.random() < 0.75 else str(rng.choice(_LANGUAGES))
        lively = int(rng.integers(30, 80))
        variant, pitch = timbres[gender].pop()
        voice = Voice(f"{base}+{variant}", speeds.pop(), pitch, lively)
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


def _timbres(rng: np.random.Generator, names: tuple[str, ...], count: int) -> list[tuple[str, int]]:
    """Variants with a pitch, in random order; no two have nearly the same pitch."""
    chosen = rng.permutation(len(names))[:count]
    pitches = _apart(rng, count, 12, 88)
    return [(names[chosen[index]], pitches[index]) for index in rng.permutation(count)]


def _apart(rng: np.random.Generator, count: int, low: int, high: int) -> list[int]:
    """Numbers from `low` to `high`, rising, one from each of `count` equal steps."""
    steps = low + (high - low) * (np.arange(count) + rng.uniform(0.25, 0.75, count)) / max(1, count)
    return [int(value) for value in steps]
