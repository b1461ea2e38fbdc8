"""Downloads from a hub that these tests serve themselves: whole, resumed, checked, refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from anytalker import AnyTalkerPipeline, InputError
from anytalker.errors import AnyTalkerError
from anytalker.loading import download as module
from anytalker.loading.components import model_folder
from anytalker.loading.download import Hub, download
from anytalker.loading.presets import PRESETS
from anytalker.models.conversion import to_release
from tests.loading.full_size import small_parts

REVISION = "0" * 39 + "1"
CHECKPOINT = "1_3B-single-v1.pth"


class FakeHub:
    """Serves repositories from folders the way the hub does, and counts the bytes it sent of each file.

    `cut_after` ends the connection after so many bytes of a file named in it and refuses the file from then on. `gate`
    is what it says in place of a repository, if anything.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.sent, self.cut_after, self.refused, self.gate = root, {}, {}, set(), ""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *arguments) -> None:
                pass

            def do_GET(self) -> None:
                hub.answer(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.partition("?")[0].strip("/")
        if path.startswith("api/models/") and self.gate:
            return self.send(handler, 403, b"", headers={"X-Error-Code": "GatedRepo", "X-Error-Message": self.gate})
        if path.startswith("api/models/"):
            body = json.dumps(self.info(path.removeprefix("api/models/"))).encode()
            return self.send(handler, 200, body)
        owner, name, _, revision, file = path.split("/", 4)
        assert revision == REVISION
        source = self.root / owner / name / file
        if file in self.refused or not source.is_file():
            return self.send(handler, 500, b"")
        start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        body = source.read_bytes()[start:]
        length, cut = len(body), self.cut_after.pop(file, None)
        if cut is not None:
            body = body[:cut]
            self.refused.add(file)
        self.sent[file] = self.sent.get(file, 0) + len(body)
        self.send(handler, 206 if start else 200, body, length)

    def send(self, handler, status: int, body: bytes, length: int | None = None, headers: dict | None = None) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    def info(self, repository: str) -> dict:
        folder = self.root / repository.partition("/revision/")[0]
        siblings = []
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            content = file.read_bytes()
            entry = {"rfilename": str(file.relative_to(folder)), "size": len(content)}
            if file.suffix in (".pth", ".safetensors"):
                entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 1}
            siblings.append(entry)
        return {"id": repository, "sha": REVISION, "siblings": siblings, "cardData": {"license": "apache-2.0"}}


@pytest.fixture(scope="module")
def repositories(tmp_path_factory) -> Path:
    """Small repositories of the very names and formats that the preset 1.3b names."""
    root = tmp_path_factory.mktemp("hub")
    parts, preset = small_parts(), PRESETS["1.3b"]
    for name, part in preset.parts.items():
        parts[name].save_pretrained(root / part.repository / part.folder)
    (root / preset.parts["audio_features"].repository / "pytorch_model.bin").write_bytes(b"not wanted")
    release = root / preset.repository
    release.mkdir(parents=True)
    weights, config = to_release(parts["transformer"])
    torch.save(weights, release / CHECKPOINT)
    (release / "config_af2v_1_3B.json").write_text(json.dumps(config))
    (release / "14B-multi-v1.pth").write_bytes(b"another model")
    (release / "config_af2v_14B.json").write_text("{}")
    return root


