"""What a report shows of clips and footage: pictures, faces, and short previews of what was dropped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anytalker.curation.export import KeptClip
from anytalker.curation.footage import FPS, Footage
from anytalker.curation.piece import Source
from anytalker.errors import InputError
from anytalker.files import atomic_path
from anytalker.media.containers import open_media, video_streams
from anytalker.media.recordings import SAMPLE_RATE
from anytalker.media.video import write_video

HEIGHT = 240
"""Of previews and pictures, in pixels."""
_PREVIEW_SECONDS = 3.0
_FACE_SIDE = 96
_FACE_MARGIN = 0.25


class Pictures:
    """Writes pictures and previews to a folder; those that are there already are not made again.

    Args:
        folder: where to.
        prefix: of their addresses in the page.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        self._folder, self._prefix = folder, prefix
        self._used: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def poster(self, clip: KeptClip, dataset: Path) -> str | None:
        """Address of a clip's first frame; None if it can't be decoded."""
        return self._made(f"{_key(dataset / clip.video_path)}.jpg", lambda path: self._poster(clip, dataset, path))

    def face(self, clip: KeptClip, index: int, dataset: Path) -> str | None:
        """Address of the face of one of a clip's people; None if it can't be decoded."""
        name = f"{_key(dataset / clip.video_path, index)}.jpg"
        return self._made(name, lambda path: self._face(clip, index, dataset, path))

    def preview(self, source: Source) -> tuple[str, str] | None:
        """Addresses of a short video, with its sound, of a stretch of footage and of its picture; None as above."""
        key = _key(Path(source.path), source.start, source.end)
        video = self._made(f"{key}.mp4", lambda path: _cut(source, path))
        picture = video and self._made(f"{key}.jpg", lambda path: self._still(self._folder / f"{key}.mp4", path))
        return (video, picture) if video and picture else None

    def tidy(self) -> None:
        """Remove what no page asked for."""
        for path in self._folder.iterdir():
            if path.is_file() and path.name not in self._used:
                path.unlink()

    def _made(self, name: str, make: Callable[[Path], None]) -> str | None:
        path = self._folder / name
        if not path.is_file():
            with suppress(InputError, StopIteration, OSError, ValueError):
                make(path)
        if not path.is_file():
            return None
        self._used.add(name)
        return f"{self._prefix}/{name}"

    def _poster(self, clip: KeptClip, dataset: Path, path: Path) -> None:
        _write_jpeg(path, next(Footage(dataset / clip.video_path).frames(0, 1, HEIGHT)))

    def _still(self, video: Path, path: Path) -> None:
        _write_jpeg(path, next(Footage(video).frames(0, 1)))

    def _face(self, clip: KeptClip, index: int, dataset: Path, path: Path) -> None:
        frame = next(Footage(dataset / clip.video_path).frames(0, 1))
        left, top, width, height = clip.persons[index].face_boxes[0]
        side = max(width, height) * (1 + 2 * _FACE_MARGIN)
        x, y = left + width / 2 - side / 2, top + height / 2 - side / 2
        picture = Image.fromarray(frame).crop((round(x), round(y), round(x + side), round(y + side)))
        _write_jpeg(path, np.asarray(picture.resize((_FACE_SIDE, _FACE_SIDE), Image.Resampling.LANCZOS)))


def _key(path: Path, *rest: object) -> str:
    """Tells files, as they are now, and parts of them from others."""
    try:
        state = path.stat()
        seen = f"{state.st_size} {state.st_mtime_ns}"
    except OSError:
        seen = "missing"
    return hashlib.sha256(f"{path} {seen} {rest}".encode()).hexdigest()[:20]


def _write_jpeg(path: Path, pixels: np.ndarray) -> None:
    with atomic_path(path) as partial:
        Image.fromarray(pixels).save(partial, "JPEG", quality=82)


def _cut(source: Source, path: Path) -> None:
    """Write the beginning of a stretch of footage, small, with what is heard in it."""
    start = round(source.start * FPS)
    end = max(start + 1, round(min(source.end, source.start + _PREVIEW_SECONDS) * FPS))
    footage = Path(source.path)
    frames = [_even(frame) for frame in Footage(footage).frames(start, end, HEIGHT)]
    if not frames:
        raise InputError(f"{source.path} holds no frame there.")
    samples = heard(footage, start / FPS, (start + len(frames)) / FPS)
    about = {"comment": f"Preview of {footage.name}, {start / FPS:.2f} to {end / FPS:.2f} s."}
    write_video(path, iter(frames), FPS, samples, quality=26, metadata=about, synthetic=False)


def _even(frame: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2])


def heard(path: Path, start: float, end: float) -> np.ndarray | None:
    """The sound between two moments of footage, mono float32 (samples,) at 16 kHz; None if there is none.

    Only this part of the file is decoded.
    """
    import av

    samples = np.zeros(round((end - start) * SAMPLE_RATE), np.float32)
    filled = False
    try:
        with open_media(path) as container:
            if not container.streams.audio or not video_streams(container):
                return None
            stream, video = container.streams.audio[0], video_streams(container)[0]
            first = float((video.start_time or 0) * video.time_base)
            container.seek(int(max(0.0, start + first - 0.5) / stream.time_base), stream=stream)
            resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
            for time, part in _timed(container, stream, resampler):
                place = round((time - first - start) * SAMPLE_RATE)
                if place >= len(samples):
                    break
                inner = part[max(0, -place) :][: len(samples) - max(0, place)]
                samples[max(0, place) : max(0, place) + len(inner)] = inner
                filled |= len(inner) > 0
    except (av.FFmpegError, OSError, ValueError, InputError):
        pass  # what was heard before the damage is used
    return np.clip(samples, -1, 1) if filled else None


def _timed(container: Any, stream: Any, resampler: Any) -> Iterator[tuple[float, np.ndarray]]:
    """(seconds at which it begins, samples) of the parts that are decoded from here on."""
    time = None
    for frame in container.decode(stream):
        if time is None:
            time = float((frame.pts or 0) * frame.time_base)
        for part in resampler.resample(frame):
            values = np.nan_to_num(part.to_ndarray().ravel()).astype(np.float32)
            yield time, values
            time += len(values) / SAMPLE_RATE
