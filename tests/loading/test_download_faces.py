"""Files that are downloaded by themselves: the face detector and the separator, once, to where they are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from anytalker.conditioning.faces import yunet_path
from anytalker.errors import AnyTalkerError
from anytalker.hashing import file_digest
from anytalker.loading import download as module
from anytalker.loading.download import SEPARATOR, YUNET, HubFile, download_faces, download_separator
from anytalker.loading.separator import KNOWN, separator_path


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
        (folder / file.path).parent.mkdir(exist_ok=True)
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


def test_a_separator_is_fetched_once_and_only_the_one_that_is_known(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ANYTALKER_HOME", str(tmp_path))
    hub, said = OneFileHub("audio_separator/Kim_Vocal_2.onnx"), []
    with pytest.raises(AnyTalkerError, match="checksum"):
        download_separator(hub=hub, log=said.append)
    assert not separator_path("Kim_Vocal_2").exists()
    (tmp_path / "same").write_bytes(b"onnx")
    monkeypatch.setitem(KNOWN, "Kim_Vocal_2", file_digest(tmp_path / "same"))
    assert download_separator(hub=hub, log=said.append) == separator_path("Kim_Vocal_2")
    assert said[0].startswith(f"{SEPARATOR}: licence mit; ")
    monkeypatch.setattr(module, "can_separate", lambda: False)
    download_separator(hub=hub, log=said.append)
    assert hub.fetched == 2
    assert "is there already" in said[-1]
    with pytest.raises(AnyTalkerError, match="may have moved"):
        separator_path("Kim_Vocal_2").unlink()
        download_separator(hub=OneFileHub("other.onnx"))
