"""The life of a video over HTTP."""

from __future__ import annotations

import errno
import json
from contextlib import ExitStack

import pytest
from PIL import Image

from anytalker.queue.record import Failure
from anytalker.queue.video_queue import PREVIEW
from anytalker.service.settings import Limits
from tests.service.conftest import bearer, finish

WAITING = {"object": "video", "status": "queued", "progress": 0, "queue_position": 0, "model": "tiny", "error": None}

pytestmark = pytest.mark.usefixtures("undecoded")


def test_a_video_is_queued_and_looked_at(client, form, queue) -> None:
    answer = client.post("/v1/videos", **form(seed=5, max_frames=9, steps=1, prompt="they talk"))
    assert answer.status_code == 200
    video = answer.json()
    assert {name: video[name] for name in WAITING} == WAITING
    assert client.get(f"/v1/videos/{video['id']}").json() == video
    job = queue.get(video["id"])
    assert (job.request.seed, job.request.max_frames, job.request.num_inference_steps) == (5, 9, 1)
    assert job.request.prompt == "they talk"
    names = {path.name for path in queue.folder_of(job.id).iterdir()}
    assert names == {"image.png", "voice-1.wav"}


def test_audio_none_is_somebody_who_listens(client, form, picture, voice, queue) -> None:
    files = [("image", picture.read_bytes()), ("audio", (None, "none")), ("audio", ("b.wav", voice.read_bytes()))]
    video = client.post("/v1/videos", **form(files)).json()
    assert [person["audio"] for person in video["people"]] == [None, 1]


def test_people_name_their_audio_by_number_by_file_or_in_order(client, form, picture, voice) -> None:
    sound = voice.read_bytes()
    files = [("image", picture.read_bytes()), ("audio", ("a.wav", sound)), ("audio", ("b.wav", sound))]
    people = [
        {"audio": "b.wav", "order": 1, "name": "Ben"},
        {"audio": "none", "order": 3},
        {"audio": 1, "point": [9, 8]},
    ]
    video = client.post("/v1/videos", **form(files, people=people)).json()
    shown = [(one["audio"], one["order"], one["point"], one["name"]) for one in video["people"]]
    assert shown == [(2, 1, None, "Ben"), (None, 3, None, None), (1, None, [9, 8], None)]
    video = client.post("/v1/videos", **form(files, people=[{"box": [1, 2, 30, 40]}, {"order": 2}])).json()
    assert [one["audio"] for one in video["people"]] == [1, 2]


def test_a_timeline_names_sounds_by_number(client, form, queue) -> None:
    turns = [{"person": "Anna", "start": 0, "end": 0.4, "sound": {"file": 1}}]
    timeline = {"people": [{"name": "Anna"}, {"name": "Ben"}], "turns": turns}
    video = client.post("/v1/videos", **form(timeline=timeline)).json()
    assert queue.get(video["id"]).request.timeline.turns[0].sound.file == "voice-1.wav"


def test_a_timeline_counts_audio_parts_that_are_none(client, form, picture, voice, queue) -> None:
    sound = voice.read_bytes()
    files = [("image", picture.read_bytes()), ("audio", (None, "none"))]
    files += [("audio", ("anna.wav", sound)), ("audio", ("ben.wav", sound))]

    def ask(number: int):
        turns = [{"person": "Anna", "start": 0, "end": 0.4, "sound": number}]
        return client.post("/v1/videos", **form(files, timeline={"people": [{"name": "Anna"}], "turns": turns}))

    assert queue.get(ask(2).json()["id"]).request.timeline.turns[0].sound.file == "voice-1.wav"
    for number in (1, 4):
        assert "no recording in that audio part" in ask(number).json()["error"]["message"]


def test_half_a_character_is_refused(client, form) -> None:
    turns = [{"person": "Anna", "start": 0, "end": 0.4, "sound": 1, "direction": "\ud800"}]
    answer = client.post("/v1/videos", **form(timeline={"people": [{"name": "Anna"}], "turns": turns}))
    assert (answer.status_code, "half of a character" in answer.text) == (400, True)


def test_a_full_disk_is_no_error_of_ours(client, form, queue, monkeypatch) -> None:
    def full(*given: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(queue, "submit", full)
    answer = client.post("/v1/videos", **form())
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "storage_full")
    assert int(answer.headers["retry-after"]) > 0


def test_the_description_gives_this_services_limits(client) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/v1/videos"]["post"]
    fields = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert (fields["num_inference_steps"]["maximum"], fields["scale"]["maximum"]) == (100, 4)
    assert "1 to 100;" in fields["num_inference_steps"]["description"]


