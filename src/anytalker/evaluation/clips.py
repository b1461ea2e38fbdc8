"""The clips of a folder to be evaluated: each video with what is known of it: voices, spans, tracks, the real video."""

from __future__ import annotations

import glob
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anytalker.conventions import Box
from anytalker.errors import InputError
from anytalker.evaluation.eye_motion.tracks import find_tracks
from anytalker.media.containers import VIDEO_SUFFIXES, open_media
from anytalker.media.shown_frames import ShownFrames

SPANS_FILE = "speaker_duration.json"
Spans = list[tuple[float, float]]


@dataclass(frozen=True)
class ClipSource:
    """A video to be evaluated; whatever is not known is None.

    Attributes:
        video: the file; its stem is the clip's name.
        speaking: for each person the spans in seconds in which it speaks.
        boxes: for each person a face box (x, y, width, height) in pixels that holds for the whole video.
        voices: for each person the recording of its voice alone, None for one without.
        tracks: file of face tracks.
        real: the real video it is held against.
        real_tracks: its tracks.
    """

    video: Path
    speaking: list[Spans] | None = None
    boxes: list[Box] | None = None
    voices: list[Path | None] | None = None
    tracks: Path | None = None
    real: Path | None = None
    real_tracks: Path | None = None

    @property
    def name(self) -> str:
        """Name of the clip."""
        return self.video.stem


@dataclass(frozen=True)
class Folders:
    """Where the parts of clips lie besides the videos.

    Attributes:
        tracks: folder of face tracks, see `find_tracks`.
        voices: folder of recordings: NAME_PERSON.wav in it or in folders below it, such as audio_left/NAME_left.wav;
            see `find_voices`.
        spans: JSON file, video name → {person: [[start, end], …]} or [[[start, end], …], …]; people in the order given.
        real: folder of real videos of the same names.
    """

    tracks: Path | None = None
    voices: Path | None = None
    spans: Path | None = None
    real: Path | None = None


@dataclass
class SpokenSpans:
    """Spans of a benchmark by video name: for each the people's names and when they speak."""

    people: dict[str, list[str]] = field(default_factory=dict)
    spans: dict[str, list[Spans]] = field(default_factory=dict)


def find_clips(folder: Path, folders: Folders | None = None) -> list[ClipSource]:
    """All videos of a folder, sorted by name, with what lies beside them or in other folders.

    Beside NAME.mp4 may lie the NAME.json that `anytalker generate` writes, NAME.tracks.safetensors, and
    speaker_duration.json for all.

    Raises:
        InputError: if a folder or file is missing or damaged, or there is no video.
    """
    folders = folders or Folders()
    for place in (folder, folders.tracks, folders.voices, folders.real):
        if place is not None and not place.is_dir():
            raise InputError(f"There is no folder {place}. Check the path.")
    videos = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    if not videos:
        raise InputError(f"{folder} holds no videos ({', '.join(VIDEO_SUFFIXES)}).")
    beside = folder / SPANS_FILE
    spoken = read_spans(folders.spans or beside) if folders.spans or beside.is_file() else SpokenSpans()
    return [_source(video, folders, spoken) for video in videos]


def _source(video: Path, folders: Folders, spoken: SpokenSpans) -> ClipSource:
    known = _read_record(video.with_suffix(".json"))
    speaking, voices = spoken.spans.get(video.stem), None
    if speaking is None and known:
        speaking = [[(float(a), float(b)) for a, b in person["speaking"]] for person in known]
    if folders.voices is not None:
        voices = _voices(video.stem, folders.voices, spoken.people.get(video.stem))
    real = None
    if folders.real is not None:
        real = next((p for p in (folders.real / (video.stem + s) for s in VIDEO_SUFFIXES) if p.is_file()), None)
    return ClipSource(
        video=video,
        speaking=speaking,
        boxes=[tuple(map(float, person["box_xywh"])) for person in known] if known else None,  # type: ignore[misc]
        voices=voices,
        tracks=find_tracks(video, folders.tracks),
        real=real,
        real_tracks=find_tracks(real) if real else None,
    )


def _voices(name: str, folder: Path, people: Sequence[str] | None) -> list[Path | None] | None:
    """`find_voices`; where spans give people no names, as many recordings as people are theirs in order."""
    found = find_voices(name, folder)
    if people == [str(number) for number in range(len(people or ()))] and found and len(found) == len(people):
        return found
    return find_voices(name, folder, people)


def _read_record(path: Path) -> list[dict[str, Any]] | None:
    """The people of a record of `anytalker generate`; None if there is no such record."""
    if not path.is_file():
        return None
    try:
        persons = json.loads(path.read_text(encoding="utf-8"))["persons"]
        return persons if all("box_xywh" in person and "speaking" in person for person in persons) else None
    except (ValueError, KeyError, TypeError):
        return None


