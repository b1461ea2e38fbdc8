"""Lengths: what can be used is cut into clips of about four seconds, in pauses where there are any (paper)."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from anytalker.curation.config import ClipsConfig, SpeechConfig
from anytalker.curation.footage import FPS
from anytalker.curation.piece import Dropped, Piece
from anytalker.curation.spans import Span, clipped, joined, total

_REACH = 0.8
"""Seconds that a cut may be moved to lie in a pause."""


class ClipsStage:
    """Cuts pieces to the lengths of clips."""

    name = "clips"

    def __init__(self, clips: ClipsConfig, speech: SpeechConfig) -> None:
        self._clips, self._speech = clips, speech

    def __call__(self, piece: Piece) -> Iterator[Piece | Dropped]:
        """Clips of the piece; those in which nobody speaks enough are dropped."""
        if piece.seconds < self._clips.min_seconds:
            yield piece.drop(self.name, f"shorter than {self._clips.min_seconds:g} s")
            return
        edges = [piece.start, *self._cuts(piece), piece.end]
        for start, end in itertools.pairwise(edges):
            clip = _with_own_speech(piece.part(start, end))
            speech = total(joined([span for face in clip.faces for span in face.speaking]))
            clip = clip.measured(**{"clips.speech": speech / clip.seconds})
            if speech < self._speech.min_share * clip.seconds:
                yield clip.drop(self.name, "hardly anybody speaks")
            else:
                yield clip

    def _cuts(self, piece: Piece) -> list[int]:
        """Frames at which a clip ends and the next one begins: lengths are drawn, and nothing is left over."""
        rng = np.random.default_rng([self._clips.seed, zlib.crc32(piece.footage.path.name.encode()), piece.start])
        speech = joined([span for face in piece.faces for span in face.speaking])
        least, cuts = round(self._clips.min_seconds * FPS), [piece.start]
        undivided = max(1.5 * self._clips.mean, 2 * self._clips.min_seconds)
        while (left := (piece.end - cuts[-1]) / FPS) > undivided:
            length = left / round(left / self._clips.mean) + rng.normal(0, self._clips.deviation)
            cut = round(_moved_to_pause(cuts[-1] / FPS + length, speech) * FPS)
            cuts.append(min(max(cut, cuts[-1] + least), piece.end - least))
        return cuts[1:]


def _moved_to_pause(moment: float, speech: Sequence[Span]) -> float:
    """The middle of the longest pause within reach, or the moment itself."""
    edges = [(-np.inf, -np.inf), *speech, (np.inf, np.inf)]
    pauses = [(a[1], b[0]) for a, b in itertools.pairwise(edges)]
    near = [(max(start, moment - _REACH), min(end, moment + _REACH)) for start, end in pauses]
    longest = max(near, key=lambda span: span[1] - span[0])
    return (longest[0] + longest[1]) / 2 if longest[1] > longest[0] else moment


def _with_own_speech(clip: Piece) -> Piece:
    """The clip with the speech of its own time alone."""
    start, end = clip.start / FPS, clip.end / FPS
    faces = [replace(face, speaking=tuple(clipped(face.speaking, start, end, 1 / FPS))) for face in clip.faces]
    return replace(clip, faces=tuple(faces))
