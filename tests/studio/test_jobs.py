"""From the rows of the page to jobs of the queue, back, and how jobs are shown."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from anytalker.doctor import report
from anytalker.doctor.report import Machine
from anytalker.errors import InputError
from anytalker.media.recordings import load_audio
from anytalker.queue.record import State
from anytalker.studio import shown, words
from anytalker.studio.again import again
from anytalker.studio.estimate import estimate
from anytalker.studio.rows import Choices, Row, submit
from tests.service.conftest import finish

HOSTILE = "<img src=x onerror=alert(1)> ${7*7} {{7*7}} \"'&"
NAME = 'A\' onmouseover "b" & $7*7'


def rows_of(cast, **changes) -> list[Row]:
    return [Row(one.name, one.voice, **changes) for one in cast.members]


def test_rows_become_a_job(desk, example) -> None:
    anna, ben = rows_of(example)
    choices = Choices("Best", seed=7, prompt="They nod.", seconds=0.5)
    job = submit(desk.queue, example, [anna, Row(ben.name, ben.voice, listens=True)], choices, True)
    assert [(one.name, one.voice) for one in job.request.people] == [("Anna", 1), ("Ben", None)]
    assert [one.box for one in job.request.people] == [one.box for one in example.members]
    assert (job.request.seed, job.request.num_inference_steps, job.request.max_frames) == (7, 4, 12)
    picture, voices = desk.queue.inputs_of(job)
    assert picture.is_file()
    assert len(voices) == 1


def test_a_voice_starts_later(desk, example) -> None:
    rows = [Row("Anna", example.members[0].voice, starts=1.5), Row("Ben")]
    job = submit(desk.queue, example, rows, Choices(), True)
    heard = load_audio(desk.queue.inputs_of(job)[1][0])
    assert len(heard) == 16000 * 5.5
    assert abs(heard[: 16000 * 3 // 2 - 200]).max() < 1e-3
    assert list(desk.queue.folder.joinpath("incoming").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "consent", "said"),
    [
        ({"listens": True}, True, words.NO_VOICE),
        ({}, False, words.NEEDS_CONSENT),
        ({"starts": -1}, True, "from 0 to 600"),
        ({"starts": float("nan")}, True, "from 0 to 600"),
    ],
)
def test_what_is_missing_is_said(desk, example, changes, consent, said) -> None:
    with pytest.raises(InputError, match=said):
        submit(desk.queue, example, rows_of(example, **changes), Choices(), consent)
    assert desk.queue.list() == []


def test_a_bad_recording_is_called_like_its_row(desk, example) -> None:
    bad = desk.uploads / "bad.wav"
    desk.uploads.mkdir(exist_ok=True)
    bad.write_bytes(b"nothing " * 40)
    rows = [Row("Anna", None, listens=True), Row("Ben", str(bad))]
    with pytest.raises(InputError, match=words.VOICE.format(number=2)):
        submit(desk.queue, example, rows, Choices(), True)


@pytest.mark.parametrize("choices", [Choices("Worst"), Choices(model="/etc"), Choices(seed=-1), Choices(seconds=1e9)])
def test_choices_the_page_does_not_offer_are_refused(desk, example, choices) -> None:
    with pytest.raises(InputError):
        submit(desk.queue, example, rows_of(example), choices, True)
    assert desk.queue.list() == []


def test_without_a_picture_there_is_no_job(desk) -> None:
    with pytest.raises(InputError, match="Drop a picture"):
        submit(desk.queue, None, [], Choices(), True)


def test_again_brings_everything_back(desk, example) -> None:
    choices = Choices("Draft", seed=3, prompt="Rain.", seconds=1.0)
    anna, ben = rows_of(example)
    job = submit(desk.queue, example, [Row("Anna", anna.voice, listens=True), ben], choices, True)
    cast, same = again(desk, job)
    assert same == choices
    assert [(one.name, one.box, one.listens) for one in cast.members] == [
        ("Anna", example.members[0].box, True),
        ("Ben", example.members[1].box, False),
    ]
    assert abs(load_audio(cast.members[1].voice) - load_audio(ben.voice)).max() < 1e-3
    desk.queue.delete(job.id)
    assert cast.opened().size == example.opened().size, "the page has files of its own"


def test_again_of_a_job_of_the_service_finds_the_faces(desk, picture, voice) -> None:
    from anytalker.queue.request import PersonRequest, VideoRequest

    request = VideoRequest(people=(PersonRequest(voice=1, order=2, name="Cleo"),))
    cast, _ = again(desk, desk.queue.submit(request, picture, [voice]))
    assert cast.members[0].name == "Cleo"
    assert cast.members[0].box[0] > cast.members[1].box[0]


def test_names_never_become_html(desk, example) -> None:
    with pytest.raises(InputError, match="can't be the name"):
        submit(desk.queue, example, [Row(HOSTILE, example.members[0].voice), Row("Ben")], Choices(), True)
    rows = [Row(NAME, example.members[0].voice), Row("Ben")]
    job = submit(desk.queue, example, rows, Choices(), True)
    texts = [shown.shown(job, desk.queue), shown.card(job)]
    finish(desk.queue)
    done = desk.queue.get(job.id)
    texts += [shown.shown(done, desk.queue), shown.card(done), shown.compared(done, done, desk.queue)]
    for text in [*texts, shown.message(HOSTILE)]:
        assert {"onerror", "onmouseover"}.isdisjoint(name for attributes in _attributes(text) for name in attributes)
    assert all(NAME in "".join(_texts(text)) for text in texts[1:4])


def test_a_job_is_followed_to_its_end(desk, example) -> None:
    job = submit(desk.queue, example, rows_of(example), Choices(), True)
    assert "next in line" in shown.shown(job, desk.queue)
    claim = desk.queue.store.claim("w", 60)
    (desk.queue.folder_of(job.id) / "preview.jpg").write_bytes(b"picture")
    running = shown.shown(desk.queue.get(job.id), desk.queue)
    assert "<progress" in running
    assert f"/videos/{job.id}/preview.jpg" in running
    desk.queue.cancel(job.id)
    assert "Cancelled" in shown.shown(desk.queue.get(job.id), desk.queue)
    assert claim.job.id == job.id
    desk.queue.retry(job.id)
    finish(desk.queue)
    done = shown.shown(desk.queue.get(job.id), desk.queue)
    assert "<video" in done
    assert "video.json" in done


def test_an_estimate_goes_by_earlier_videos(desk, example) -> None:
    assert words.ESTIMATE_NONE in estimate(desk.queue, rows_of(example), Choices())
    assert "GiB" in estimate(desk.queue, rows_of(example), Choices())
    assert estimate(desk.queue, rows_of(example, listens=True), Choices()) == ""
    job = submit(desk.queue, example, rows_of(example), Choices(), True)
    finish(desk.queue)
    record = desk.queue.folder_of(job.id) / "video.json"
    record.write_text('{"frames": 97}')
    assert desk.queue.get(job.id).state is State.succeeded
    assert "earlier videos" in estimate(desk.queue, rows_of(example), Choices())


def test_memory_is_what_is_free_right_now(desk, example, monkeypatch) -> None:
    for free in (3, 7):
        monkeypatch.setattr(report, "this_machine", lambda free=free: Machine("cpu", free * 2**30, 2**29))
        assert f"{free}.0 GiB are free" in estimate(desk.queue, rows_of(example), Choices())


@pytest.mark.parametrize(("choices", "said"), [(Choices("Draft"), "Draft, 1 step"), (Choices(exact=7), "7 steps")])
def test_a_preset_is_named_where_one_was_chosen(desk, example, choices, said) -> None:
    job = submit(desk.queue, example, rows_of(example), choices, True)
    assert shown.settings(job) == f"{said}, seed 0, tiny"


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.attributes: list[dict] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.attributes.append(dict(attrs))

    def handle_data(self, data) -> None:
        self.texts.append(data)


def _read(text: str) -> _Reader:
    reader = _Reader()
    reader.feed(text)
    return reader


def _attributes(text: str) -> list[dict]:
    return _read(text).attributes


def _texts(text: str) -> list[str]:
    return _read(text).texts
