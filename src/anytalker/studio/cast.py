"""The people of a picture on the page: found, named, picked and drawn."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from anytalker.conventions import PixelBox
from anytalker.errors import InputError
from anytalker.queue.decoding import PICTURE, decode
from anytalker.queue.video_queue import VideoQueue
from anytalker.studio import words

_KEPT = 7 * 86400.0
"""Seconds that the files of a page stay."""
_EXAMPLE_SECONDS = 4.0
_EXAMPLE_NAMES = ("Anna", "Ben")


@dataclass(frozen=True)
class Member:
    """Somebody in the picture.

    Attributes:
        id: their own on the page, whoever comes or goes.
        box: of the face (x, y, width, height), in pixels of the picture.
        name: as it is shown.
        voice: path of their recording; None: none yet.
        listens: whether they only listen.
        starts: second of the video at which the recording starts.
    """

    box: PixelBox
    name: str
    voice: str | None = None
    listens: bool = False
    starts: float = 0.0
    id: str = field(default_factory=lambda: secrets.token_hex(4))


@dataclass(frozen=True)
class Cast:
    """A picture and its people, from left to right.

    Attributes:
        picture: path of the picture, as PNG.
        members: the people.
        consent: whether it needs nobody's: the people are drawn.
    """

    picture: str
    members: tuple[Member, ...] = ()
    consent: bool = False

    def opened(self) -> Image.Image:
        """The picture."""
        with Image.open(self.picture) as image:
            return image.convert("RGB")

    def marked(self, corner: tuple[int, int] | None = None) -> Image.Image:
        """The picture with everybody's number and name; listeners are grey. One corner of another face is a cross."""
        from anytalker.pipelines.preview import draw_preview

        labels = [None if member.listens else member.name for member in self.members]
        picture = draw_preview(self.opened(), [member.box for member in self.members], labels)
        if corner is not None:
            (x, y), arm = corner, max(6, max(picture.size) // 60)
            pen = ImageDraw.Draw(picture)
            for color, width in (("black", arm // 2), ("white", arm // 4)):
                pen.line([(x - arm, y), (x + arm, y)], color, width)
                pen.line([(x, y - arm), (x, y + arm)], color, width)
        return picture

    def with_voices(self, names: Sequence[str], voices: Sequence[str | None]) -> Cast:
        """The same people with other names and voices, in new rows."""
        members = zip(self.members, names, voices, strict=True)
        return replace(self, members=tuple(Member(one.box, name, voice) for one, name, voice in members))

    def with_rows(self, rows: Mapping[str, Any]) -> Cast:
        """With what people's rows say, by the ids of the people; who has no row there stays as they are."""
        said = (
            replace(one, name=row.name, voice=row.voice, listens=row.listens, starts=row.starts)
            if (row := rows.get(one.id)) is not None
            else one
            for one in self.members
        )
        return replace(self, members=tuple(said))

    def clicked(self, x: int, y: int) -> Cast:
        """Without the person there; or with another one, whose face is found there or taken to be as large as others.

        Args:
            x, y: pixels of the picture.
        """
        inside = [one for one in self.members if _holds(one.box, x, y)]
        if inside:
            return self.without(inside[-1].id)
        image = self.opened()
        box = next((box for box in _found(self.picture, len(self.members) + 1) if _holds(box, x, y)), None)
        if box is None:
            sides = sorted(max(one.box[2:]) for one in self.members) or [min(image.size) // 4]
            side = sides[len(sides) // 2]
            box = (x - side // 2, y - side // 2, side, side)
        return self.with_box(box)

    def without(self, who: str) -> Cast:
        """Without the person of that id."""
        return replace(self, members=tuple(one for one in self.members if one.id != who))

    def drawn(self, first: tuple[int, int], second: tuple[int, int]) -> Cast:
        """With another person, whose face has these two corners.

        Raises:
            InputError: if it is too small for a face.
        """
        left, right = sorted((first[0], second[0]))
        top, bottom = sorted((first[1], second[1]))
        return self.with_box((left, top, right - left, bottom - top))

    def with_box(self, box: PixelBox) -> Cast:
        """With another person, whose face is there, as far as it lies in the picture.

        Raises:
            InputError: see `drawn`; or if somebody is there already.
        """
        from anytalker.conditioning.faces import check_boxes

        width, height = self.opened().size
        left, top = max(0, box[0]), max(0, box[1])
        right, bottom = min(width, box[0] + box[2]), min(height, box[1] + box[3])
        new = (left, top, right - left, bottom - top)
        checked = check_boxes([new], (width, height))[0]
        for one in self.members:
            check_boxes([one.box, new], (width, height))
        taken = {one.name for one in self.members}
        numbers = range(1, len(self.members) + 2)
        name = next(name for number in numbers if (name := words.PERSON.format(number=number)) not in taken)
        members = sorted((*self.members, Member(checked, name)), key=lambda one: one.box[0] + one.box[2] / 2)
        return replace(self, members=tuple(members))


@lru_cache(maxsize=16)
def _found(picture: str, people: int) -> Sequence[PixelBox]:
    """Faces in a picture, which stays what it is under its name."""
    from anytalker.conditioning.faces import detect_people

    with Image.open(picture) as image:
        return detect_people(image.convert("RGB"), people)[0]


def _holds(box: PixelBox, x: int, y: int) -> bool:
    return box[0] <= x <= box[0] + box[2] and box[1] <= y <= box[1] + box[3]


class Desk:
    """Where the files of pages lie until they are a job's: below the folder of the queue.

    Args:
        queue: the jobs.
    """

    def __init__(self, queue: VideoQueue) -> None:
        self.queue = queue
        self.folder = queue.folder / "studio"
        self.folder.mkdir(exist_ok=True, mode=0o700)

    @property
    def uploads(self) -> Path:
        """Where gradio puts what comes from the browser."""
        return self.folder / "uploads"

    def checked(self, path: str) -> Path:
        """A path that came from the page.

        Raises:
            InputError: if it leads to something else than an upload.
        """
        found = Path(path).resolve()
        if not found.is_relative_to(self.folder.resolve()) or not found.is_file():
            raise InputError(words.GONE)
        return found

    @contextmanager
    def place(self) -> Iterator[Path]:
        """A new folder; it goes away if something fails."""
        self._sweep()
        folder = self.folder / secrets.token_hex(12)
        folder.mkdir(mode=0o700)
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def cast_of(self, upload: str | Path) -> Cast:
        """The people of a picture, or of a video's first frame.

        Raises:
            InputError: if it can't be read.
        """
        from anytalker.pipelines.talk import everybody

        with self.place() as folder:
            decode(folder, Path(upload), [], None, self.queue.settings.decoding)
            path = folder / PICTURE
            with Image.open(path) as image:
                picture = image.convert("RGB")
            try:
                boxes = everybody(path, picture)
            except InputError:  # nobody is found; the user may still show where faces are
                boxes = []
        return Cast(str(path), tuple(Member(box, words.PERSON.format(number=n)) for n, box in enumerate(boxes, 1)))

    def example(self) -> Cast:
        """A drawn pair, and what they say to each other."""
        from anytalker.media.recordings import write_wave
        from anytalker.miniature.demo import demo_scene

        picture, boxes, voices = demo_scene(len(_EXAMPLE_NAMES), _EXAMPLE_SECONDS, 0)
        members: list[Member] = []
        with self.place() as folder:
            picture.save(folder / PICTURE)
            for name, box, voice in zip(_EXAMPLE_NAMES, boxes, voices, strict=True):
                path = folder / f"voice-{len(members) + 1}.wav"
                write_wave(path, voice[: round(_EXAMPLE_SECONDS * 16000)])
                members.append(Member(box, name, str(path)))
        return Cast(str(folder / PICTURE), tuple(members), consent=True)

    def _sweep(self) -> None:
        before = time.time() - _KEPT
        for folder in self.folder.iterdir():
            with suppress(OSError):
                if folder != self.uploads and folder.stat().st_mtime < before:
                    shutil.rmtree(folder, ignore_errors=True)
