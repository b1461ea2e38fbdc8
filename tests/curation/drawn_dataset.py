"""A small dataset as a curation leaves it, made by hand: drawn footage, clips cut from it, and what was dropped."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anytalker.curation.config import CurationConfig, FacesConfig
from anytalker.curation.dataset import Dataset, assemble, write_dataset
from anytalker.curation.export import export_clip
from anytalker.curation.footage import FPS, Footage
from anytalker.curation.licences import Rights
from anytalker.curation.piece import Face, Piece, Turn
from anytalker.curation.survey import Survey
from anytalker.curation.work import FileWork, ShotResult, write_result
from anytalker.files import write_json_atomic
from anytalker.media.video import write_video
from anytalker.miniature.corpus import CorpusSettings, RenderedClip, render_clip

CONFIG = CurationConfig(faces=FacesConfig(min_pixels=30))
FRAMES = 75
"""Of each file, which is one shot: its last second is dropped, and the end of the first one, too."""


def draw(path: Path, seed: int, persons: int) -> RenderedClip:
    """Footage of people who talk."""
    settings = CorpusSettings(persons=persons, frames=FRAMES, size=96, fps=FPS, silent_share=0.0)
    clip = render_clip(seed, settings)
    write_video(path, clip.frames, FPS, np.clip(sum(clip.voices), -1, 1), synthetic=False)
    return clip


def make_dataset(footage: Path, folder: Path) -> Dataset:
    """Draw footage of one person and of two, and the dataset that is made of it.

    Args:
        footage: folder for talk.mp4 and a file with a name that could do harm in a page, besides one that is no video.
        folder: of the dataset.
    """
    footage.mkdir()
    works, rights = [], {}
    for name, seed, persons in (("talk.mp4", 3, 1), ('<b>duo & "co".mp4', 4, 2)):
        work = FileWork(footage / name, folder, CONFIG)
        drawn = draw(work.path, seed, persons)
        _examined(work, drawn)
        works.append(work)
    rights[works[0].path] = Rights(licence="CC-BY-4.0")
    works.append(_broken(FileWork(footage / "broken.mp4", folder, CONFIG)))
    dataset = assemble(works, rights, CONFIG)
    write_json_atomic(folder / "curation.json", {"config": CONFIG.model_dump(mode="json")})
    write_dataset(dataset, folder)
    return dataset


def _broken(work: FileWork) -> FileWork:
    """A file that broke off after ten frames, and can't be read any more at all."""
    work.path.write_bytes(b"no video")
    work.folder.mkdir(parents=True)
    problem = "broken.mp4 is damaged or no video. It is used up to 0.40 s."
    found = Survey(path=str(work.path), frames=10, shots=[(0, 10)], voices=[[0.0, 0.0, 1.0]], problem=problem)
    write_result(work.survey_path(), found)
    short = Piece(Footage(work.path), 0, 10, np.zeros(0, np.float32)).drop("shots", "shorter than 2 s")
    write_result(work.shot_path((0, 10)), ShotResult(dropped=[short]))
    return work


def _examined(work: FileWork, drawn: RenderedClip) -> None:
    """What the first two seconds and the last one gave, as if the stages had looked at them."""
    boxes = [np.array([x, y, x + wide, y + high], np.float32) for x, y, wide, high in drawn.boxes]
    turns = [Turn(speaker=index, start=0.2 + index, end=0.9 + index) for index in range(len(boxes))]
    piece = Piece(Footage(work.path), 0, FRAMES, sum(drawn.voices), turns=tuple(turns))
    faces = tuple(
        Face(np.tile(box, (FRAMES, 1)), ((turn.start, turn.end),), turn.speaker, 4.0)
        for box, turn in zip(boxes, turns, strict=True)
    )
    seen = {
        "faces.people": len(boxes),
        "faces.height": 33.0,
        "camera.shift": 0.001,
        "speakers.delay": 3.0,
        "sync.confidence_0": 4.0,
    }
    kept = piece.part(0, 50).measured(**seen, **{"clips.speech": 0.6})
    kept = Piece(**(vars(kept) | {"faces": tuple(part_of(face, 0, 50) for face in faces)}))
    small = piece.part(50, 70).measured(**{"faces.people": 1, "faces.height": 21.0})
    result = ShotResult(
        kept=[export_clip(kept, work.prefix, work.dataset)],
        dropped=[small.drop("faces", "a face is too small"), piece.part(70, FRAMES).drop("clips", "shorter than 2 s")],
    )
    work.folder.mkdir(parents=True)
    found = Survey(
        path=str(work.path),
        width=drawn.frames.shape[2],
        height=drawn.frames.shape[1],
        frames=FRAMES,
        shots=[(0, FRAMES)],
        turns=turns,
        voices=[[float(work.path.name == "talk.mp4"), float(index), 1.0] for index in range(len(boxes))],
    )
    write_result(work.survey_path(), found)
    write_result(work.shot_path((0, FRAMES)), result)


def part_of(face: Face, start: int, end: int) -> Face:
    """The same face in fewer frames."""
    return Face(face.boxes[start:end], face.speaking, face.voice, face.sync_confidence)