@pytest.fixture
def hub(repositories, monkeypatch) -> Iterator[FakeHub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    served = FakeHub(repositories)
    yield served
    served.server.shutdown()
    served.server.server_close()


def test_a_downloaded_preset_is_complete_and_generates(hub, tmp_path, monkeypatch) -> None:
    lines: list[str] = []
    folder = download("1.3b", Hub(hub.endpoint), tmp_path / "models", lines.append)
    assert folder == tmp_path / "models" / "1.3b"
    assert sum("licence apache-2.0" in line for line in lines) == 3
    assert "14B-multi-v1.pth" not in hub.sent
    assert "pytorch_model.bin" not in hub.sent
    monkeypatch.setenv("ANYTALKER_HOME", str(tmp_path))
    assert model_folder("1.3b") == folder
    pipeline = AnyTalkerPipeline.from_pretrained("1.3b")
    expected = small_parts()["transformer"].state_dict()
    loaded = pipeline.transformer.state_dict()
    assert set(loaded) == set(expected)
    assert all(torch.equal(loaded[key], value) for key, value in expected.items())
    assert not (folder / "release").exists()
    sent = dict(hub.sent)
    assert download("1.3b", Hub(hub.endpoint), tmp_path / "models") == folder
    assert hub.sent == sent


def test_an_interrupted_download_goes_on_in_the_middle_of_a_file(hub, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ANYTALKER_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1024)
    hub.cut_after[CHECKPOINT] = 10 * 1024
    with pytest.raises(AnyTalkerError, match=f"{CHECKPOINT}.*goes on where it stopped"):
        download("1.3b", Hub(hub.endpoint))
    with pytest.raises(InputError, match=r"anytalker download 1\.3b"):
        model_folder("1.3b")
    hub.refused.clear()
    folder = download("1.3b", Hub(hub.endpoint))
    assert model_folder("1.3b") == folder
    for file, count in hub.sent.items():
        sizes = {path.stat().st_size for path in hub.root.rglob(Path(file).name) if str(path).endswith(file)}
        assert count in sizes, f"{file} was sent more than once"


def test_a_file_is_downloaded_by_one_command_at_a_time(hub, tmp_path) -> None:
    refused = []

    class Interrupting(Hub):
        def fetch(self, file, folder):
            if not refused:
                with pytest.raises(InputError, match="is being downloaded by another command") as caught:
                    download("1.3b", Hub(hub.endpoint), tmp_path)
                refused.append(caught.value)
            return super().fetch(file, folder)

    assert (download("1.3b", Interrupting(hub.endpoint), tmp_path) / "anytalker.json").is_file()
    assert refused


def test_a_file_that_differs_from_the_hubs_checksum_is_refused(hub, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "file_digest", lambda path: "0" * 64)
    with pytest.raises(AnyTalkerError, match="another checksum than on the hub"):
        download("1.3b", Hub(hub.endpoint), tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_full_disk_is_said_before_anything_is_sent(hub, tmp_path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(InputError, match="ANYTALKER_HOME"):
        download("1.3b", Hub(hub.endpoint), tmp_path / "models")
    assert not hub.sent


def test_what_an_interrupted_download_has_left_takes_no_more_room(tmp_path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=module._MARGIN + 1000))
    entry = module.Download(module.HubFile("some/model", "sub/a[1].pth", 6000, None), tmp_path / "a.pth")
    with pytest.raises(InputError, match="free disk"):
        module._check_space([entry], 0, tmp_path)
    begun = tmp_path / ".downloads" / "some--model" / "sub" / "a[1].pth.0f.partial"
    begun.parent.mkdir(parents=True)
    begun.write_bytes(bytes(5000))
    module._check_space([entry], 0, tmp_path)


def test_a_gated_repository_is_told_in_the_hubs_words(hub, tmp_path) -> None:
    hub.gate = "Access to this model is restricted. You must be authenticated to access it."
    with pytest.raises(AnyTalkerError, match=r"can't be reached \(.*Access to this model is restricted\. You must be"):
        download("1.3b", Hub(hub.endpoint), tmp_path)


def test_an_unreachable_hub_and_unknown_models_are_named(hub, tmp_path) -> None:
    with pytest.raises(InputError, match=r"'big'.*1\.3b, 14b"):
        download("big", Hub(hub.endpoint), tmp_path)
    hub.server.server_close()
    hub.server.shutdown()
    with pytest.raises(AnyTalkerError, match="can't be reached"):
        download("1.3b", Hub("http://127.0.0.1:9"), tmp_path)
