"""The kinds of shots: material for training, sometimes hard to recognise as such, and everything that is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from anytalker.miniature.episodes.draft import SHORTEST, TALK, Draft, moved
from anytalker.miniature.episodes.plan import FPS, MARGIN, Line, Move, Plan, Shot, View
from anytalker.miniature.voices.sentences import random_sentence


def plan_episode(seed: int, minutes: float, width: int = 640, height: int = 352) -> Plan:
    """Plan an episode; the same arguments give the same plan.

    Args:
        seed: which one; from 1,000,000 up it is never trained on.
        minutes: how long it is; frames are rounded to the nearest, at least one.
        width: of the picture in pixels.
        height: of the picture in pixels.
    """
    draft = Draft(seed, max(1, round(minutes * 60 * FPS)), width / height)
    spoilt, harmless = _Deck(draft, SPOILT), _Deck(draft, HARMLESS)
    good = 0
    while draft.left > 0:
        draft.change_room()
        before = len(draft.shots)
        if draft.left < TALK * FPS:
            nobody(draft)
        elif draft.rng.random() < (0.8 if 2 * good < draft.frames - draft.left else 0.25):
            harmless.next()(draft)
        else:
            spoilt.next()(draft)
        good += sum(shot.frames for shot in draft.shots[before:] if shot.good)
    return Plan(seed, width, height, draft.cast, tuple(draft.shots))


class _Deck:
    """Recipes in random order; each comes once before any comes again."""

    def __init__(self, draft: Draft, recipes: tuple[Callable[[Draft], None], ...]) -> None:
        self.draft, self.recipes = draft, recipes
        self.rest: list[Callable[[Draft], None]] = []

    def next(self) -> Callable[[Draft], None]:
        if not self.rest:
            self.rest = [self.recipes[index] for index in self.draft.rng.permutation(len(self.recipes))]
        return self.rest.pop()


def talk(
    draft: Draft,
    *trouble: str,
    people: int | None = None,
    seconds: tuple[float, float] = (4.0, 16.0),
    scales: tuple[float, float] = (0.2, 0.29),
    **more: Any,
) -> Shot:
    """One person talks, or several with each other, and the camera stands still."""
    people = people or int(draft.rng.integers(1, 3))
    frames, seats = draft.length(*seconds), draft.seats(people, scales)
    members = [seat.member for seat in seats]
    lines = draft.monologue(frames, members[0]) if people == 1 else draft.conversation(frames, members)
    more.setdefault("noise", float(draft.rng.uniform(38, 55)))
    more.setdefault("brightness", float(draft.rng.uniform(0.9, 1.05)))
    return draft.add(frames, seats, lines, *trouble, **more)


def single(draft: Draft) -> None:
    talk(draft, people=1)


def duo(draft: Draft) -> None:
    talk(draft, people=2, seconds=(5.0, 18.0))


def delay(draft: Draft) -> None:
    frames = int(draft.rng.integers(2, 9)) * int(draft.rng.choice([-1, 1]))
    talk(draft, "delay", delay=frames)


def flash(draft: Draft) -> None:
    shot = talk(draft, "flash")
    times = draft.rng.uniform(MARGIN, shot.frames - MARGIN, int(draft.rng.integers(1, 4)))
    draft.shots[-1] = replace(shot, flashes=tuple(sorted(int(time) for time in times)))


def bars(draft: Draft) -> None:
    talk(draft, "bars", bars=float(draft.rng.uniform(0.06, 0.12)), scales=(0.19, 0.23))


def subtitles(draft: Draft) -> None:
    words = random_sentence(draft.rng, "en")
    talk(draft, "subtitles", subtitle=(words, 0.93, 0.0), scales=(0.19, 0.24))


def faint_music(draft: Draft) -> None:
    talk(draft, "faint_music", music=float(draft.rng.uniform(28, 36)))


def jump_cut(draft: Draft) -> None:
    """Another moment of the same person in the same place, a little nearer or beside."""
    first = talk(draft, people=1, seconds=(4.0, 9.0))
    if draft.left < TALK * FPS:
        return
    seat = first.seats[0]
    near = float(draft.rng.uniform(1.07, 1.25)) if draft.rng.random() < 0.6 else 1.0
    aside = 0.0 if near > 1 else float(draft.rng.choice([-1, 1]) * draft.rng.uniform(0.08, 0.2))
    scale = min(0.3, seat.scale * near)
    view = replace(first.view, size=first.view.size / near)
    frames = draft.length(4.0, 9.0)
    lines = draft.monologue(frames, seat.member)
    seats = (moved(seat, scale=scale, x=seat.x + aside, y=max(seat.y, 1.6 * scale)),)
    draft.repeat(first, "jump_cut", frames=frames, lines=lines, seats=seats, view=view, seed=draft.seed())


def same_place(draft: Draft) -> None:
    """A hard cut to somebody who looks alike and sits at the same place."""
    first = talk(draft, people=1, seconds=(4.0, 9.0))
    if draft.left < TALK * FPS:
        return
    seat = moved(first.seats[0], member=draft.lookalike(first.seats[0].member))
    frames = draft.length(4.0, 9.0)
    lines = draft.monologue(frames, seat.member)
    draft.repeat(first, "same_place", frames=frames, lines=lines, seats=(seat,), seed=draft.seed())


def swapped_seats(draft: Draft) -> None:
    """Two people who sit the other way round in the next shot."""
    first = talk(draft, people=2, seconds=(5.0, 9.0))
    if draft.left < TALK * FPS:
        return
    one, other = first.seats
    seats = (moved(one, member=other.member), moved(other, member=one.member))
    frames = draft.length(5.0, 9.0)
    lines = draft.conversation(frames, [one.member, other.member])
    draft.repeat(first, "swapped_seats", frames=frames, lines=lines, seats=seats, seed=draft.seed())


def three_people(draft: Draft) -> None:
    talk(draft, "three_people", people=int(draft.rng.integers(3, 5)), seconds=(4.0, 10.0))


def silent(draft: Draft) -> None:
    frames = draft.length(2.5, 6.0)
    draft.add(frames, draft.seats(int(draft.rng.integers(1, 3))), (), "silent")


def small(draft: Draft) -> None:
    talk(draft, "small", scales=(0.03, 0.045), seconds=(4.0, 8.0))


def loud_music(draft: Draft) -> None:
    talk(draft, "music", music=float(draft.rng.uniform(-4, 8)), seconds=(4.0, 10.0))


def loud_noise(draft: Draft) -> None:
    talk(draft, "noise", noise=float(draft.rng.uniform(-3, 5)), seconds=(4.0, 10.0))


def nobody(draft: Draft) -> None:
    """A room or a landscape; sometimes somebody talks who is not there."""
    if draft.rng.random() < 0.3:
        _empty(draft, "nobody", "pan", move=_pan(draft))
    else:
        _empty(draft, "nobody")


def card(draft: Draft) -> None:
    """A card with words."""
    _empty(draft, "nobody", "card", card=random_sentence(draft.rng, "en"))


def _empty(draft: Draft, *names: str, **more: Any) -> None:
    frames = draft.length(2.0, 5.0)
    lines: tuple[Line, ...] = ()
    if frames > TALK * FPS and draft.rng.random() < 0.4:
        names = (*names, "offscreen")
        lines = (draft.line(int(draft.rng.integers(len(draft.cast))), 0.5, frames / FPS - 1),)
    draft.add(frames, (), lines, *names, **more)


def offscreen(draft: Draft) -> None:
    """Somebody asks who can't be seen, or tells a story while the people listen."""
    frames, seats = draft.length(4.5, 10.0), draft.seats(int(draft.rng.integers(1, 3)))
    voice, seconds = draft.absent(seats), frames / FPS
    lines: tuple[Line, ...]
    if draft.rng.random() < 0.5:
        lines = (draft.line(voice, 0.5, seconds - 1.0),)
    else:
        asked = float(draft.rng.uniform(0.3, 0.5)) * seconds
        answer = draft.conversation(frames, [seat.member for seat in seats], begin=asked + 0.2)
        lines = (draft.line(voice, 0.5, asked - 0.5), *answer)
    draft.add(frames, seats, lines, "offscreen")


