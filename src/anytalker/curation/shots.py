"""Where shots begin and end.

Cheap signals find clear cuts, also those from one moment of a scene to a later one, and every stretch that may hold
anything else; TransNetV2 judges those stretches alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from anytalker.curation.transnet import HEIGHT, MIDDLE, WIDTH, WINDOW, Network, load_network

_CONTEXT = (WINDOW - MIDDLE) // 2
_STEP = 10
"""Frames from one window to the next; what the network says of the middle of one serves the next ones too."""
_ROWS, _COLUMNS = 9, 16
"""Fields of a picture whose changes are looked at one by one."""
_AROUND = 0.24
"""Seconds before and after a change that it is compared with; a flash is over by then."""
_SLOW = 0.32
"""Seconds to either side between which a dissolve shows."""
_NOISE = 0.3
"""Change from frame to frame, of 255, that the coding of a video makes."""
_SUDDEN, _UNCLEAR = 3.0, 2.0
"""How many times larger than those around it a change is that cuts, and one that the network judges."""
_LEAST, _LARGE, _WHOLE = 1.5, 12.0, 25.0
"""Changes, of 255: the smallest that cuts, one that cuts if it is almost as sudden, one of the whole picture."""
_SOFT, _BLENDED = 8.0, 0.25
"""Slow change, of 255, that may be a dissolve, and the share of it by which the frame between may miss the mean."""
_LIKELY, _POSSIBLE = 0.5, 0.2
"""Probability from which the network's word is taken, and down to which a transition it has found goes on."""
_LONGEST = 250
"""Frames after which a transition is taken to be over."""


@dataclass(frozen=True)
class Shot:
    """One shot of a video.

    Attributes:
        start: its first frame.
        end: the frame after its last.
        transition: how it begins: as the video's "start", by a "cut", or by a "dissolve", which stands for everything
            that takes several frames. Those frames belong to neither shot.
        cut: frame of the transition: `start` itself, or the middle of the dissolve.
    """

    start: int
    end: int
    transition: Literal["start", "cut", "dissolve"]
    cut: int


