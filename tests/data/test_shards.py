"""Shards: what is written comes back, in an order that only the seed decides."""

from __future__ import annotations

import itertools
import random
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from anytalker import InputError
from anytalker.data import shards
from anytalker.data.shards import HeldSamples, ShardStream, ShardWriter, decode_sample, read_all, read_index
from tests.training.fixtures import damage, sample, write_shards


def keys(stream: ShardStream, count: int, start: int = 0) -> list[int]:
    return [int(raw["__key__"]) for raw in itertools.islice(stream.read(start), count)]


def test_samples_come_back_as_they_were_written(tmp_path) -> None:
    write_shards(tmp_path, clips=5, clips_per_shard=2)
    samples = list(read_all(tmp_path))
    assert [entry["key"] for entry in samples] == [f"{number:08d}" for number in range(5)]
    assert samples[3]["record"] == {"fps": 24.0}
    for name, tensor in sample(3).items():
        assert torch.equal(samples[3][name], tensor)


@pytest.mark.parametrize(("streams", "per_shard"), [(1, 3), (2, 3), (4, 3), (5, 6)])
def test_streams_share_every_epoch_without_doubles(tmp_path, streams: int, per_shard: int) -> None:
    write_shards(tmp_path, clips=12, clips_per_shard=per_shard)
    shares = [ShardStream([tmp_path], number, streams, seed=1, shuffle=4) for number in range(streams)]
    first = [keys(share, share.length) for share in shares]
    assert sorted(itertools.chain(*first)) == list(range(12))
    second = [keys(share, share.length, share.length) for share in shares]
    assert sorted(itertools.chain(*second)) == list(range(12))
    assert first != second


def test_a_small_last_tar_is_not_read_more_often_than_others(tmp_path) -> None:
    write_shards(tmp_path, clips=10, clips_per_shard=3)  # the last has one
    shares = [ShardStream([tmp_path], number, 4, seed=1, shuffle=4) for number in range(4)]
    assert sorted(share.length for share in shares) == [2, 2, 3, 3]
    assert sorted(itertools.chain(*(keys(share, share.length) for share in shares))) == list(range(10))


@pytest.mark.parametrize("start", [0, 1, 5, 11, 12, 13, 40])
def test_reading_from_the_middle_equals_skipping(tmp_path, start: int) -> None:
    write_shards(tmp_path)
    stream = ShardStream([tmp_path], 0, 2, seed=3, shuffle=5)
    assert keys(stream, 7, start) == keys(stream, start + 7)[start:]


def test_another_seed_is_another_order(tmp_path) -> None:
    write_shards(tmp_path)
    assert keys(ShardStream([tmp_path], 0, 1, 1, 4), 12) != keys(ShardStream([tmp_path], 0, 1, 2, 4), 12)


@pytest.mark.parametrize("start", [0, 5, 6, 13])
def test_held_samples_are_shared_and_read_like_streams(tmp_path, start: int) -> None:
    write_shards(tmp_path)
    held = HeldSamples([tmp_path], seed=3)

    def read(stream: int, count: int, start: int = 0) -> list[str]:
        return [raw["__key__"] for raw in itertools.islice(held.read(stream, 2, start), count)]

    assert sorted(read(0, 6) + read(1, 6)) == sorted(sample["key"] for sample in read_all(tmp_path))
    assert read(0, 12)[:6] != read(0, 12)[6:]
    assert read(0, 7, start) == read(0, start + 7)[start:]
    with pytest.raises(InputError, match=r"12 clips in .* can't be shared among 13 groups .* or fewer groups"):
        held.read(12, 13)


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
    assert decode_sample(next(ShardStream([tmp_path], 0, 1, 0, 1).read()))["latents"].shape == (16, 6, 12, 12)


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
    stream = ShardStream([tmp_path], 0, 1, seed=3, shuffle=2)
    assert keys(stream, 3, 6) == keys(stream, 9)[6:]
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
    assert len(list(tmp_path.glob("*.tar"))) == 3


def test_a_folder_with_a_colon_is_a_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_shards(Path("pipe:RS+CM"), clips=2)
    assert len(list(read_all("pipe:RS+CM"))) == 2
    assert len(HeldSamples(["pipe:RS+CM"], 0).samples) == 2


def test_damaged_shards_are_named(tmp_path) -> None:
    write_shards(tmp_path)
    damage(tmp_path / "clips-000001.tar")
    with pytest.raises(InputError, match=r"clips-000001\.tar is damaged .*prepare again"):
        list(read_all(tmp_path))


def test_a_damaged_clip_in_a_whole_tar_is_named(tmp_path) -> None:
    write_shards(tmp_path, clips=2)
    raw = next(ShardStream([tmp_path], 0, 1, 0, 1).read())
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
        ShardStream([tmp_path / "few"], 5, 6, 0, 1)
