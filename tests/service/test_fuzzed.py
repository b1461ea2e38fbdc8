"""Requests that Schemathesis makes from the description: whatever is sent, the service answers as it says it does."""

from __future__ import annotations

import importlib
import importlib.util
import json
import socket
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from anytalker.queue.record import State
from anytalker.queue.request import VideoRequest
from anytalker.service.app import create_app
from tests.service.conftest import SETTINGS, finish

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("undecoded"),
    pytest.mark.skipif(importlib.util.find_spec("schemathesis") is None, reason="schemathesis is not installed"),
]
SCRIPTS = ("Anna: Hello!", "Anna: Hello!\nBen: Hi.", "nobody", "")
PEOPLE = (
    [{"audio": 1, "order": 2, "name": "Anna"}, {"audio": "none", "order": 1}],
    [{"box": [10, 10, 90, 90]}],
    [{"audio": 7}],
    [],
)
TURN = {"person": "Anna", "start": 0, "end": 0.4}
TIMELINES = tuple(
    {"people": [{"name": "Anna"}], "turns": [turn]}
    for turn in (TURN | {"sound": 1}, TURN | {"text": "Hello!"}, TURN | {"sound": 9}, TURN | {"start": 1})
)


@pytest.fixture
def fuzz() -> ModuleType:
    """Schemathesis and Hypothesis, with examples that are the same every time."""
    return importlib.import_module("tests.service.fuzzing")


@pytest.fixture
def described(queue, monkeypatch, fuzz) -> Any:
    """The description of a service that keeps videos and makes none; names are not looked up."""

    def unknown(*arguments: Any, **options: Any) -> Any:
        raise socket.gaierror("There is no network.")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    return fuzz.schemathesis.openapi.from_asgi(
        "/openapi.json", create_app(queue, replace(SETTINGS, hosts=("testserver", "localhost")))
    )


def test_forms_that_could_be_taken(described, queue, picture, voice, fuzz) -> None:
    operation = described["/v1/videos"]["POST"]
    image, sound, answers = picture.read_bytes(), voice.read_bytes(), Counter()

    @fuzz.seed(1)
    @fuzz.few(60)
    @fuzz.given(case=operation.as_strategy(), data=fuzz.st.data())
    def send(case: Any, data: Any) -> None:
        drawn = case.body if isinstance(case.body, dict) else {}
        kept = data.draw(fuzz.st.sets(fuzz.st.sampled_from(sorted({*drawn, "seed"} - {"image", "audio"})), max_size=2))
        body = {name: drawn[name] for name in kept if name in drawn} | {"image": image}
        if (way := data.draw(fuzz.st.sampled_from(["audio", "people", "timeline", "script"]))) == "script":
            body["script"] = data.draw(fuzz.st.sampled_from(SCRIPTS))
        else:
            body["audio"] = [sound] * data.draw(fuzz.st.integers(1, 2))
        if way in ("people", "timeline"):
            body[way] = json.dumps(data.draw(fuzz.st.sampled_from(PEOPLE if way == "people" else TIMELINES)))
        case.body, case.media_type, case.headers = body, "multipart/form-data", {}
        answer = case.call()
        case.validate_response(answer, checks=fuzz.CHECKS)
        answers[answer.status_code] += 1
        if queue.store.counts()[State.queued] > 20:
            finish(queue)

    send()
    assert answers[200] >= 12, answers
    assert answers[400] >= 12, answers
    assert set(answers) <= {200, 400, 422, 429}
    assert len(queue.list()) == answers[200]


def test_any_request(described, queue, picture, voice, fuzz) -> None:
    ids = [queue.submit(VideoRequest(seed=number), picture, [voice]).id for number in range(8)]
    finish(queue)
    answers: Counter[int] = Counter()
    for result in described.get_all_operations():
        operation = result.ok()
        for mode in fuzz.schemathesis.GenerationMode:

            @fuzz.seed(1)
            @fuzz.few(6)
            @fuzz.given(case=operation.as_strategy(generation_mode=mode), data=fuzz.st.data())
            def send(case: Any, data: Any) -> None:
                if "id" in (case.path_parameters or {}) and data.draw(fuzz.st.booleans()):
                    case.path_parameters["id"] = data.draw(fuzz.st.sampled_from(ids))
                if case.path.endswith("/events"):  # of a video that waits they would not end
                    for job in queue.list():
                        queue.cancel(job.id)
                answer = case.call()
                case.validate_response(answer, checks=fuzz.CHECKS)
                answers[answer.status_code] += 1

            with suppress(fuzz.hypothesis.errors.Unsatisfiable):  # where nothing is asked for, nothing can be wrong
                send()
    assert {200, 404, 409, 422} <= set(answers), answers
