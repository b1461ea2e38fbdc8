"""An episode that is being planned: how long its shots may be, where people sit, and who says what when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from anytalker.miniature.episodes.cast import draw_cast
from anytalker.miniature.episodes.plan import FPS, MARGIN, Line, Seat, Shot, View

SPOILS = {
    "three_people": True,
    "entrance": True,
    "exit": True,
    "offscreen": True,
    "overlap": True,
    "music": True,
    "noise": True,
    "dubbing": True,
    "swap": True,
    "nobody": True,
    "card": True,
    "small": True,
    "turned_away": True,
    "occluded": True,
    "covered_mouth": True,
    "duplicate": True,
    "silent": True,
    "zoom": True,
    "pan": True,
    "shake": True,
    "delay": False,
    "dissolve": False,
    "flash": False,
    "jump_cut": False,
    "same_place": False,
    "swapped_seats": False,
    "subtitles": False,
    "bars": False,
    "faint_music": False,
}
"""Every kind of trouble, and whether it makes a shot unfit for training. The others only make curation harder."""

SHORTEST = 2 * FPS
"""Frames of the shortest shot."""

TALK = 3.6
"""Seconds of the shortest shot in which anybody talks."""


class Draft:
    """The plan of an episode as far as it has come.

    Args:
        seed: of the episode.
        frames: how many it is to have.
        aspect: width of the picture in units of its height.
    """

    def __init__(self, seed: int, frames: int, aspect: float) -> None:
        self.rng = np.random.default_rng([seed, 42])
        self.frames, self.aspect = frames, aspect
        self.cast = draw_cast(self.rng, seed, int(self.rng.integers(4, 9)))
        self.rooms = [int(self.rng.integers(2**31)) for _ in range(int(self.rng.integers(3, 6)))]
        self.room = self.rooms[0]
        self.shots: list[Shot] = []

    @property
    def left(self) -> int:
        """Frames that still have no shot."""
        return self.frames - (self.shots[-1].end if self.shots else 0)

    def length(self, shortest: float, longest: float) -> int:
        """Frames of the next shot, of about so many seconds; what is left after it is nothing or enough for another."""
        wanted = round(self.rng.uniform(shortest, longest) * FPS)
        if self.left - wanted >= SHORTEST:
            return wanted
        return self.left if self.left <= 20 * FPS else self.left - SHORTEST

    def add(self, frames: int, seats: tuple[Seat, ...], lines: tuple[Line, ...], *trouble: str, **more: Any) -> Shot:
        """Append a shot in the current room.

        Args:
            frames: how long it is.
            seats: who is there.
            lines: what is said.
            *trouble: what is special about it, names of `SPOILS`.
            **more: other attributes of `Shot`.
        """
        previous = self.shots[-1] if self.shots else None
        slow = previous and not {"jump_cut", "same_place"} & set(trouble) and min(frames, previous.frames) >= 3 * FPS
        if slow and self.rng.random() < 0.18:
            more["dissolve"] = int(self.rng.integers(8, 2 * MARGIN + 1))
            trouble = (*trouble, "dissolve")
        shot = Shot(
            start=previous.end if previous else 0,
            frames=frames,
            room=more.pop("room", self.room),
            view=more.pop("view", None) or self.view(),
            seats=seats,
            lines=lines,
            seed=more.pop("seed", None) or self.seed(),
            good=not any(SPOILS[name] for name in trouble),
            trouble=trouble,
            **more,
        )
        self.shots.append(shot)
        return shot

    def repeat(self, original: Shot, *trouble: str, **changes: Any) -> Shot:
        """Append a shot that begins as a copy of an earlier one."""
        kept = {name: getattr(original, name) for name in ("room", "view", "seed", "noise", "brightness")}
        seats, lines = changes.pop("seats", original.seats), changes.pop("lines", original.lines)
        frames = changes.pop("frames", original.frames)
        return self.add(frames, seats, lines, *trouble, **(kept | changes))

    def seed(self) -> int:
        """A new seed for something in a shot."""
        return int(self.rng.integers(2**31))

    def view(self) -> View:
        """A part of the room for the background."""
        x, y = self.rng.uniform(0, 1, 2)
        return View(float(x), float(y), float(self.rng.uniform(0.6, 1.0)))

    def seats(self, count: int, scales: tuple[float, float] = (0.2, 0.29)) -> tuple[Seat, ...]:
        """Different people of the cast beside each other, from left to right."""
        slot = self.aspect / count
        common = min(float(self.rng.uniform(*scales)), slot / 2.5)
        members = self.rng.permutation(len(self.cast))[:count]
        height = float(self.rng.uniform(0.46, 0.52))
        seats = []
        for index, member in enumerate(members):
            scale = common * float(self.rng.uniform(0.95, 1.0))
            free = max(0.0, slot - 2.6 * scale)
            x = slot * (index + 0.5) + float(self.rng.uniform(-0.35, 0.35)) * free
            y = max(height + float(self.rng.uniform(-0.02, 0.02)), 1.6 * scale)
            gaze = (float(self.rng.uniform(-0.5, 0.5)), float(self.rng.uniform(-0.2, 0.3)))
            seats.append(Seat(int(member), x, y, scale, gaze))
        return tuple(seats)

    def absent(self, seats: tuple[Seat, ...]) -> int:
        """Somebody of the cast who has none of these seats."""
        others = [index for index in range(len(self.cast)) if index not in {seat.member for seat in seats}]
        return int(self.rng.choice(others))

    def lookalike(self, member: int) -> int:
        """Who of the rest of the cast looks most like somebody."""
        one = self.cast[member].person

        def distance(index: int) -> float:
            other = self.cast[index].person
            colors = ((one.skin, other.skin), (one.hair_color, other.hair_color), (one.clothes, other.clothes))
            return sum(abs(a - b) for pair in colors for a, b in zip(*pair, strict=True))

        return min((index for index in range(len(self.cast)) if index != member), key=distance)

    def line(self, speaker: int, start: float, seconds: float, mouth: int | None = None, **more: Any) -> Line:
        """A line that takes nearly so many seconds, from `start` in seconds of the shot."""
        return Line(speaker, int(start * FPS), (0.85 * seconds, seconds), self.seed(), mouth, **more)

    def monologue(self, frames: int, member: int, begin: float = 0.0, until: float | None = None) -> tuple[Line, ...]:
        """One person talks, with short breaks."""
        return self.conversation(frames, [member], begin, until, turns=(2.5, 6.0), breaks=(0.25, 0.8))

    def conversation(
        self,
        frames: int,
        members: list[int],
        begin: float = 0.0,
        until: float | None = None,
        turns: tuple[float, float] = (1.5, 4.0),
        breaks: tuple[float, float] = (0.12, 0.5),
    ) -> tuple[Line, ...]:
        """People talk one after another from `begin` to `until` in seconds of the shot, never two at once."""
        edge = MARGIN / FPS
        end = min(frames / FPS - edge, until or np.inf)
        time = max(begin, edge) + float(self.rng.uniform(0, 0.25))
        lines: list[Line] = []
        speaker = int(self.rng.integers(len(members)))
        while end - time > 1.0:
            seconds = float(self.rng.uniform(*turns))
            if end - time - seconds < 1.2:
                seconds = min(end - time, 1.5 * turns[1])
            lines.append(self.line(members[speaker], time, seconds, members[speaker]))
            time += seconds + float(self.rng.uniform(*breaks))
            speaker = (speaker + 1) % len(members)
        return tuple(lines)

    def change_room(self) -> None:
        """Now and then go on in another room."""
        if self.rng.random() < 0.35:
            self.room = int(self.rng.choice(self.rooms))


def moved(seat: Seat, **changes: Any) -> Seat:
    """A seat with some attributes changed."""
    return replace(seat, **changes)