def test_a_script_needs_no_audio(client, form, picture, queue) -> None:
    people = [{"name": "Anna", "order": 2}]
    answer = client.post("/v1/videos", **form([("image", picture.read_bytes())], script="Anna: Hi!", people=people))
    assert queue.get(answer.json()["id"]).request.script == "Anna: Hi!"


def test_the_list_has_pages(client, form) -> None:
    ids = [client.post("/v1/videos", **form(seed=seed)).json()["id"] for seed in range(3)]
    first = client.get("/v1/videos", params={"limit": 2}).json()
    assert ([video["id"] for video in first["data"]], first["has_more"]) == ([ids[2], ids[1]], True)
    rest = client.get("/v1/videos", params={"limit": 2, "after": first["last_id"]}).json()
    assert ([video["id"] for video in rest["data"]], rest["has_more"]) == ([ids[0]], False)
    assert client.get("/v1/videos", params={"order": "asc"}).json()["first_id"] == ids[0]


def test_what_is_there_is_sent_and_what_is_not_yet_is_a_conflict(client, form, queue) -> None:
    id = client.post("/v1/videos", **form()).json()["id"]
    for part in ("content", "record", "preview"):
        answer = client.get(f"/v1/videos/{id}/{part}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_ready")
    finish(queue, b"0123456789")
    Image.new("RGB", (8, 8)).save(queue.folder_of(id) / PREVIEW)
    answer = client.get(f"/v1/videos/{id}/content")
    assert (answer.content, answer.headers["content-type"]) == (b"0123456789", "video/mp4")
    assert client.get(f"/v1/videos/{id}/content", headers={"Range": "bytes=2-4"}).content == b"234"
    assert client.get(f"/v1/videos/{id}/record").json() == {}
    assert client.get(f"/v1/videos/{id}/preview").headers["content-type"] == "image/jpeg"
    video = client.get(f"/v1/videos/{id}").json()
    assert (video["status"], video["progress"], video["queue_position"]) == ("completed", 100, None)


def test_a_video_that_failed_says_why(client, form, queue) -> None:
    id = client.post("/v1/videos", **form()).json()["id"]
    queue.store.fail(queue.store.claim("w", 60), Failure("invalid_input", "No face."), 1, None)
    video = client.get(f"/v1/videos/{id}").json()
    assert (video["status"], video["error"]) == ("failed", {"code": "invalid_input", "message": "No face."})
    assert client.post(f"/v1/videos/{id}/retry").json()["status"] == "queued"


def test_deleting_cancels_first(client, form, queue) -> None:
    id = client.post("/v1/videos", **form()).json()["id"]
    gone = {"id": id, "object": "video", "deleted": False, "status": "cancelled"}
    assert client.delete(f"/v1/videos/{id}").json() == gone
    assert client.get(f"/v1/videos/{id}").json()["status"] == "cancelled"
    assert client.delete(f"/v1/videos/{id}").json()["deleted"] is True
    assert client.get(f"/v1/videos/{id}").status_code == 404
    assert not queue.folder_of(id).exists()


def test_events_tell_every_moment_and_end(client, form, queue) -> None:
    id = client.post("/v1/videos", **form()).json()["id"]
    with client.stream("GET", f"/v1/videos/{id}/events") as answer:
        lines = answer.iter_lines()
        seen = [next(line for line in lines if line.startswith("event: "))]
        finish(queue)
        rest = list(lines)
        seen += [line for line in rest if line.startswith("event: ")]
    assert (seen[0], seen[-1]) == ("event: queued", "event: completed")
    last = json.loads([line for line in rest if line.startswith("data: ")][-1].removeprefix("data: "))
    assert (last["id"], last["progress"]) == (id, 100)


def test_an_idempotency_key_makes_one_video(client, form, queue) -> None:
    headers = {"Idempotency-Key": "order 1"}
    first = client.post("/v1/videos", **form(seed=1, headers=headers)).json()["id"]
    assert client.post("/v1/videos", **form(seed=1, headers=headers)).json()["id"] == first
    answer = client.post("/v1/videos", **form(seed=2, headers=headers))
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "key_conflict")
    assert len(queue.list()) == 1


