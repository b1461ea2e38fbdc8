"""Shards: what is written comes back, in an order that only the seed decides."""

from __future__ import annotations

import itertools
import random
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import torch

from anytalker import InputError
from anytalker.data import samples as samples_module
from anytalker.data import shards
from anytalker.data.samples import HeldSamples, StoredSamples
from anytalker.data.shards import ShardWriter, decode_sample, read_all, read_index
from anytalker.data.tars import Contents, kept_contents, read_tars, survey
from tests.training.fixtures import damage, sample, write_shards


def keys(samples: StoredSamples, stream: int, count: int, start: int = 0) -> list[int]:
    return [int(raw["__key__"]) for raw in itertools.islice(samples.read(stream, start), count)]


def test_samples_come_back_as_they_were_written(tmp_path) -> None:
    write_shards(tmp_path, clips=5, clips_per_shard=2)
    samples = list(read_all(tmp_path))
    assert [entry["key"] for entry in samples] == [f"{number:08d}" for number in range(5)]
    assert samples[3]["record"] == {"fps": 24.0}
    for name, tensor in sample(3).items():
        assert torch.equal(samples[3][name], tensor)


@pytest.mark.parametrize("kind", [StoredSamples, HeldSamples])
@pytest.mark.parametrize(("streams", "per_shard"), [(1, 3), (2, 3), (4, 5), (5, 6)])
def test_streams_share_every_epoch_without_doubles(tmp_path, kind, streams: int, per_shard: int) -> None:
    write_shards(tmp_path, clips=12, clips_per_shard=per_shard)
    samples = kind([tmp_path], streams, seed=1)
    lengths = [samples.length(number) for number in range(streams)]
    assert max(lengths) - min(lengths) <= 1
    first = [keys(samples, number, length) for number, length in enumerate(lengths)]
    assert sorted(itertools.chain(*first)) == list(range(12))
    second = [keys(samples, number, length, length) for number, length in enumerate(lengths)]
    assert sorted(itertools.chain(*second)) == list(range(12))
    assert first != second


@pytest.mark.parametrize("start", [0, 1, 5, 6, 11, 12, 13, 40])
def test_reading_from_the_middle_equals_skipping(tmp_path, start: int) -> None:
    write_shards(tmp_path)
    samples = StoredSamples([tmp_path], 2, seed=3)
    assert keys(StoredSamples([tmp_path], 2, seed=3), 0, 7, start) == keys(samples, 0, start + 7)[start:]


def test_another_seed_is_another_order(tmp_path) -> None:
    write_shards(tmp_path)
    assert keys(StoredSamples([tmp_path], 1, 1), 0, 12) != keys(StoredSamples([tmp_path], 1, 2), 0, 12)


def test_the_order_is_that_of_every_version(tmp_path) -> None:
    write_shards(tmp_path)
    assert keys(StoredSamples([tmp_path], 2, 3), 1, 8) == [3, 8, 1, 7, 11, 10, 0, 5], (
        "runs that are under way count on it"
    )


def test_held_samples_come_as_stored_ones(tmp_path) -> None:
    folders = [write_shards(tmp_path / str(number), clips=5 + number) for number in range(2)]
    stored, held = StoredSamples(folders, 3, seed=3), HeldSamples(folders, 3, seed=3)
    for stream in range(3):
        one, other = (list(itertools.islice(samples.read(stream, 2), 9)) for samples in (stored, held))
        assert one == other
        assert decode_sample(one[0]).keys() >= {"key", "record", "latents"}
    with pytest.raises(InputError, match=r"11 clips in .* can't be shared among 12 groups .* or fewer groups"):
        StoredSamples(folders, 12, seed=3)


def test_a_sample_is_read_and_nothing_else(tmp_path) -> None:
    write_shards(tmp_path, clips=8, clips_per_shard=4)
    wanted = list(read_all(tmp_path))[6]
    tar = tmp_path / "clips-000001.tar"
    start, end = kept_contents(tar, None).offsets[2:4]
    contents = tar.read_bytes()
    tar.write_bytes(bytes(start) + contents[start:end] + bytes(len(contents) - end))
    found = decode_sample(StoredSamples([tmp_path], 1, seed=0).sample(6))
    assert found["key"] == wanted["key"] == "00000006"
    assert torch.equal(found["latents"], wanted["latents"])


def forget(folder: Path) -> None:
    """Leave a folder as an earlier version left it, which kept nothing beside its tars."""
    for path in folder.glob("clips-*.json"):
        path.unlink()


@pytest.mark.parametrize("writable", [True, False])
def test_a_folder_of_an_earlier_version_is_surveyed_once(tmp_path, monkeypatch, writable: bool) -> None:
    write_shards(tmp_path, clips=8, clips_per_shard=3)
    order = keys(StoredSamples([tmp_path], 1, seed=0), 0, 12)
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("clips-*.json")}
    forget(tmp_path)
    surveyed: list[str] = []
    monkeypatch.setattr(samples_module, "survey", lambda *about: (surveyed.append(about[1]), survey(*about))[1])
    if not writable:
        monkeypatch.setattr(Contents, "save", refuse)
    samples = StoredSamples([tmp_path], 1, seed=0)
    assert keys(samples, 0, 12) == order
    assert sorted(surveyed) == [f"clips-00000{number}.tar" for number in range(3)]
    again = {path.name: path.read_bytes() for path in tmp_path.glob("clips-*.json")}
    assert again == (kept if writable else {})


