"""Who speaks when, drawn: a lane a person with their recording, moved in time by pointer or keys (lanes.js)."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from anytalker.conventions import SAMPLE_RATE
from anytalker.queue.decoding import decode, voice_name
from anytalker.queue.video_queue import VideoQueue
from anytalker.studio import words
from anytalker.studio.rows import LATEST, Row

_PEAKS = 240
_KEPT = 200
_ROOM = 1.25
"""How much longer the lanes are than what is on them, so that there is somewhere to move to."""
_TICKS = 8


class Waveforms:
    """Peaks of recordings, each decoded once, in the process with bounds that decodes uploads.

    Args:
        queue: says what decoding may take.
    """

    def __init__(self, queue: VideoQueue) -> None:
        self._queue = queue
        self._known: dict[tuple[str, float], tuple[float, str]] = {}

    def __call__(self, picture: str, voices: Sequence[str]) -> list[tuple[float, str]]:
        """Seconds of each recording, and its outline as an SVG path, `_PEAKS` wide and 2 high.

        Args:
            picture: that belongs to them.
            voices: paths of the recordings.

        Raises:
            InputError: if one of them can't be decoded.
        """
        keys = [(voice, Path(voice).stat().st_mtime) for voice in voices]
        new = list(dict.fromkeys(key for key in keys if key not in self._known))
        known = {key: self._known[key] for key in keys if key not in new}
        if new:
            from anytalker.media.recordings import load_audio

            with self._queue.incoming() as folder:
                paths = [Path(voice) for voice, _ in new]
                decode(folder, Path(picture), paths, None, self._queue.settings.decoding)
                for number, key in enumerate(new, start=1):
                    samples = load_audio(folder / voice_name(number))
                    known[key] = len(samples) / SAMPLE_RATE, outline(samples)
            self._known |= known
        for key in list(self._known)[: max(0, len(self._known) - _KEPT)]:
            self._known.pop(key, None)  # another thread may have dropped it
        return [known[key] for key in keys]


def outline(samples: np.ndarray) -> str:
    """The outline of a recording (samples,) as an SVG path, as high as its loudest moment."""
    parts = np.array_split(np.abs(samples), _PEAKS) if len(samples) else []
    peaks = np.array([part.max() if len(part) else 0.0 for part in parts])
    peaks = np.maximum(0.02, peaks / max(1e-4, float(peaks.max(initial=0))))
    above = [f"{place} {1 - peak:.2f}" for place, peak in enumerate(peaks)]
    below = [f"{place} {1 + peak:.2f}" for place, peak in reversed(list(enumerate(peaks)))]
    return f"M{'L'.join(above + below)}Z" if above else ""


def lanes(rows: Sequence[Row], waveforms: Sequence[tuple[float, str] | None]) -> str:
    """The lanes of everybody as HTML; empty if nobody has a voice.

    Args:
        rows: what people's rows say.
        waveforms: seconds and outline of their recordings, see `Waveforms`; None: they listen.
    """
    ends = [row.starts + wave[0] for row, wave in zip(rows, waveforms, strict=True) if wave is not None]
    if not ends:
        return ""
    seconds = max(1.0, max(ends) * _ROOM)
    tracks = [
        _track(number, row, wave, seconds)
        for number, (row, wave) in enumerate(zip(rows, waveforms, strict=True), start=1)
    ]
    steps = (0.5, 1, 2, 5, 10, 30, 60, 120, 600)
    step = next((step for step in steps if seconds / step <= _TICKS), seconds)
    marks = np.arange(0, seconds, step)
    ruler = "".join(f"<span style='left:{100 * mark / seconds:.3f}%'>{mark:g}</span>" for mark in marks)
    return (
        f"<div class='lanes' role='group' aria-label='{escape(words.LANES, quote=True)}' data-seconds='{seconds:.3f}'>"
        f"<p>{escape(words.LANES)}</p>{''.join(tracks)}<div class='ruler' aria-hidden='true'>{ruler}</div></div>"
    )


def _track(number: int, row: Row, wave: tuple[float, str] | None, seconds: float) -> str:
    who = escape(row.name or words.PERSON.format(number=number), quote=True)
    if wave is None:
        return f"<div class='track'><span>{who}</span><div class='strip'>{escape(words.LISTENING)}</div></div>"
    length, path = wave
    label = escape(words.LANE_OF.format(who=row.name or words.PERSON.format(number=number)), quote=True)
    field = escape(words.STARTS.format(number=number), quote=True)
    place = f"left:{100 * row.starts / seconds:.3f}%;width:{100 * length / seconds:.3f}%"
    return (
        f"<div class='track'><span>{who}</span><div class='strip'><div class='clip' role='slider' tabindex='0' "
        f"data-row='{number}' data-field='{field}' aria-label='{label}' aria-valuemin='0' aria-valuemax='{LATEST:g}' "
        f"aria-valuenow='{row.starts:g}' style='{place}'><svg viewBox='0 0 {_PEAKS} 2' preserveAspectRatio='none' "
        f"aria-hidden='true'><path d='{path}'/></svg></div></div></div>"
    )
