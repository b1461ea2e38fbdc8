"""Content credentials of a video: they hold while it is as it was made."""

from __future__ import annotations

import json

import numpy as np
import pytest

from anytalker.errors import AnyTalkerError, InputError
from anytalker.media.credentials import Credentials
from anytalker.media.marks import SOURCE_TYPE, read_settings, read_xmp
from anytalker.media.video import read_video, write_video
from tests.media.certificates import write_certificate

c2pa = pytest.importorskip("c2pa")
pytest.importorskip("cryptography")


@pytest.fixture
def credentials(tmp_path) -> Credentials:
    return Credentials(*write_certificate(tmp_path))


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "talk.mp4"
    write_video(path, np.zeros((5, 64, 64, 3), np.uint8), 10, np.zeros(8000, np.float32), settings="{}")
    return path


def test_a_signed_video_says_that_a_model_made_it(credentials, video) -> None:
    credentials.check()
    credentials.sign(video)
    said = json.loads(c2pa.Reader(str(video)).json())
    manifest = said["manifests"][said["active_manifest"]]
    actions = next(one for one in manifest["assertions"] if one["label"].startswith("c2pa.actions"))
    assert actions["data"]["actions"][0]["digitalSourceType"] == SOURCE_TYPE
    wrong = {one["code"] for one in said.get("validation_status", [])}
    assert wrong <= {"signingCredential.untrusted"}
    assert len(read_video(video)[0]) == 5
    assert SOURCE_TYPE in read_xmp(video)
    assert read_settings(video) == "{}"


def test_a_changed_video_is_noticed(credentials, video) -> None:
    credentials.sign(video)
    data = bytearray(video.read_bytes())
    data[data.index(b"mdat") + 40] ^= 1
    video.write_bytes(data)
    said = json.loads(c2pa.Reader(str(video)).json())
    assert "assertion.bmffHash.mismatch" in {one["code"] for one in said["validation_status"]}


def test_what_can_not_sign_is_refused(tmp_path, credentials) -> None:
    (tmp_path / "none.pem").write_text("nothing")
    for wrong in (
        Credentials(tmp_path / "none.pem", credentials.key),
        Credentials(tmp_path / "missing.pem", credentials.key),
        Credentials(credentials.certificate, tmp_path / "none.pem"),
        Credentials(credentials.certificate, credentials.key, "md5"),
    ):
        with pytest.raises(InputError):
            wrong.check()


def test_what_is_no_video_is_left_alone(tmp_path, credentials) -> None:
    path = tmp_path / "talk.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(AnyTalkerError, match="can't be signed"):
        credentials.sign(path)
    assert path.read_bytes() == b"no video"