def refuse(*arguments) -> None:
    raise PermissionError(13, "Permission denied")


def test_what_is_kept_of_another_tar_is_not_believed(tmp_path) -> None:
    folders = [write_shards(tmp_path / str(size), clips=6, clips_per_shard=size) for size in (3, 2)]
    for other in folders[1].glob("clips-*.json"):
        other.replace(folders[0] / other.name)
    (folders[0] / "clips-000001.json").write_text("{")
    assert sorted(keys(StoredSamples(folders[:1], 1, seed=0), 0, 6)) == list(range(6))


@pytest.mark.parametrize("earlier", [False, True])
def test_a_folder_is_opened_again_without_reading_its_samples(tmp_path, monkeypatch, earlier: bool) -> None:
    write_shards(tmp_path, clips=7, clips_per_shard=3)
    before = read_index(tmp_path)
    if earlier:
        forget(tmp_path)
    monkeypatch.setattr(shards, "read_tars", lambda tars: pytest.fail(f"read {tars}"))
    with ShardWriter(tmp_path, 3) as writer:
        assert writer.keys == {f"{number:08d}" for number in range(7)}
    assert read_index(tmp_path) == before


def test_only_a_tar_that_nobody_knows_is_read(tmp_path, monkeypatch) -> None:
    write_shards(tmp_path, clips=6, clips_per_shard=3)
    digests = [shard["digest"] for shard in read_index(tmp_path)["shards"]]
    (tmp_path / "index.json").unlink()
    (tmp_path / "clips-000001.json").unlink()
    read: list[str] = []
    monkeypatch.setattr(shards, "read_tars", lambda tars: (read.extend(tars), read_tars(tars))[1])
    ShardWriter(tmp_path, 3).close()
    assert [Path(tar).name for tar in read] == ["clips-000001.tar"]
    assert [shard["digest"] for shard in read_index(tmp_path)["shards"]] == digests


def test_an_interrupted_writer_goes_on_after_its_whole_shards(tmp_path) -> None:
    writer = ShardWriter(tmp_path, 3)
    for number in range(5):
        writer.write(f"{number:08d}", {}, sample(number))
    again = ShardWriter(tmp_path, 3)
    assert again.done == 3
    for number in range(again.done, 7):
        again.write(f"{number:08d}", {}, sample(number))
    again.close()
    assert [entry["key"] for entry in read_all(tmp_path)] == [f"{number:08d}" for number in range(7)]
    assert decode_sample(next(StoredSamples([tmp_path], 1, 0).read(0)))["latents"].shape == (16, 6, 12, 12)


def test_a_last_shard_that_is_not_full_is_filled_up(tmp_path) -> None:
    write_shards(tmp_path, clips=5, clips_per_shard=3)
    before = read_index(tmp_path)
    with ShardWriter(tmp_path, 3) as writer:
        assert writer.done == 5
    assert read_index(tmp_path) == before
    with ShardWriter(tmp_path, 3) as writer:
        for number in range(writer.done, 8):
            writer.write(f"{number:08d}", {}, sample(number))
    assert [entry["key"] for entry in read_all(tmp_path)] == [f"{number:08d}" for number in range(8)]
    assert [shard["samples"] for shard in read_index(tmp_path)["shards"]] == [3, 3, 2]
    assert read_index(tmp_path)["shapes"] == [[1, 16, 6, 12, 12]]


def test_what_an_index_speaks_of_stays_until_there_is_a_new_one(tmp_path) -> None:
    write_shards(tmp_path, clips=5, clips_per_shard=3)
    before = [entry["key"] for entry in read_all(tmp_path)]
    interrupted = ShardWriter(tmp_path, 3)
    for number in range(5, 10):
        interrupted.write(f"{number:08d}", {}, sample(number))
    assert len(list(tmp_path.glob("*.tar"))) == 4, "5 samples in two, and 6 in two more"
    assert [entry["key"] for entry in read_all(tmp_path)] == before
    samples = StoredSamples([tmp_path], 1, seed=3)
    assert keys(samples, 0, 3, 6) == keys(samples, 0, 9)[6:]
    with ShardWriter(tmp_path, 3) as writer:
        assert writer.done == 9, "what was written twice is there once"
        writer.write("00000009", {}, sample(9))
    assert sorted(entry["key"] for entry in read_all(tmp_path)) == [f"{number:08d}" for number in range(10)]
    assert {path.name for path in tmp_path.glob("*.tar")} == {s["file"] for s in read_index(tmp_path)["shards"]}


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_interrupted_and_dropped_nothing_is_lost_or_doubled(tmp_path, monkeypatch, seed: int) -> None:
    rng, left, real = random.Random(seed), [0], shards.atomic_path
    tensors = {"latents": torch.zeros(1, 2, 2, 2), "audio": torch.zeros(1, 5, 1, 1)}

    @contextmanager
    def killed_after_some(path):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        with real(path) as partial:
            yield partial

    monkeypatch.setattr(shards, "atomic_path", killed_after_some)
    for step in range(8):
        left[0] = rng.randint(0, 6) if rng.random() < 0.6 else 1000
        wanted = {f"{number:03d}" for number in range(rng.randint(1, 10) + step * 12)}
        gone = {key for key in wanted if rng.random() < 0.1} if rng.random() < 0.4 else set()
        with suppress(KeyboardInterrupt), ShardWriter(tmp_path, 5) as writer:
            wanted |= writer.keys
            for key in sorted(wanted - writer.keys):
                writer.write(key, {}, tensors)
            writer.drop(gone)
            writer.close()
            assert sorted(entry["key"] for entry in read_all(tmp_path)) == sorted(wanted - gone)
        if (tmp_path / shards.INDEX).exists():
            found = [entry["key"] for entry in read_all(tmp_path)]
            assert len(found) == len(set(found))