def read_spans(path: Path) -> SpokenSpans:
    """Read when people speak from a file such as the benchmark's speaker_duration.json.

    Raises:
        InputError: if it is missing or of another form.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} can't be read: {error}") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, Mapping):
        raise InputError(f"{path} must map the names of videos to the spans of their people.")
    spoken = SpokenSpans()
    for name, people in values.items():
        try:
            entries = list(people.items()) if isinstance(people, Mapping) else list(enumerate(people))
            spans = [[(float(start), float(end)) for start, end in one] for _, one in entries]
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: the spans of {name} must be lists of [start, end] in seconds.") from error
        spoken.people[Path(name).stem] = [str(person) for person, _ in entries]
        spoken.spans[Path(name).stem] = spans
    return spoken


def find_voices(name: str, folder: Path, people: Sequence[str] | None = None) -> list[Path | None] | None:
    """The recordings of a clip's voices, NAME_PERSON.wav below `folder`.

    Args:
        name: of the clip.
        folder: where to look.
        people: their names in order; None: all recordings there are, in the order of their numbers and the alphabet.
            Then a PERSON has no "_" in it: talk_2_0.wav is of the clip talk_2, not of talk.
    """
    start = glob.escape(f"{name}_")
    if people is None:
        found = sorted(folder.glob(f"**/{start}*.wav"), key=lambda path: (_by_number(path.stem), path))
        return [path for path in found if re.fullmatch("[^_]+", path.stem.removeprefix(f"{name}_"))] or None
    voices = [next(iter(sorted(folder.glob(f"**/{start}{glob.escape(person)}.wav"))), None) for person in people]
    return voices if any(voices) else None


def _by_number(text: str) -> list[str | int]:
    """A key that sorts 2 before 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]


@dataclass
class VideoFrames:
    """Frames of a video file, decoded one at a time.

    Attributes:
        path: the file.
        size: (width, height) in pixels as shown.
        fps: mean frames a second.
        times: seconds at which the frames read so far are shown; uneven for a variable frame rate.
        threaded: decode on all cores; False where other processes use them.
    """

    path: Path
    size: tuple[int, int] = (0, 0)
    fps: float = 0.0
    times: list[float] = field(default_factory=list)
    threaded: bool = True

    def __iter__(self) -> Iterator[np.ndarray]:
        """The frames as players show them, uint8 RGB (H, W, 3).

        Raises:
            InputError: if the file is missing or no video, a playlist, or it breaks off.
        """
        import av

        self.times = []
        try:
            with open_media(self.path) as container:
                if not container.streams.video:
                    raise InputError(f"{self.path.name} holds no video.")
                stream = container.streams.video[0]
                stream.thread_type = "AUTO" if self.threaded else "NONE"
                self.fps = float(stream.average_rate or 0)
                promised, shown = stream.frames, ShownFrames(stream)
                for frame in container.decode(stream):
                    self.times.append(float(frame.time if frame.time is not None else len(self.times)))
                    pixels = shown.of(frame)
                    self.size = (pixels.shape[1], pixels.shape[0])
                    yield pixels
        except (av.FFmpegError, OSError) as error:
            raise InputError(f"{self.path.name} can't be decoded: it is no video, or damaged ({error}).") from error
        if promised and len(self.times) < 0.9 * promised:
            raise InputError(f"{self.path.name} is cut off: {len(self.times)} of {promised} frames can be decoded.")
        if not self.times:
            raise InputError(f"{self.path.name} holds no frames.")

    def at_rate(self, fps: float) -> Iterator[np.ndarray]:
        """The frames, uint8 RGB (H, W, 3), that would be seen at another rate: of each moment the nearest one.

        Args:
            fps: frames a second.
        """
        own, number = self.probe()[1], 0
        if own == fps or not own or not fps:
            yield from self
            return
        for place, frame in enumerate(self):
            while math.floor(number * own / fps + 0.5) == place:
                yield frame
                number += 1

    def probe(self) -> tuple[tuple[int, int], float]:
        """Size (width, height) and frame rate, from the first frame.

        Raises:
            InputError: if there is none.
        """
        for frame in self:
            return (frame.shape[1], frame.shape[0]), self.fps
        raise InputError(f"{self.path.name} holds no frames.")

    def uneven(self) -> bool:
        """Whether the times of the frames read so far deviate from even spacing by more than half a frame."""
        if len(self.times) < 3:
            return False
        even = np.linspace(self.times[0], self.times[-1], len(self.times))
        return bool(np.abs(np.array(self.times) - even).max() > 0.5 * (even[1] - even[0]))