def find_shots(frames: Iterable[np.ndarray], fps: float = 25.0, network: Network | None = None) -> Iterator[Shot]:
    """Divide a video into shots, in memory that doesn't grow with its length.

    Args:
        frames: uint8 RGB (height, width, 3) of any one size.
        fps: frames a second.
        network: judges what is unclear; by default TransNetV2 on the CPU, loaded when it is first needed.

    Yields:
        Shots in order, some 100 frames after they end; none if there are no frames. Flashes do not end them.

    Raises:
        ModuleNotFoundError: if the extra `curate` is not installed.
    """
    begun, cut = 0, 0
    transition: Literal["start", "cut", "dissolve"] = "start"
    for start, end in _transitions(frames, fps, network):
        if start > begun:
            yield Shot(begun, start, transition, cut)
            transition, cut = ("cut", start) if start == end else ("dissolve", (start + end) // 2)
        begun = end


def _transitions(frames: Iterable[np.ndarray], fps: float, network: Network | None) -> Iterator[tuple[int, int]]:
    """First frame of each transition and the one after its last, the same for a cut; the last is the video's end."""
    around = min(_CONTEXT // 2, max(3, round(_AROUND * fps)))
    slow = min(_CONTEXT // 2 - 1, max(4, round(_SLOW * fps)))
    latest, total = _Latest(around), 0
    word = np.zeros((2, 0), np.float32)
    for window in _windows(frames):
        cuts, unclear = _clear(window, around, slow)
        if unclear.any() and not word.size:
            network = network or load_network()
            word = np.stack(network(window.small))[:, _CONTEXT : _CONTEXT + MIDDLE]
        one, many = word[:, : window.count] if word.size else np.zeros((2, window.count), np.float32)
        latest.add(window, cuts, one, many)
        word = word[:, window.count :]
        total += window.count
        yield from latest.settled()
    yield from latest.settled(last=True)
    if total:
        yield total, total


@dataclass(frozen=True)
class _Window:
    """Frames of a video with what is around them; `count` frames after the context are the window's own.

    Attributes:
        small: uint8 RGB (WINDOW, HEIGHT, WIDTH, 3); beyond the ends of the video its first and last frame.
        changes: float32 (WINDOW, rows, columns), how far each field is from the frame before, of 255.
        count: at most _STEP.
    """

    small: np.ndarray
    changes: np.ndarray
    count: int


def _windows(frames: Iterable[np.ndarray]) -> Iterator[_Window]:
    still = np.zeros((_ROWS, _COLUMNS), np.float32)
    small: list[np.ndarray] = []
    changes: list[np.ndarray] = []
    before: np.ndarray | None = None
    for frame in frames:
        reduced = cv2.resize(frame, (3 * WIDTH, 3 * HEIGHT), interpolation=cv2.INTER_AREA)
        small.append(cv2.resize(reduced, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))
        if before is None:
            small, changes = small * (_CONTEXT + 1), [still] * (_CONTEXT + 1)
        else:
            fields = cv2.resize(cv2.absdiff(before, reduced), (_COLUMNS, _ROWS), interpolation=cv2.INTER_AREA)
            changes.append(fields.mean(axis=2, dtype=np.float32))
        before = reduced
        if len(small) == WINDOW:
            yield _Window(np.stack(small), np.stack(changes), _STEP)
            del small[:_STEP], changes[:_STEP]
    while len(small) > _CONTEXT:
        count = min(_STEP, len(small) - _CONTEXT)
        missing = WINDOW - len(small)
        yield _Window(np.stack(small + small[-1:] * missing), np.stack(changes + [still] * missing), count)
        del small[:_STEP], changes[:_STEP]


def _clear(window: _Window, around: int, slow: int) -> tuple[np.ndarray, np.ndarray]:
    """Where a shot begins without doubt, and what the network is to judge: boolean (count,) each."""
    reach = around + slow + 1
    part = slice(_CONTEXT - reach, _CONTEXT + window.count + reach)
    small, changes = window.small[part].astype(np.float32), window.changes[part]
    change = changes.mean(axis=(1, 2))
    sudden = change / (_second(change, around) + _NOISE)
    cuts, unclear = np.zeros(len(change), bool), np.zeros(len(change), bool)
    for frame in np.flatnonzero((sudden > _UNCLEAR) & (change > _LEAST)).tolist():
        if not around < frame < len(change) - around:
            continue
        cuts[frame] = (
            sudden[frame] > (_SUDDEN if change[frame] < _LARGE else 0.8 * _SUDDEN)
            and (change[frame] > _WHOLE or _is_spread(changes, frame, around))
            and not _is_flash(small, frame, around)
            and not _is_lighting(small[frame - 1], small[frame])
        )
        unclear[frame] = not cuts[frame] and change[frame] > 2 * _LEAST
    ends = small[2 * slow :] - small[: -2 * slow]
    moved = np.abs(ends).mean(axis=(1, 2, 3))
    apart = np.abs(small[slow:-slow] - small[: -2 * slow] - ends / 2).mean(axis=(1, 2, 3))
    unclear[slow:-slow] |= (moved > _SOFT) & (apart < _BLENDED * moved)
    unclear = cv2.dilate(unclear.astype(np.uint8), np.ones((2 * around + 1, 1), np.uint8))[:, 0] > 0
    return cuts[reach:-reach], unclear[reach:-reach]


def _second(values: np.ndarray, around: int) -> np.ndarray:
    """The second largest value around each one, itself left out."""
    padded = np.pad(values, [(around, around)] + [(0, 0)] * (values.ndim - 1))
    shifted = np.stack([padded[lag : lag + len(values)] for lag in range(2 * around + 1) if lag != around])
    return np.partition(shifted, -2, axis=0)[-2]


def _is_flash(small: np.ndarray, frame: int, around: int) -> bool:
    """Whether the picture is soon as it was before, or was so shortly before."""
    change = np.abs(small[frame] - small[frame - 1]).mean()
    later = np.abs(small[frame + 1 : frame + around + 1] - small[frame - 1]).mean(axis=(1, 2, 3)).min()
    earlier = np.abs(small[frame - around - 1 : frame - 1] - small[frame]).mean(axis=(1, 2, 3)).min()
    return bool(min(later, earlier) < 0.5 * change)


def _is_lighting(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether brightness and contrast explain most of a change."""
    old, new = before - before.mean(axis=(0, 1)), after - after.mean(axis=(0, 1))
    gain = (old * new).mean(axis=(0, 1)) / np.maximum((old * old).mean(axis=(0, 1)), 1.0)
    return bool(np.abs(new - gain * old).mean() < 0.3 * np.abs(after - before).mean())


def _is_spread(changes: np.ndarray, frame: int, around: int) -> bool:
    """Whether a sudden change is no subtitle or caption: it spans almost half of the picture's height."""
    near = changes[frame - around : frame + around + 1]
    jumped = changes[frame] > 2 * _second(near, around)[around] + 2
    return int(jumped.any(axis=1).sum()) >= 4


class _Latest:
    """The frames whose transitions are not settled yet, and what is known of them."""

    def __init__(self, around: int) -> None:
        self._around = around
        self._first, self._kept = 0, 0
        self._small = np.zeros((0, HEIGHT, WIDTH, 3), np.uint8)
        self._change = np.zeros(0, np.float32)
        self._cuts = np.zeros(0, bool)
        self._one = np.zeros(0, np.float32)
        self._many = np.zeros(0, np.float32)

    def add(self, window: _Window, cuts: np.ndarray, one: np.ndarray, many: np.ndarray) -> None:
        own = slice(_CONTEXT, _CONTEXT + window.count)
        self._small = np.concatenate([self._small, window.small[own]])
        self._change = np.concatenate([self._change, window.changes[own].mean(axis=(1, 2))])
        self._cuts = np.concatenate([self._cuts, cuts])
        self._one = np.concatenate([self._one, one])
        self._many = np.concatenate([self._many, many])

    def settled(self, last: bool = False) -> Iterator[tuple[int, int]]:
        """Transitions that later frames no longer change; all of them at the `last` call. They are forgotten."""
        length, reach = len(self._change), 2 * self._around
        done = length if last else max(self._kept, length - reach)
        for start, end in self._stretches():
            if end + reach > length and start + _LONGEST > length and not last:
                done = min(done, start)
                break
            done = max(done, end)
            yield from self._transition(start, end)
        forgotten = max(0, done - reach)
        self._first, self._kept = self._first + forgotten, done - forgotten
        for name in ("_small", "_change", "_cuts", "_one", "_many"):
            setattr(self, name, getattr(self, name)[forgotten:])

    def _stretches(self) -> Iterator[tuple[int, int]]:
        """Where there may be a transition: from the last frame before it to the one after its last, which is whole."""
        marked = (self._many > _POSSIBLE) | (self._one > _LIKELY)
        marked[:-1] |= self._cuts[1:]
        marked[: self._kept] = False
        edges = np.flatnonzero(np.diff(np.concatenate([[0], marked.astype(np.int8), [0]])))
        yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)

    def _transition(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The transition of a stretch, if there is one."""
        sure = np.flatnonzero(self._cuts[start + 1 : end + 1]) + start + 1
        likely = max(self._many[start:end].max(), self._one[start:end].max()) > _LIKELY
        if end - start <= 3 + 2 * len(sure):
            nearby = sure if len(sure) else np.arange(start, min(end + 2, len(self._change)))
            if len(sure) or (likely and not self._flashes(start, end)):
                cut = self._first + int(nearby[self._change[nearby].argmax()])
                yield cut, cut
        elif len(sure) or (likely and not self._flashes(start, end)):
            yield self._first + start, self._first + end

    def _flashes(self, start: int, end: int) -> bool:
        """Whether the picture after a short stretch is what it was before, with something else between."""
        before = self._small[max(0, start - self._around) : start + 1].astype(np.float32)
        inside = self._small[start : end + 1].astype(np.float32)
        after = self._small[end : end + self._around].astype(np.float32)
        if end - start > 2 * self._around or not len(after):
            return False
        apart = max(np.abs(inside - picture).mean(axis=(1, 2, 3)).max() for picture in before)
        return bool(min(np.abs(after - picture).mean(axis=(1, 2, 3)).min() for picture in before) < 0.4 * apart)
