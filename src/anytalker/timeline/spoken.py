"""From a script to a timeline: texts are spoken to know how long they take, and laid out with people's gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from anytalker.conventions import SAMPLE_RATE
from anytalker.errors import InputError
from anytalker.speech.engine import SpeechEngine
from anytalker.timeline.model import MAX_SECONDS, Person, Timeline, Turn, TurnSound, same_name
from anytalker.timeline.script import Line, Script
from anytalker.timeline.streams import default_engine, request_of

LEAD = 0.2
"""Seconds before the first word."""
GAP_MEAN, GAP_SPREAD = 0.2, 0.2
GAP_LEAST, GAP_MOST = -0.1, 0.8
"""Seconds between one person's last word and the next one's first. Stivers et al. 2009 (PNAS 106:10587) measured a
mean of 0.2 s over ten languages, Heldner and Edlund 2010 (J. Phonetics 38:555) how gaps and overlaps scatter around it;
the tails are cut, so that nothing overlaps much that isn't written so."""
BREATH_MEAN, BREATH_SPREAD = 0.5, 0.15
"""Seconds between two turns of the same person."""
INTERRUPTION = 0.35
"""Seconds by which an interruption begins before the end of the turn that it interrupts."""
_LEAST_APART = 0.05
"""Seconds between two turns of the same person, at least."""


@dataclass
class _Clock:
    """When people spoke, while turns are laid out."""

    random: np.random.Generator
    end: float = 0.0
    last: Line | None = None
    starts: dict[str, float] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)

    def begin(self, line: Line) -> float:
        """When a line starts."""
        free = self.ends.get(line.person, 0.0)
        if line.alongside is not None:
            start = self.starts[line.alongside] + (line.pause or 0.0)
        elif self.last is None:
            start = LEAD if line.pause is None else line.pause
        elif line.pause is not None:
            start = self.end + line.pause
        elif self.last.interrupted and self.last.person != line.person:
            start = self.end - min(INTERRUPTION, (self.end - self.starts[self.last.person]) / 2)
        elif self.last.person == line.person:
            start = self.end + max(0.2, float(self.random.normal(BREATH_MEAN, BREATH_SPREAD)))
        else:
            start = self.end + float(np.clip(self.random.normal(GAP_MEAN, GAP_SPREAD), GAP_LEAST, GAP_MOST))
        return max(start, free + _LEAST_APART if free else 0.0)

    def note(self, line: Line, start: float, end: float) -> None:
        """A line was laid out."""
        self.starts[line.person], self.ends[line.person] = start, end
        self.end, self.last = max(self.end, end), line


def timeline_of_script(
    script: Script,
    people: Iterable[Person] = (),
    engine: SpeechEngine | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Timeline:
    """Speak a script and lay it out in time.

    A turn begins about 0.2 s after the last one ends, one that interrupts ("--") 0.35 s before, and one with
    [with Ben] when Ben's last turn begins. The same script gives the same timeline.

    Args:
        script: who says what.
        people: what is known of them, by name: voices and faces; the others are as they come.
        engine: what speaks; None: espeak-ng.
        progress: called as (done, total) turns.

    Raises:
        InputError: if a text can't be spoken, or all of it takes more than six hours.
    """
    given = {same_name(person.name): person for person in people}
    unknown = [person.name for key, person in given.items() if key not in map(same_name, script.people)]
    if unknown:
        raise InputError(f"There is nobody called {unknown[0]}; there are {', '.join(script.people)}.")
    cast = [given.get(same_name(name), Person(name=name)).model_copy(update={"name": name}) for name in script.people]
    places = {person.name: place for place, person in enumerate(cast)}
    engine = engine or default_engine()
    clock, turns = _Clock(np.random.default_rng(0)), []
    for number, line in enumerate(script.lines, start=1):
        turn = Turn(
            person=line.person,
            start=0,
            end=1,
            text=line.text,
            language=line.language,
            direction=line.direction,
            strength=line.strength,
            look_at=line.look_at,
        )
        place = places[line.person]
        request = request_of(turn, cast[place], place, number)
        samples = engine.say(request)
        kept = engine.path(request)
        start = round(clock.begin(line), 3)
        end = round(start + -(-len(samples) * 1000 // SAMPLE_RATE) / 1000, 3)
        if end > MAX_SECONDS:
            raise InputError(
                f"The script takes more than {MAX_SECONDS // 3600} hours from line {line.number} on. Cut it."
            )
        sound = None if kept is None else TurnSound(file=str(kept))
        turns.append(turn.model_copy(update={"start": start, "end": end, "sound": sound}))
        clock.note(line, start, end)
        progress(number, len(script.lines))
    return Timeline.checked({"people": cast, "turns": turns})
