"""Lengths: what can be used is cut into clips of about four seconds, in pauses where there are any (paper)."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from anytalker.curation.config import ClipsConfig, SpeechConfig
from anytalker.curation.footage import FPS
from anytalker.curation.piece import Dropped, Face, Piece, Span

_REACH = 0.6
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
            speech = _length(_union([span for face in clip.faces for span in face.speaking]))
            clip = clip.measured(**{"clips.speech": speech / clip.seconds})
            if speech < self._speech.min_share * clip.seconds:
                yield clip.drop(self.name, "hardly anybody speaks")
            else:
                yield clip

    def _cuts(self, piece: Piece) -> list[int]:
        """Frames at which a clip ends and the next one begins, so that all lengths are drawn and nothing is left."""
        rng = np.random.default_rng([self._clips.seed, zlib.crc32(piece.footage.path.name.encode()), piece.start])
        lengths: list[float] = []
        while sum(lengths) < piece.seconds - self._clips.min_seconds:
            drawn = rng.normal(self._clips.mean, self._clips.deviation)
            lengths.append(max(float(drawn), self._clips.min_seconds))
        scale = piece.seconds / sum(lengths) if lengths else 1.0
        targets = piece.start / FPS + np.cumsum(lengths)[:-1] * scale
        speech = _union([span for face in piece.faces for span in face.speaking])
        cuts: list[int] = []
        for target in targets:
            cut = round(_moved_to_pause(float(target), speech) * FPS)
            least = (cuts[-1] if cuts else piece.start) + round(self._clips.min_seconds * FPS)
            if least <= cut <= piece.end - round(self._clips.min_seconds * FPS):
                cuts.append(cut)
        return cuts


def _moved_to_pause(moment: float, speech: Sequence[Span]) -> float:
    """The middle of the longest pause within reach, or the moment itself."""
    edges = [(-np.inf, -np.inf), *speech, (np.inf, np.inf)]
    pauses = [(a[1], b[0]) for a, b in itertools.pairwise(edges)]
    near = [(max(start, moment - _REACH), min(end, moment + _REACH)) for start, end in pauses]
    longest = max(near, key=lambda span: span[1] - span[0])
    return (longest[0] + longest[1]) / 2 if longest[1] > longest[0] else moment


def _with_own_speech(clip: Piece) -> Piece:
    start, end = clip.start / FPS, clip.end / FPS
    faces: list[Face] = []
    for face in clip.faces:
        inner = [(max(a, start), min(b, end)) for a, b in face.speaking]
        faces.append(replace(face, speaking=tuple((a, b) for a, b in inner if b - a > 1 / FPS)))
    return replace(clip, faces=tuple(faces))


def _union(spans: Sequence[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _length(spans: Sequence[Span]) -> float:
    return sum(end - start for start, end in spans)