def test_keys_let_in_and_keep_apart(client_of, form, keys) -> None:
    client = client_of(keys=keys["file"])
    assert client.get("/v1/videos").status_code == 401
    assert client.get("/v1/videos", headers=bearer("at_wrong")).status_code == 401
    assert client.get("/metrics").status_code == 401
    assert client.get("/healthz").status_code == 200
    id = client.post("/v1/videos", **form(headers=bearer(keys["anna"]))).json()["id"]
    assert client.get(f"/v1/videos/{id}", headers=bearer(keys["anna"])).status_code == 200
    assert client.get(f"/v1/videos/{id}", headers=bearer(keys["ben"])).status_code == 404
    assert client.delete(f"/v1/videos/{id}", headers=bearer(keys["ben"])).status_code == 404
    keys["file"].remove("anna")
    assert client.get(f"/v1/videos/{id}", headers=bearer(keys["anna"])).status_code == 401


def test_limits_of_a_key(client_of, form, keys) -> None:
    client = client_of(keys=keys["file"])
    statuses = [client.post("/v1/videos", **form(headers=bearer(keys["anna"]))) for _ in range(3)]
    assert [answer.status_code for answer in statuses] == [200, 200, 429]
    assert (statuses[2].json()["error"]["code"], statuses[2].headers["retry-after"]) == ("too_many_jobs", "30")
    asked = [client.get("/v1/videos", headers=bearer(keys["ben"])) for _ in range(4)]
    assert [answer.status_code for answer in asked] == [200, 200, 200, 429]
    assert 1 <= int(asked[3].headers["retry-after"]) <= 20


def test_a_full_queue_refuses_and_has_room_again(client, form, queue) -> None:
    object.__setattr__(queue.settings.bounds, "waiting", 1)
    assert client.post("/v1/videos", **form()).status_code == 200
    answer = client.post("/v1/videos", **form())
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
    assert int(answer.headers["retry-after"]) > 0
    finish(queue)
    assert client.post("/v1/videos", **form()).status_code == 200


def test_health_metrics_and_the_page(client, form) -> None:
    client.post("/v1/videos", **form())
    health = client.get("/healthz").json()
    assert (health["status"], health["workers"], health["failing"], health["queued"]) == ("ok", 0, 0, 1)
    text = client.get("/metrics").text
    assert 'anytalker_videos{status="queued"} 1.0' in text
    assert 'anytalker_requests_total{method="POST",route="/v1/videos",status="200"} 1.0' in text
    page = client.get("/docs").text
    assert "POST /v1/videos" in page
    assert "<script" not in page
    assert "/v1/videos/{id}/content" in client.get("/openapi.json").json()["paths"]


def test_a_log_holds_no_contents(client, form, caplog) -> None:
    with caplog.at_level("INFO", "anytalker"):
        client.post("/v1/videos", **form(prompt="something private"))
    records = [record for record in caplog.records if record.getMessage() == "request"]
    assert [(record.method, record.route, record.status) for record in records] == [("POST", "/v1/videos", 200)]
    assert "private" not in str([vars(record) for record in caplog.records])


@pytest.mark.parametrize(
    "text", ["model", "seed", "people", "timeline", "script", "webhook_url", "num_inference_steps"]
)
def test_the_description_names_the_fields(client, text) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/v1/videos"]["post"]
    assert text in operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]


def test_streams_have_room_again(client_of, form, queue) -> None:
    client = client_of(limits=Limits(streams=1))
    id = client.post("/v1/videos", **form()).json()["id"]
    queue.cancel(id)
    for _ in range(3):
        assert "event: cancelled" in client.get(f"/v1/videos/{id}/events").text
    with client.app.state.service.streams.one("local"):
        answer = client.get(f"/v1/videos/{id}/events")
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "busy")


@pytest.mark.parametrize("kind", ["uploads", "streams"])
def test_one_holder_of_a_key_can_not_take_all_places(client_of, keys, form, queue, kind) -> None:
    client = client_of(keys=keys["file"], limits=Limits(streams=4))
    places = getattr(client.app.state.service, kind)
    ids = {name: client.post("/v1/videos", **form(headers=bearer(keys[name]))).json()["id"] for name in ("anna", "ben")}
    queue.cancel(ids["anna"])
    queue.cancel(ids["ben"])

    def ask(name: str) -> int:
        if kind == "uploads":
            return client.post("/v1/videos", **form(headers=bearer(keys[name]))).status_code
        return client.get(f"/v1/videos/{ids[name]}/events", headers=bearer(keys[name])).status_code

    with ExitStack() as held:
        for _ in range(places._count // 2):
            held.enter_context(places.one("anna"))
        assert (ask("anna"), ask("ben")) == (429, 200)
    assert ask("anna") == 200
