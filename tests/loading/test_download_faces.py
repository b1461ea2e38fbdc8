"""The downloadable face detector: fetched once, put where it is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from anytalker.conditioning.faces import yunet_path
from anytalker.errors import AnyTalkerError
from anytalker.loading.download import YUNET, HubFile, download_faces


class OneFileHub:
    def __init__(self, name: str) -> None:
        self.name, self.fetched = name, 0

    def files(self, repository: str) -> list[HubFile]:
        return [HubFile(repository, self.name, 4, None)]

    def license(self, repository: str) -> str:
        return "mit"

    def fetch(self, file: HubFile, folder: Path) -> Path:
        self.fetched += 1
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file.path).write_bytes(b"onnx")
        return folder / file.path


def test_yunet_is_fetched_once(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ANYTALKER_HOME", str(tmp_path))
    hub, said = OneFileHub(yunet_path().name), []
    assert download_faces(hub, said.append) == yunet_path()
    assert yunet_path().read_bytes() == b"onnx"
    assert said[0] == f"{YUNET}: licence mit"
    download_faces(hub, said.append)
    assert hub.fetched == 1


def test_a_moved_file_is_said(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ANYTALKER_HOME", str(tmp_path))
    with pytest.raises(AnyTalkerError, match="may have moved"):
        download_faces(OneFileHub("other.onnx"))
