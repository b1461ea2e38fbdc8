"""Requests that Schemathesis makes from the description: whatever is sent, the service answers as it says it does."""

from __future__ import annotations

import json
import socket
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from anytalker.queue.record import State
from anytalker.queue.request import VideoRequest
from anytalker.service.app import create_app
from tests.service.conftest import SETTINGS, finish

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
hypothesis = pytest.importorskip("hypothesis")
given, seed, st = hypothesis.given, hypothesis.seed, hypothesis.strategies

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undecoded")]
known = pytest.importorskip("schemathesis.specs.openapi.checks")
CHECKS = [
    schemathesis.checks.not_a_server_error,
    known.status_code_conformance,
    known.content_type_conformance,
    known.response_schema_conformance,
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


def few(count: int) -> Any:
    """The same examples every time."""
    only = {"phases": (hypothesis.Phase.generate,), "suppress_health_check": tuple(hypothesis.HealthCheck)}
    return hypothesis.settings(max_examples=count, deadline=None, database=None, **only)


@pytest.fixture
def described(queue, monkeypatch) -> Any:
    """The description of a service that keeps videos and makes none; names are not looked up."""

    def unknown(*arguments: Any, **options: Any) -> Any:
        raise socket.gaierror("There is no network.")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    return schemathesis.openapi.from_asgi(
        "/openapi.json", create_app(queue, replace(SETTINGS, hosts=("testserver", "localhost")))
    )


def test_forms_that_could_be_taken(described, queue, picture, voice) -> None:
    operation = described["/v1/videos"]["POST"]
    image, sound, answers = picture.read_bytes(), voice.read_bytes(), Counter()

    @seed(1)
    @few(60)
    @given(case=operation.as_strategy(), data=st.data())
    def send(case: Any, data: Any) -> None:
        drawn = case.body if isinstance(case.body, dict) else {}
        kept = data.draw(st.sets(st.sampled_from(sorted({*drawn, "seed"} - {"image", "audio"})), max_size=2))
        body = {name: drawn[name] for name in kept if name in drawn} | {"image": image}
        if (way := data.draw(st.sampled_from(["audio", "people", "timeline", "script"]))) == "script":
            body["script"] = data.draw(st.sampled_from(SCRIPTS))
        else:
            body["audio"] = [sound] * data.draw(st.integers(1, 2))
        if way in ("people", "timeline"):
            body[way] = json.dumps(data.draw(st.sampled_from(PEOPLE if way == "people" else TIMELINES)))
        case.body, case.media_type, case.headers = body, "multipart/form-data", {}
        answer = case.call()
        case.validate_response(answer, checks=CHECKS)
        answers[answer.status_code] += 1
        if queue.store.counts()[State.queued] > 20:
            finish(queue)

    send()
    assert answers[200] >= 12, answers
    assert answers[400] >= 12, answers
    assert set(answers) <= {200, 400, 422, 429}
    assert len(queue.list()) == answers[200]


def test_any_request(described, queue, picture, voice) -> None:
    ids = [queue.submit(VideoRequest(seed=number), picture, [voice]).id for number in range(8)]
    finish(queue)
    answers: Counter[int] = Counter()
    for result in described.get_all_operations():
        operation = result.ok()
        for mode in schemathesis.GenerationMode:

            @seed(1)
            @few(6)
            @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
            def send(case: Any, data: Any) -> None:
                if "id" in (case.path_parameters or {}) and data.draw(st.booleans()):
                    case.path_parameters["id"] = data.draw(st.sampled_from(ids))
                if case.path.endswith("/events"):  # of a video that waits they would not end
                    for job in queue.list():
                        queue.cancel(job.id)
                answer = case.call()
                case.validate_response(answer, checks=CHECKS)
                answers[answer.status_code] += 1

            with suppress(hypothesis.errors.Unsatisfiable):  # where nothing is asked for, nothing can be wrong
                send()
    assert {200, 404, 409, 422} <= set(answers), answers
