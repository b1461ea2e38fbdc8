"""Draws the frames of a shot: the room once, and then only what moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np

from anytalker.miniature.episodes.overlays import (
    draw_bars,
    draw_card,
    draw_figure,
    draw_flash,
    draw_held,
    draw_subtitle,
)
from anytalker.miniature.episodes.places import WIDER, position, window
from anytalker.miniature.episodes.plan import FPS, Member, Seat, Shot, View
from anytalker.miniature.voices.speech import NEUTRAL
from anytalker.miniature.world.backgrounds import draw_background, draw_light, light_direction
from anytalker.miniature.world.behaviour import converse, talk
from anytalker.miniature.world.brush import Brush
from anytalker.miniature.world.drawing import draw_body, draw_head
from anytalker.miniature.world.people import FaceState

_SUPERSAMPLING = 2
_ROOM = 1.5
"""How much larger a room is than the part of it that is seen at most."""

Rectangle = tuple[int, int, int, int]


def draw_frames(
    shot: Shot,
    cast: Sequence[Member],
    visemes: dict[int, np.ndarray],
    size: tuple[int, int],
    lead: int = 0,
    tail: int = 0,
) -> Iterator[np.ndarray]:
    """Draw a shot frame by frame.

    Args:
        shot: the plan.
        cast: of the episode.
        visemes: mouth shapes (frames, 4) of everyone whose lips move, by index in the cast.
        size: width and height of the frames in pixels.
        lead: frames to draw before the shot begins, for a dissolve.
        tail: frames to draw after its end.

    Yields:
        uint8 RGB frames (height, width, 3), `lead` + `shot.frames` + `tail` of them.
    """
    if shot.card is not None:
        still = draw_card(shot.card, size, shot.seed)
        for _ in range(lead + shot.frames + tail):
            yield still.copy()
        return
    wider = WIDER if shot.move else 1.0
    stage = Stage(shot, cast, (round(size[0] * wider), round(size[1] * wider)))
    states = behaviour(shot, visemes, lead, tail)
    for index in range(lead + shot.frames + tail):
        frame = index - lead
        picture = stage.draw(frame, [track[index] for track in states])
        picture = _seen(shot, picture, frame, size) if shot.move else picture.copy()
        if shot.subtitle is not None:
            draw_subtitle(picture, *shot.subtitle)
        draw_flash(picture, frame, shot.flashes)
        draw_bars(picture, shot.bars)
        yield picture


def _seen(shot: Shot, picture: np.ndarray, frame: int, size: tuple[int, int]) -> np.ndarray:
    """The part of a larger picture that the moving camera sees."""
    assert shot.move is not None
    left, top, part = window(shot.move, frame, shot.frames, shot.seed)
    step = part * picture.shape[0] / size[1]
    place = np.array([[step, 0, left * picture.shape[1]], [0, step, top * picture.shape[0]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(picture, place, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def behaviour(shot: Shot, visemes: dict[int, np.ndarray], lead: int, tail: int) -> list[list[FaceState]]:
    """What every face does, one state a frame."""
    if not shot.seats:
        return []
    rng = np.random.default_rng([shot.seed, 3])
    rest = np.asarray(NEUTRAL, dtype=np.float32)
    tracks = []
    for seat in shot.seats:
        track = visemes.get(seat.member, np.tile(rest, (shot.frames, 1)))
        tracks.append(np.concatenate([np.tile(rest, (lead, 1)), track, np.tile(rest, (tail, 1))]))
    if len(tracks) == 1:
        states = [talk(tracks[0], FPS, rng, shot.seats[0].gaze)]
    else:
        states = converse(tracks, FPS, rng, [seat.gaze for seat in shot.seats])
    return [
        [replace(state, turn=(state.turn[0] + seat.turn, state.turn[1])) for state in track] if seat.turn else track
        for seat, track in zip(shot.seats, states, strict=True)
    ]


@lru_cache(maxsize=8)
def _room(seed: int, width: int, height: int) -> np.ndarray:
    return draw_background(np.random.default_rng(seed), round(width * _ROOM), round(height * _ROOM))


def _background(seed: int, view: View, size: tuple[int, int]) -> np.ndarray:
    """A view of a room, as large as is drawn."""
    room = _room(seed, *size)
    height, width = room.shape[:2]
    left, top = view.x * (1 - view.size) * width, view.y * (1 - view.size) * height
    scale = view.size * _ROOM / _SUPERSAMPLING
    place = np.array([[scale, 0, left], [0, scale, top]])
    large = (size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(room, place, large, flags=flags, borderMode=cv2.BORDER_REPLICATE)


class Stage:
    """The people of a shot in their room; keeps the picture and draws anew only where somebody moves."""

    def __init__(self, shot: Shot, cast: Sequence[Member], size: tuple[int, int]) -> None:
        self.shot, self.size = shot, size
        self.people = [cast[seat.member].person for seat in shot.seats]
        self.unit = size[1] * _SUPERSAMPLING
        self.walking = any(seat.path for seat in shot.seats)
        self.still = _background(shot.room, shot.view, size)
        self.direction = light_direction(np.random.default_rng(shot.room + 2))
        self.light = draw_light(np.random.default_rng(shot.room + 1), *size) * np.float32(shot.brightness)
        if not self.walking:
            for seat in shot.seats:
                self._body(self.still, seat, 0)
        if shot.held is not None:
            draw_held(self._brush(self.still, shot.seats[shot.held], 0), self.people[shot.held], shot.seed)
        self.canvas = self.still.copy()
        self.picture = np.empty((size[1], size[0], 3), np.uint8)
        self.states: list[FaceState | None] = [None] * len(shot.seats)
        self.drawn = [self._rectangle(seat, 0) for seat in shot.seats]
        self._develop((0, 0, *size))

    def draw(self, frame: int, states: Sequence[FaceState]) -> np.ndarray:
        """The picture (height, width, 3) at a frame of the shot; it is overwritten by the next one."""
        now = [self._rectangle(seat, frame) for seat in self.shot.seats]
        moving = self._moving(states)
        areas = {rectangle for index in moving for rectangle in (self.drawn[index], now[index])}
        areas = {rectangle for rectangle in areas if rectangle[0] < rectangle[2]}
        for rectangle in areas:
            area = _slices(rectangle, _SUPERSAMPLING)
            self.canvas[area] = self.still[area]
        for index in moving:
            brush = self._brush(self.canvas, self.shot.seats[index], frame)
            if self.walking:
                self._body(self.canvas, self.shot.seats[index], frame)
            draw_head(brush, self.people[index], states[index], self.direction)
            if self.shot.held == index:
                draw_held(brush, self.people[index], self.shot.seed)
        for rectangle in areas:
            self._develop(rectangle)
        self.drawn, self.states = now, list(states)
        return self.picture

    def _moving(self, states: Sequence[FaceState]) -> list[int]:
        """Who must be drawn anew: whoever changes, and whoever is drawn in the same part of the picture."""
        everyone = range(len(states))
        if self.walking:
            return list(everyone)
        moving = {index for index in everyone if states[index] != self.states[index]}
        beside = moving
        while beside:
            beside = {
                index
                for index in set(everyone) - moving
                if any(_overlap(self.drawn[index], self.drawn[other]) for other in beside)
            }
            moving = moving | beside
        return sorted(moving)

    def _brush(self, canvas: np.ndarray, seat: Seat, frame: int) -> Brush:
        center = (position(seat, frame) * self.unit, seat.y * self.unit)
        return Brush(canvas, center, seat.scale * self.unit)

    def _body(self, canvas: np.ndarray, seat: Seat, frame: int) -> None:
        brush = self._brush(canvas, seat, frame)
        person = self.people[self.shot.seats.index(seat)]
        if (1 - seat.y) / seat.scale > 3.5:
            draw_figure(brush, person)
        draw_body(brush, person)

    def _rectangle(self, seat: Seat, frame: int) -> Rectangle:
        """Left, top, right and bottom of what can change of somebody, in pixels of the picture."""
        width, height = self.size
        x, y, scale = (value * height for value in (position(seat, frame), seat.y, seat.scale))
        reach, low = (2.3 * scale, height) if self.walking else (1.8 * scale, y + 1.7 * scale)
        left, top, right, bottom = x - reach, y - 2.1 * scale, x + reach, low
        return (
            int(np.clip(left, 0, width)),
            int(np.clip(top, 0, height)),
            int(np.clip(np.ceil(right), 0, width)),
            int(np.clip(np.ceil(bottom), 0, height)),
        )

    def _develop(self, rectangle: Rectangle) -> None:
        """Bring a part of the canvas into the picture, with the light that falls on it."""
        left, top, right, bottom = rectangle
        area, large = _slices(rectangle, 1), _slices(rectangle, _SUPERSAMPLING)
        small = cv2.resize(self.canvas[large], (right - left, bottom - top), interpolation=cv2.INTER_AREA)
        self.picture[area] = cv2.multiply(small, self.light[area], dtype=cv2.CV_8U)


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _slices(rectangle: Rectangle, factor: int) -> tuple[slice, slice]:
    left, top, right, bottom = (value * factor for value in rectangle)
    return slice(top, bottom), slice(left, right)
