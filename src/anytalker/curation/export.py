"""Writing clips: the video, one file of sound a voice, and what is known of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from pydantic import BaseModel

from anytalker.curation.footage import FPS
from anytalker.curation.piece import Face, Piece, Source, rounded
from anytalker.media.recordings import SAMPLE_RATE, frame_loudness, write_wave
from anytalker.media.video import write_video

CLIPS = "clips"
_FADE = 0.02
"""Seconds in which a voice is faded in and out where other people's speech was."""
_AIR = 0.15
"""Seconds around speech that belong to it."""


class KeptPerson(BaseModel):
    """One person of a kept clip; boxes (x, y, width, height) in pixels of the clip, times in its own seconds."""

    audio_path: str | None
    face_boxes: list[tuple[float, float, float, float]]
    sync_confidence: float | None
    voice: int | None
    speaking: list[tuple[float, float]]


class KeptClip(BaseModel):
    """A clip of the dataset, its paths relative to the dataset's folder.

    `picture_hash` and `loudness` (of each frame) tell whether another clip is the same; `caption` is a model's, if one
    was asked.
    """

    name: str
    video_path: str
    source: Source
    width: int
    height: int
    n_frames: int
    persons: list[KeptPerson]
    picture_hash: str
    loudness: list[float]
    numbers: dict[str, float]
    caption: str | None = None


def clip_name(piece: Piece, prefix: str) -> str:
    """A name that no other clip has: the file's and the frames'."""
    return f"{prefix}-{piece.start:07d}-{piece.end:07d}"


def export_clip(
    piece: Piece,
    prefix: str,
    dataset: Path,
    max_height: int | None = None,
    caption: Callable[[np.ndarray], str] | None = None,
) -> KeptClip:
    """Write a clip's video and voices below `dataset`.

    Args:
        piece: the clip.
        prefix: of its name, one a file of footage.
        dataset: the folder.
        max_height: larger pictures are scaled down to it; None: as filmed.
        caption: says what is seen in the clip's middle frame, uint8 RGB (H, W, 3).
    """
    name = clip_name(piece, prefix)
    folder = dataset / CLIPS / prefix
    folder.mkdir(parents=True, exist_ok=True)
    pictures = piece.frames()
    first = next(pictures)
    view = _View(piece, first, max_height)
    frames = [view.cut(frame) for frame in itertools.chain([first], pictures)]
    about = {"comment": f"Cut from {piece.footage.path.name}, {piece.source.start:.2f} to {piece.source.end:.2f} s."}
    mixed = piece.heard()
    mixed = np.pad(mixed, (0, max(0, round(len(frames) / FPS * SAMPLE_RATE) - len(mixed))))  # it may end earlier
    write_video(
        folder / f"{name}.mp4", iter(frames), FPS, mixed, quality=16, metadata=about, preset="veryfast", synthetic=False
    )
    persons = []
    for index, face in enumerate(piece.faces):
        audio = None
        if face.speaking:
            audio = f"{CLIPS}/{prefix}/{name}-{index}.wav"
            write_wave(dataset / audio, own_voice(piece, face, mixed))
        persons.append(_person(piece, face, view, audio))
    return KeptClip(
        name=name,
        video_path=f"{CLIPS}/{prefix}/{name}.mp4",
        source=piece.source,
        width=view.size[0],
        height=view.size[1],
        n_frames=len(frames),
        persons=persons,
        picture_hash=picture_hash(frames[len(frames) // 2]),
        loudness=[round(float(value), 4) for value in frame_loudness(mixed, len(frames), FPS)],
        numbers=rounded(piece.numbers),
        caption=caption(frames[len(frames) // 2]) if caption else None,
    )


def _person(piece: Piece, face: Face, view: _View, audio: str | None) -> KeptPerson:
    start = piece.start / FPS
    return KeptPerson(
        audio_path=audio,
        face_boxes=[view.box(box) for box in face.boxes],
        sync_confidence=None if face.sync_confidence is None else round(face.sync_confidence, 4),
        voice=face.voice,
        speaking=[(round(a - start, 3), round(b - start, 3)) for a, b in face.speaking],
    )


class _View:
    """The part of the picture that a clip shows, and its size in pixels, even on both sides."""

    def __init__(self, piece: Piece, first: np.ndarray, max_height: int | None) -> None:
        self._left, self._top, right, bottom = piece.crop or (0, 0, first.shape[1], first.shape[0])
        self._wide, self._high = right - self._left, bottom - self._top
        self._scale = min(1.0, max_height / self._high) if max_height else 1.0
        self.size = (_even(self._wide * self._scale), _even(self._high * self._scale))

    def cut(self, frame: np.ndarray) -> np.ndarray:
        view = frame[self._top : self._top + self._high, self._left : self._left + self._wide]
        if self._scale < 1:
            return cv2.resize(view, self.size, interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(view[: self.size[1], : self.size[0]])

    def box(self, corners: np.ndarray) -> tuple[float, float, float, float]:
        limits = np.array([*self.size, *self.size], dtype=float)
        moved = (np.asarray(corners, dtype=float) - [self._left, self._top] * 2) * self._scale
        left, top, right, bottom = (round(float(value), 1) for value in np.clip(moved, 0, limits))
        return (left, top, round(right - left, 1), round(bottom - top, 1))


def _even(value: float) -> int:
    return int(value) // 2 * 2


def own_voice(piece: Piece, face: Face, mixed: np.ndarray) -> np.ndarray:
    """The sound of a piece with silence where this person doesn't speak, float32 (samples,).

    Speech keeps the quiet moments around it, up to where somebody else begins.
    """
    start = piece.start / FPS
    others = [span for other in piece.faces if other is not face for span in other.speaking]
    gain = np.zeros(len(mixed), np.float32)
    for begin, end in face.speaking:
        first = max([begin - _AIR, *(b for _, b in others if b <= begin + 1e-6)])
        last = min([end + _AIR, *(a for a, _ in others if a >= end - 1e-6)])
        gain[max(0, round((first - start) * SAMPLE_RATE)) : max(0, round((last - start) * SAMPLE_RATE))] = 1
    width = round(_FADE * SAMPLE_RATE)
    smooth = np.convolve(np.pad(gain, width, mode="edge"), np.ones(width, np.float32) / width, mode="same")
    return mixed * smooth[width:-width]


def picture_hash(frame: np.ndarray) -> str:
    """64 bits, as 16 hexadecimal digits, of which few differ between alike pictures: signs of differences (dHash)."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA).astype(int)
    bits = (small[:, 1:] > small[:, :-1]).ravel()
    return np.packbits(bits).tobytes().hex()


def bits_between(first: str, second: str) -> int:
    """Bits that differ between two hashes of the same length."""
    return (int(first, 16) ^ int(second, 16)).bit_count()
