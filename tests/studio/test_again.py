"""Videos made once more: jobs with a timeline or a script, and MP4s that are dropped on the page."""

from __future__ import annotations

import json

import numpy as np
import pytest

from anytalker.media.recordings import load_audio
from anytalker.media.video import write_video
from anytalker.queue import video_queue
from anytalker.queue.request import PersonRequest, VideoRequest
from anytalker.studio.again import again, again_of_file
from anytalker.studio.rows import Choices, Row, submit
from anytalker.timeline.model import Timeline
from tests.service.conftest import copied, finish

RATE = 16000


@pytest.fixture
def undecoded(monkeypatch) -> None:
    """Files of jobs are kept as they are, without a process."""
    monkeypatch.setattr(video_queue, "decode", copied)


@pytest.mark.usefixtures("undecoded")
def test_a_timeline_becomes_a_recording_a_person(desk, picture, voice) -> None:
    turns = [
        {"person": "Ben", "start": 0.0, "end": 0.4, "sound": {"file": "voice-1.wav"}, "strength": 2},
        {"person": "Anna", "start": 1.0, "end": 1.5, "sound": {"file": "voice-2.wav"}},
    ]
    timeline = Timeline.checked({"people": [{"name": "Ben", "face": 2}, {"name": "Anna"}], "turns": turns})
    request = VideoRequest(timeline=timeline, seed=4, guidance_scale=1.5, num_inference_steps=7)
    cast, choices = again(desk, desk.queue.submit(request, picture, [voice, voice]))
    anna, ben = cast.members
    assert ([one.name for one in cast.members], [one.listens for one in cast.members]) == (["Anna", "Ben"], [False] * 2)
    assert anna.box[0] < ben.box[0]
    heard = [load_audio(one.voice) for one in (anna, ben)]
    assert [len(one) for one in heard] == [RATE * 3 // 2] * 2
    assert abs(heard[0][RATE + 800 :]).max() > 0.1 > abs(heard[0][: RATE - 800]).max()
    assert abs(heard[1][:RATE]).max() > 0.1 > abs(heard[1][RATE:]).max()
    assert (choices.seed, choices.steps, choices.exact) == (4, 7, 7)
    assert choices.rest == {"guidance_scale": 1.5, "voice_strengths": (1, 2)}
    rows = [Row(one.name, one.voice, one.listens) for one in cast.members]
    made = submit(desk.queue, cast, rows, choices, True).request
    assert (made.guidance_scale, made.voice_strengths, made.num_inference_steps) == (1.5, (1, 2), 7)
    fewer = submit(desk.queue, cast.without(ben.id), rows[:1], choices, True).request
    assert fewer.voice_strengths is None


@pytest.mark.usefixtures("undecoded")
def test_a_script_becomes_a_recording_a_person(desk, picture) -> None:
    people = (PersonRequest(name="Anna", order=2),)
    cast, _ = again(desk, desk.queue.submit(VideoRequest(script="Anna: Hello!", people=people), picture))
    assert [(one.name, one.listens) for one in cast.members] == [("Person 2", True), ("Anna", False)]
    assert abs(load_audio(cast.members[1].voice)).max() > 0.1


@pytest.mark.usefixtures("undecoded")
def test_a_video_that_is_here_brings_back_its_own_files(desk, example, tmp_path) -> None:
    rows = [Row(one.name, one.voice) for one in example.members]
    submit(desk.queue, example, rows, Choices(seed=1), True)
    finish(desk.queue, b"another")
    job = submit(desk.queue, example, rows, Choices("Best", seed=2), True)
    finish(desk.queue, b"a video")
    (tmp_path / "renamed.mp4").write_bytes(b"a video")
    cast, choices, here = again_of_file(desk, tmp_path / "renamed.mp4")
    assert (here, choices) == (True, again(desk, job)[1])
    assert cast.opened().tobytes() == example.opened().tobytes()


def record(**changes) -> dict:
    """What a video of two says of itself: Anna speaks in its first half, Ben in its second."""
    persons = [
        {"box_xywh": [10, 10, 60, 60], "audio": "Anna", "speaking": [[0, 0.5]]},
        {"box_xywh": [90, 10, 60, 60], "audio": "b.wav", "speaking": [[0.5, 1]]},
    ]
    settings = {"prompt": "Rain.", "num_inference_steps": 4, "guidance_scale": 1.5, "lora": "a file"}
    sizes = {"width": 160, "height": 96, "fps": 24.0, "frames": 25}
    known = {"model": "tiny", "seed": 8, "settings": settings, "persons": persons, "seconds": {}}
    return known | sizes | changes


def dropped(desk, path, inside: str):
    """What the page makes of a video with that inside."""
    tone = 0.5 * np.sin(2 * np.pi * 220 * np.arange(RATE) / RATE)
    frames = np.full((25, 96, 160, 3), 90, np.uint8)
    write_video(path, frames, 24, tone.astype(np.float32), settings=inside)
    return again_of_file(desk, path)


def test_another_video_of_ours_has_its_settings_inside(desk, tmp_path) -> None:
    cast, choices, here = dropped(desk, tmp_path / "talk.mp4", json.dumps(record()))
    assert (here, choices.prompt, choices.seed, choices.steps) == (False, "Rain.", 8, 4)
    assert choices.rest == {"guidance_scale": 1.5, "size": (160, 96)}
    assert [(one.name, one.box) for one in cast.members] == [("Anna", (10, 10, 60, 60)), ("Person 2", (90, 10, 60, 60))]
    assert cast.opened().size == (160, 96)
    anna, ben = (load_audio(one.voice) for one in cast.members)
    half = RATE // 2
    assert abs(anna[:half]).mean() > 0.2 > 0.01 > abs(anna[half:]).mean()
    assert abs(ben[half:RATE]).mean() > 0.2 > 0.01 > abs(ben[:half]).mean()


@pytest.mark.parametrize(
    "inside",
    [
        "no JSON",
        "[]",
        json.dumps(record(width=99)),
        json.dumps(record(persons=[])),
        json.dumps(record(persons=[{"box_xywh": [1, 2, 3], "audio": None, "speaking": []}])),
        json.dumps(record(persons=[{"box_xywh": [1, 2, 30, 40], "audio": None, "speaking": [[0, 1e300]]}])),
        json.dumps(record(settings={"guidance_scale": "much"})),
        json.dumps(record(seed=-1)),
    ],
)
def test_settings_that_can_not_be_used_are_left_alone(desk, tmp_path, monkeypatch, inside) -> None:
    from anytalker.studio import again as module

    monkeypatch.setattr(module, "decode", lambda folder, *rest: example_frame(folder))
    assert dropped(desk, tmp_path / "talk.mp4", inside) is None
    assert [path for path in desk.folder.iterdir() if path.is_dir()] == []


def example_frame(folder) -> None:
    """Instead of decoding."""
    from PIL import Image

    Image.new("RGB", (160, 96)).save(folder / "image.png")
