"""Checkpoint files: converted tensor by tensor, and refused with a clear line where they are bad."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from anytalker import AnyTalkerTransformer3DModel, InputError
from anytalker.checkpoints import tensors as checkpoints
from anytalker.checkpoints.tensors import Checkpoint, write_shards
from anytalker.cli.app import app
from anytalker.loading.convert import convert
from anytalker.models.conversion import to_release
from tests.models.test_transformer import small_model


def write_release(folder: Path, kind: str, layout: str = "A") -> Path:
    """A small release checkpoint with its configuration; its path."""
    folder.mkdir()
    weights, config = to_release(small_model(audio_face_layout=layout))
    (folder / "config_af2v_small.json").write_text(json.dumps(config))
    if kind == "sharded":
        write_shards(iter(weights.items()), folder, "weights", shard_bytes=50_000)
        return folder / "weights.safetensors.index.json"
    path = folder / f"small.{kind}"
    if kind == "pth":
        torch.save({"model": weights}, path)
    else:
        save_file(weights, path)
    return path


@pytest.mark.parametrize("layout", ["A", "B"])
@pytest.mark.parametrize("kind", ["pth", "safetensors", "sharded"])
def test_every_kind_of_file_converts_and_comes_back(tmp_path, kind: str, layout: str, monkeypatch) -> None:
    monkeypatch.setattr(checkpoints.write_shards, "__defaults__", (40_000,))
    source = write_release(tmp_path / "release", kind, layout)
    done = convert(source, tmp_path / "ours")
    assert done.layout == layout
    assert len(done.files) > 3
    ours = AnyTalkerTransformer3DModel.from_pretrained(tmp_path / "ours")
    expected = small_model(audio_face_layout=layout).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in ours.state_dict().items())
    assert done.tensors == len(expected)
    for name in ("back.pth", "back.safetensors"):
        convert(tmp_path / "ours", tmp_path / name)
        with Checkpoint(source) as given, Checkpoint(tmp_path / name) as back:
            assert set(given) == set(back)
            assert all(torch.equal(given[key], back[key]) for key in given)
    assert json.loads((tmp_path / "back.json").read_text()) == json.loads(
        (tmp_path / "release" / "config_af2v_small.json").read_text()
    )


class Harmful:
    def __reduce__(self):
        return (print, ("code was run",))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def harm(path: Path) -> None:
    torch.save({"model": {"a": Harmful()}}, path)


def other_things(path: Path) -> None:
    torch.save({"model": [1, 2, 3]}, path)


@pytest.mark.parametrize(
    ("kind", "damage", "reason"),
    [
        ("pth", cut, "damaged or cut off"),
        ("safetensors", cut, "damaged or cut off"),
        ("pth", harm, "could run code"),
        ("pth", other_things, "something else than named tensors"),
        ("pth", lambda path: path.write_bytes(b""), "damaged or cut off"),
        (
            "sharded",
            lambda path: next(path.parent.glob("*-00002.safetensors")).unlink(),
            "00002.safetensors is missing",
        ),
        ("sharded", lambda path: path.write_text("{}"), "damaged"),
        ("pth", lambda path: (path.parent / "config_af2v_small.json").unlink(), "beside it there is none"),
        ("pth", lambda path: (path.parent / "config_af2v_small.json").write_text("{"), "not JSON"),
        ("pth", lambda path: path.unlink(), "no checkpoint"),
    ],
)
def test_bad_files_are_named_and_leave_nothing(tmp_path, capfd, kind: str, damage, reason: str) -> None:
    source = write_release(tmp_path / "release", kind)
    damage(source)
    with pytest.raises(InputError, match=reason):
        convert(source, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
    assert "code was run" not in capfd.readouterr().out


def test_wrong_places_and_folders_are_named(tmp_path) -> None:
    source = write_release(tmp_path / "release", "pth")
    with pytest.raises(InputError, match="must be a folder"):
        convert(source, tmp_path / "ours.pth")
    convert(source, tmp_path / "ours")
    with pytest.raises(InputError, match=r"must end in \.safetensors or \.pth"):
        convert(tmp_path / "ours", tmp_path / "folder")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no checkpoint"):
        convert(tmp_path / "empty", tmp_path / "more")
    save_file({"a": torch.zeros(1)}, tmp_path / "release" / "one.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "release" / "two.safetensors")
    with pytest.raises(InputError, match="several checkpoints"):
        convert(tmp_path / "release", tmp_path / "more")


def test_the_configuration_beside_a_converted_file_replaces_nothing(tmp_path) -> None:
    (tmp_path / "talk.json").write_text("{}")
    result = CliRunner().invoke(app, ["convert", str(tmp_path / "ours"), str(tmp_path / "talk.pth")])
    assert isinstance(result.exception, InputError)
    assert "talk.json is there already" in str(result.exception)


def test_shards_never_lie_outside_their_folder(tmp_path) -> None:
    (tmp_path / "w.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(InputError, match="outside"):
        Checkpoint(tmp_path)
