"""Episodes as they are written: pictures and sound hold what is said to be true of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from anytalker import InputError
from anytalker.cli.app import app
from anytalker.evaluation.lip_sync.mouths import mouth_signal
from anytalker.media.recordings import load_audio
from anytalker.media.video import read_video
from anytalker.miniature.episodes import recipes
from anytalker.miniature.episodes.draft import Draft
from anytalker.miniature.episodes.drawing import Stage, behaviour
from anytalker.miniature.episodes.film import write_episode
from anytalker.miniature.episodes.plan import FPS, Plan
from anytalker.miniature.episodes.sound import record
from anytalker.miniature.world.scenes import UNSEEN_SEED

SIZE = (256, 144)
RATE = 16000


class Short(Draft):
    """An episode whose shots are still shorter than the shortest of their kind."""

    def length(self, shortest: float, longest: float) -> int:
        return super().length(0.8 * shortest, min(longest, 0.8 * shortest + 0.4))


def drawn(path: Path, *kinds: Callable[[Draft], None], seconds: float, seed: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """The truth, the frames and the sound of an episode of some kinds of shots."""
    draft = Short(UNSEEN_SEED + seed, round(seconds * FPS), SIZE[0] / SIZE[1])
    for kind in kinds:
        kind(draft)
    write_episode(Plan(seed, *SIZE, draft.cast, tuple(draft.shots)), path)
    truth = json.loads(path.with_suffix(".json").read_text())
    return truth, read_video(path)[0], np.asarray(load_audio(path))


@pytest.fixture(scope="module")
def episode(tmp_path_factory) -> tuple[Any, np.ndarray, np.ndarray]:
    """Talking people with cuts of every kind, a flash and a delay, and voices of people who aren't there."""
    kinds = (
        recipes.jump_cut,
        recipes.same_place,
        recipes.flash,
        recipes.delay,
        recipes.swapped_seats,
        recipes.offscreen,
        recipes.dubbing,
    )
    return drawn(tmp_path_factory.mktemp("episode") / "e.mp4", *kinds, seconds=300, seed=2)


def test_cuts_are_where_the_picture_changes(episode) -> None:
    truth, frames, _ = episode
    assert len(frames) == truth["frames"] == round(truth["shots"][-1]["end"] * FPS)
    small = frames[:, ::4, ::4].astype(np.int16)
    change = np.abs(np.diff(small, axis=0)).mean(axis=(1, 2, 3))
    hard = [round(shot["start"] * FPS) for shot in truth["shots"][1:] if shot["transition"] == "cut"]
    slow = [shot for shot in truth["shots"] if shot["transition"] == "dissolve"]
    flashes = [round(time * FPS) for shot in truth["shots"] for time in shot.get("flashes", [])]
    assert truth["cuts"] == [shot["start"] for shot in truth["shots"][1:]]
    assert hard
    assert flashes
    expected = {cut - 1 for cut in hard} | {flash + step for flash in flashes for step in (-1, 0, 1, 2)}
    sudden = set(np.flatnonzero(change > 4.0))
    assert {cut - 1 for cut in hard} <= sudden
    assert sudden <= expected
    for shot in slow:
        before = truth["shots"][truth["shots"].index(shot) - 1]
        first, last = round(before["clean"][1] * FPS), round(shot["clean"][0] * FPS)
        assert first < round(shot["start"] * FPS) < last
        assert change[first - 1 : last].mean() > 2 * np.median(change)