def overlap(draft: Draft) -> None:
    """Two people talk at once for a while."""
    frames, seats = draft.length(5.0, 10.0), draft.seats(2)
    first, second = (int(member) for member in draft.rng.permutation([seat.member for seat in seats]))
    seconds = frames / FPS - 1
    lines = (
        draft.line(first, 0.5, 0.65 * seconds, first),
        draft.line(second, 0.5 + 0.35 * seconds, 0.6 * seconds, second),
    )
    draft.add(frames, seats, lines, "overlap")


def dubbing(draft: Draft) -> None:
    """Another person's voice says other words than the lips."""
    frames, seats = draft.length(4.0, 10.0), draft.seats(1)
    mouth, voice = seats[0].member, draft.absent(seats)
    lines = tuple(replace(line, speaker=voice, dubbed=True) for line in draft.monologue(frames, mouth))
    draft.add(frames, seats, lines, "dubbing")


def entrance(draft: Draft) -> None:
    _walk(draft, "entrance")


def leaving(draft: Draft) -> None:
    _walk(draft, "exit")


def _walk(draft: Draft, name: str) -> None:
    """One of two people comes or goes."""
    frames, seats = draft.length(5.0, 10.0), list(draft.seats(2))
    walker = int(draft.rng.integers(2))
    seat, seconds = seats[walker], frames / FPS
    outside = -2.4 * seat.scale if walker == 0 else draft.aspect + 2.4 * seat.scale
    middle, took = float(draft.rng.uniform(0.35, 0.65)) * seconds, float(draft.rng.uniform(0.9, 1.6))
    begin, end = int((middle - took / 2) * FPS), int((middle + took / 2) * FPS)
    members = [one.member for one in seats]
    stays = seats[1 - walker].member
    if name == "entrance":
        seats[walker] = moved(seat, path=((begin, outside), (end, seat.x)))
        lines = draft.conversation(frames, [stays], until=begin / FPS) + draft.conversation(
            frames, members, begin=end / FPS
        )
    else:
        seats[walker] = moved(seat, path=((begin, seat.x), (end, outside)))
        lines = draft.conversation(frames, members, until=begin / FPS) + draft.conversation(
            frames, [stays], begin=end / FPS
        )
    draft.add(frames, tuple(seats), lines, name)


