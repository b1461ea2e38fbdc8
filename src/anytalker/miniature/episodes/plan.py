"""What happens in an episode, shot by shot: pure data, nothing of it drawn or spoken yet."""

from __future__ import annotations

from dataclasses import dataclass

from anytalker.miniature.voices.speech import Voice
from anytalker.miniature.world.people import Person

FPS = 25
MARGIN = 12
"""Frames at both ends of a shot in which nobody speaks; a dissolve and a delay of the sound fit in there."""


@dataclass(frozen=True)
class Member:
    """Somebody of the cast, the same in all shots.

    Attributes:
        id: such as "p3".
        person: how they look.
        voice: how they speak.
        gender: of the voice: "female" or "male".
    """

    id: str
    person: Person
    voice: Voice
    gender: str


@dataclass(frozen=True)
class Seat:
    """Where somebody is in a shot, in units of the picture's height.

    Attributes:
        member: index in the cast.
        x: of the face's centre; with a path, at its end points.
        y: of the face's centre.
        scale: half the face's width.
        gaze: where the eyes rest.
        path: (frame, x) between which the person walks smoothly; empty: the person stays at `x`.
        turn: how far the head is turned all the time, in radians.
    """

    member: int
    x: float
    y: float
    scale: float
    gaze: tuple[float, float]
    path: tuple[tuple[int, float], ...] = ()
    turn: float = 0.0


@dataclass(frozen=True)
class Line:
    """Something that is said.

    Attributes:
        speaker: index in the cast of whose voice is heard.
        start: frame of the shot at which it begins.
        seconds: shortest and longest time it takes.
        seed: of the words.
        mouth: index in the cast of whose lips say it; None: somebody who is not visible.
        dubbed: the lips of `mouth` say something else, in the same time.
    """

    speaker: int
    start: int
    seconds: tuple[float, float]
    seed: int
    mouth: int | None
    dubbed: bool = False


@dataclass(frozen=True)
class View:
    """A part of a larger picture: its centre in 0..1 of what it can reach, its size as a share of the whole."""

    x: float = 0.5
    y: float = 0.5
    size: float = 1.0


@dataclass(frozen=True)
class Move:
    """How a camera moves over a picture that is larger than its view: evenly between two views, or trembling."""

    first: View
    last: View
    shake: float = 0.0


@dataclass(frozen=True)
class Shot:
    """One shot of an episode.

    Attributes:
        start: first frame in the episode; a dissolve has its middle there.
        frames: how many frames until the next shot.
        room: seed of the background and its light.
        view: which part of the room is behind the people.
        seats: who is there.
        lines: what is said.
        seed: of everything else: behaviour, noise, music.
        good: whether training wants it.
        trouble: what is special about it.
        move: of the camera; None: it stands still.
        dissolve: frames of the dissolve that begins the shot; 0: a hard cut.
        flashes: frames of the shot at which a camera flash goes off.
        delay: frames that the sound is late.
        music: how far music is below the voices, in dB; None: there is none.
        noise: how far noise is below the voices, in dB.
        subtitle: words, where they stand in 0..1 from the top, and how high the dark band behind them is; None: there
            are none.
        bars: height of each black bar, as a share of the picture's.
        held: index of the person who holds something before the mouth; None: nobody does.
        card: words of an inserted card; None: the room is seen.
        brightness: of the picture.
        repeats: number of the shot that this one is a copy of.
    """

    start: int
    frames: int
    room: int
    view: View
    seats: tuple[Seat, ...]
    lines: tuple[Line, ...]
    seed: int
    good: bool
    trouble: tuple[str, ...] = ()
    move: Move | None = None
    dissolve: int = 0
    flashes: tuple[int, ...] = ()
    delay: int = 0
    music: float | None = None
    noise: float = 45.0
    subtitle: tuple[str, float, float] | None = None
    bars: float = 0.0
    held: int | None = None
    card: str | None = None
    brightness: float = 1.0
    repeats: int | None = None

    @property
    def end(self) -> int:
        """First frame of the episode that no longer belongs to it."""
        return self.start + self.frames


@dataclass(frozen=True)
class Plan:
    """A whole episode before it is drawn; `width` and `height` in pixels."""

    seed: int
    width: int
    height: int
    cast: tuple[Member, ...]
    shots: tuple[Shot, ...]

    @property
    def frames(self) -> int:
        """How many frames the episode has."""
        return self.shots[-1].end