def test_a_changed_tar_is_not_taken_over(tmp_path) -> None:
    write_shards(tmp_path)
    (tmp_path / "clips-000003.tar").replace(tmp_path / "clips-000001.tar")
    write_shards(tmp_path / "few", clips=2)
    (tmp_path / "few" / "clips-000000.tar").replace(tmp_path / "clips-000000.tar")
    with pytest.raises(InputError, match=r"clips-000000\.tar was changed"):
        ShardWriter(tmp_path, 3)


def test_samples_are_dropped_and_the_others_stay(tmp_path) -> None:
    write_shards(tmp_path, clips=8, clips_per_shard=3)
    kept = (tmp_path / "clips-000002.tar").stat().st_mtime_ns
    with ShardWriter(tmp_path, 3) as writer:
        writer.drop({"00000001", "00000005"})
        assert writer.done == 6
    assert sorted(entry["key"] for entry in read_all(tmp_path)) == [f"{n:08d}" for n in (0, 2, 3, 4, 6, 7)]
    assert (tmp_path / "clips-000002.tar").stat().st_mtime_ns == kept
    assert read_index(tmp_path)["tensors"]["latents"] == 6
    assert len(list(tmp_path.glob("*.tar"))) == len(list(tmp_path.glob("clips-*.json"))) == 3


def test_a_folder_with_a_colon_is_a_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_shards(Path("pipe:RS+CM"), clips=2)
    assert len(list(read_all("pipe:RS+CM"))) == 2
    assert len(HeldSamples(["pipe:RS+CM"], 1, 0).samples) == 2


def test_damaged_shards_are_named(tmp_path) -> None:
    write_shards(tmp_path)
    damage(tmp_path / "clips-000001.tar")
    with pytest.raises(InputError, match=r"clips-000001\.tar is damaged .*prepare again"):
        list(read_all(tmp_path))


def test_a_damaged_clip_in_a_whole_tar_is_named(tmp_path) -> None:
    write_shards(tmp_path, clips=2)
    raw = next(StoredSamples([tmp_path], 1, 0).read(0))
    raw["safetensors"] = b"\xff" * 64
    with pytest.raises(InputError, match=rf"Clip {raw['__key__']} in the shard .*clips-000000\.tar is damaged"):
        decode_sample(raw)


def test_unfinished_empty_changed_and_missing_shards_are_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="no finished shards"):
        read_index(tmp_path / "nowhere")
    with ShardWriter(tmp_path / "empty"):
        pass
    with pytest.raises(InputError, match="hold no clips"):
        read_index(tmp_path / "empty")
    write_shards(tmp_path / "gone")
    (tmp_path / "gone" / "clips-000001.tar").unlink()
    with pytest.raises(InputError, match=r"clips-000001\.tar is missing"):
        read_index(tmp_path / "gone")
    write_shards(tmp_path / "cut")
    write_shards(tmp_path / "cut-too", clips=2)
    (tmp_path / "cut-too" / "clips-000000.tar").replace(tmp_path / "cut" / "clips-000001.tar")
    with pytest.raises(InputError, match=r"cut/clips-000001\.tar was changed"):
        read_index(tmp_path / "cut")
    ShardWriter(tmp_path / "other", about={"width": 1})
    with pytest.raises(InputError, match="other settings"):
        ShardWriter(tmp_path / "other", about={"width": 2})
    write_shards(tmp_path / "few", clips=2)
    with pytest.raises(InputError, match="can't be shared"):
        StoredSamples([tmp_path / "few"], 6, 0)


def test_disks_with_large_blocks_make_no_difference(tmp_path, monkeypatch) -> None:
    buffered = partial(open, buffering=2**20)  # as on network disks
    monkeypatch.setattr(shards, "open", buffered, raising=False)
    write_shards(tmp_path, clips=3, clips_per_shard=2)
    for shard in read_index(tmp_path)["shards"]:
        assert shard["bytes"] == (tmp_path / shard["file"]).stat().st_size
    assert sorted(keys(StoredSamples([tmp_path], 1, seed=0), 0, 3)) == [0, 1, 2]