def swap(draft: Draft) -> None:
    """Two people change places."""
    frames, (one, other) = draft.length(5.0, 10.0), draft.seats(2, (0.2, 0.25))
    middle, took = float(draft.rng.uniform(0.4, 0.6)) * frames, float(draft.rng.uniform(1.2, 2.0)) * FPS
    begin, end = int(middle - took / 2), int(middle + took / 2)
    seats = (moved(one, path=((begin, one.x), (end, other.x))), moved(other, path=((begin, other.x), (end, one.x))))
    lines = draft.conversation(frames, [one.member, other.member])
    draft.add(frames, seats, lines, "swap")


def occluded(draft: Draft) -> None:
    """Somebody holds something before the mouth."""
    talk(draft, "occluded", people=1, held=0, seconds=(4.0, 8.0))


def covered_mouth(draft: Draft) -> None:
    """Words are written over the mouth."""
    shot = talk(draft, "covered_mouth", people=1, seconds=(4.0, 8.0))
    seat = shot.seats[0]
    words = random_sentence(draft.rng, "en")
    draft.shots[-1] = replace(shot, subtitle=(words, seat.y + 0.75 * seat.scale, seat.scale))


def turned_away(draft: Draft) -> None:
    """Somebody shows their side."""
    shot = talk(draft, "turned_away", people=1, seconds=(4.0, 8.0))
    turn = float(draft.rng.choice([-1, 1]) * draft.rng.uniform(0.5, 0.7))
    draft.shots[-1] = replace(shot, seats=(moved(shot.seats[0], turn=turn),))


def duplicate(draft: Draft) -> None:
    """A good shot again, a little brighter or darker."""
    fitting = [
        index
        for index, shot in enumerate(draft.shots[:-1])
        if shot.good and draft.left - shot.frames >= SHORTEST and not shot.delay
    ]
    if not fitting:
        silent(draft)
        return
    index = int(draft.rng.choice(fitting[-8:]))
    original = draft.shots[index]
    names = [name for name in original.trouble if name in ("flash", "bars", "subtitles", "faint_music")]
    kept = {name: getattr(original, name) for name in ("flashes", "bars", "subtitle", "music")}
    brightness = original.brightness * float(draft.rng.uniform(0.96, 1.04))
    draft.repeat(original, "duplicate", *names, repeats=index, brightness=brightness, **kept)


def zoom(draft: Draft) -> None:
    wide, near = View(0.5, 0.5, 1.0), View(0.5, float(draft.rng.uniform(0.3, 0.6)), float(draft.rng.uniform(0.7, 0.85)))
    move = Move(wide, near) if draft.rng.random() < 0.6 else Move(near, wide)
    talk(draft, "zoom", move=move, scales=(0.17, 0.24), seconds=(4.0, 8.0))


def pan(draft: Draft) -> None:
    talk(draft, "pan", move=_pan(draft), scales=(0.17, 0.22), people=1, seconds=(4.0, 8.0))


def _pan(draft: Draft) -> Move:
    size = float(draft.rng.uniform(0.75, 0.85))
    left, right = View(0.0, 0.5, size), View(1.0, 0.5, size)
    return Move(left, right) if draft.rng.random() < 0.5 else Move(right, left)


def shake(draft: Draft) -> None:
    view = View(0.5, 0.5, 0.9)
    talk(draft, "shake", move=Move(view, view, float(draft.rng.uniform(0.15, 0.4))), seconds=(4.0, 8.0))


HARMLESS = (
    *(single,) * 5, *(duo,) * 5, *(delay,) * 2,
    flash, bars, subtitles, faint_music, jump_cut, same_place, swapped_seats,
)  # fmt: skip
"""What makes shots for training, in the proportion in which they come."""

SPOILT = (
    three_people, silent, small, loud_music, loud_noise, nobody, card, *(offscreen,) * 2, overlap, dubbing, entrance,
    leaving, swap, occluded, covered_mouth, turned_away, duplicate, zoom, pan, shake,
)  # fmt: skip
"""What makes shots that are not for training."""