def test_lips_move_in_the_boxes_with_the_sound_and_as_late_as_is_said(episode) -> None:
    truth, frames, sound = episode
    found = set()
    for shot in (shot for shot in truth["shots"] if shot["good"] and "flashes" not in shot):
        start, end = (round(time * FPS) for time in shot["clean"])
        loud = np.abs(sound[start * RATE // FPS : end * RATE // FPS]).reshape(end - start, -1).max(axis=1)
        lips = np.zeros(end - start)
        for person in shot["persons"]:
            moving = mouth_signal(frames[start:end] / np.float32(255), tuple(person["box_xywh"]))
            lips += moving - np.median(moving)
        late = shot.get("audio_delay_frames", 0)
        scores = [np.corrcoef(np.roll(lips, shift), loud)[0, 1] for shift in range(-12, 13)]
        assert abs(int(np.argmax(scores)) - 12 - late) <= 1
        assert max(scores) > 0.4
        found.add(late)
    assert len(found) == 2


def test_voices_sound_when_somebody_speaks_and_nobody_sees_who_is_away(episode) -> None:
    truth, _, sound = episode
    spoken = np.zeros(len(sound), bool)
    for shot in truth["shots"]:
        for voice in shot["voices"]:
            for start, end in voice["speaking"]:
                assert shot["start"] <= start < end <= shot["end"]
                spoken[round(start * RATE) : round(end * RATE)] = True
    loudness = [np.sqrt(np.mean(sound[part] ** 2)) for part in (spoken, ~spoken)]
    assert loudness[0] > 8 * loudness[1]
    unseen = [shot for shot in truth["shots"] if {"offscreen", "dubbing"} & set(shot["trouble"])]
    assert len(unseen) == 2
    for shot in unseen:
        seen = {tuple(span) for person in shot["persons"] for span in person["speaking"]}
        assert shot["offscreen"]
        assert not shot["good"]
        assert not seen & {tuple(span) for span in shot["offscreen"]}
        assert not {person["id"] for person in shot["persons"] if not person["speaking"]} & {
            voice["id"] for voice in shot["voices"]
        }
    dubbed = unseen[-1]["persons"][0]
    assert dubbed["mouthing"]
    assert not dubbed["speaking"]


def test_faces_are_in_their_boxes_wherever_people_or_the_camera_go(tmp_path) -> None:
    kinds = (recipes.entrance, recipes.swap, recipes.zoom, recipes.pan)
    truth, frames, _ = drawn(tmp_path / "e.mp4", *kinds, seconds=120, seed=4)
    draft = Draft(UNSEEN_SEED + 4, 1, 1.0)
    people = {member.id: member.person for member in draft.cast}
    for shot in truth["shots"]:
        start, end = round(shot["start"] * FPS), round(shot["end"] * FPS)
        boxes = {person["id"]: person["box_xywh"] for person in shot["persons"]}
        clean = range(round(shot["clean"][0] * FPS), round(shot["clean"][1] * FPS))
        for name, box in boxes.items():
            if not isinstance(box[0], (list, type(None))):
                box = [box] * (end - start)
            assert len(box) == end - start
            for frame in (clean[0], clean[-1]):
                if box[frame - start] is None:
                    assert "entrance" in shot["trouble"]
                    assert frame == clean[0]
                    continue
                left, top, width, height = box[frame - start]
                cheek = frames[frame, round(top + 0.6 * height), round(left + 0.25 * width)].astype(float)
                skin = np.array(people[name].skin)
                assert cheek @ skin / np.linalg.norm(cheek) / np.linalg.norm(skin) > 0.97
    assert [shot["camera"] for shot in truth["shots"]] == ["still", "still", "moving", "moving"]
    swapped = truth["shots"][1]["persons"]
    assert abs(swapped[0]["box_xywh"][0][0] - swapped[1]["box_xywh"][-1][0]) < 12


def test_a_picture_depends_on_nothing_that_was_drawn_before() -> None:
    draft = Short(UNSEEN_SEED + 9, 3000, SIZE[0] / SIZE[1])
    for kind in (recipes.three_people, recipes.occluded, recipes.duo):
        kind(draft)
    for shot in draft.shots:
        sound = record(shot, draft.cast)
        states = behaviour(shot, sound.visemes, 0, 0)
        whole = Stage(shot, draft.cast, SIZE)
        still = 0
        for frame in range(min(shot.frames, 60)):
            picture = whole.draw(frame, [track[frame] for track in states])
            still += any(track[frame] == track[frame - 1] for track in states)
            if frame % 10 == 9:
                alone = Stage(shot, draft.cast, SIZE).draw(frame, [track[frame] for track in states])
                np.testing.assert_array_equal(picture, alone)
        assert still > 5


def test_bars_subtitles_and_cards(tmp_path) -> None:
    kinds = (recipes.bars, recipes.covered_mouth, recipes.nobody, recipes.duplicate)
    truth, frames, _ = drawn(tmp_path / "e.mp4", *kinds, seconds=120, seed=5)
    barred, covered, empty, again = truth["shots"]
    first = frames[round(barred["clean"][0] * FPS)]
    _, top, _, height = barred["picture_xywh"]
    assert first[: top - 2].mean() < 6
    assert first[top + height + 2 :].mean() < 6
    assert first[top + 3].mean() > 30
    assert covered["trouble"][0] == "covered_mouth"
    assert empty["persons"] == []
    assert again["repeats"] == 0
    assert not again["good"]
    middle = [round((shot["start"] + shot["end"]) / 2 * FPS) for shot in (barred, again)]
    assert np.abs(frames[middle[0]].astype(int) - frames[middle[1]]).mean() < 8


def test_the_command_writes_the_same_file_again(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one.mp4", "two.mp4"):
        words = [
            "miniature",
            "episode",
            "--seed",
            "1000003",
            "--minutes",
            "0.05",
            "--size",
            "160x128",
            "--output",
            name,
        ]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        assert f"Wrote {name}: 3 s" in done.output
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    truth = json.loads((tmp_path / "one.json").read_text())
    assert truth == json.loads((tmp_path / "two.json").read_text())
    assert truth["size"] == [160, 128]
    assert {"start", "end", "camera", "persons", "good", "trouble"} <= truth["shots"][0].keys()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--minutes", "0"], "more than 0 and at most 600"),
        (["--minutes", "601"], "more than 0 and at most 600"),
        (["--minutes", "nan"], "more than 0 and at most 600"),
        (["--size", "321x176"], "both even"),
        (["--size", "wide"], "give width and height as 640x352"),
        (["--output", "episode.mov"], "must end in .mp4"),
        (["--output", "taken.mp4"], "is not what is true of an episode"),
    ],
)
def test_wrong_input_is_named_and_nothing_is_written(words: list[str], message: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.json").write_text("[]")
    failed = CliRunner().invoke(app, ["miniature", "episode", *words])
    assert isinstance(failed.exception, InputError)
    assert message in str(failed.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.json"]
