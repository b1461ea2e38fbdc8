"""Batches from shards: in turns and shares as asked, whoever reads them and from wherever."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.data import get_worker_info

from anytalker import InputError
from anytalker.data.samples import StoredSamples
from anytalker.data.shards import ShardWriter
from anytalker.training import parts
from anytalker.training.config import TrainingConfig
from anytalker.training.reader import GroupReader, group_loader
from anytalker.training.trainer import Trainer
from tests.training.fixtures import FEATURES, make_config, sample, train, write_shards


def test_silent_halves_hear_what_the_model_s_features_make_of_silence(tmp_path, monkeypatch) -> None:
    heard = torch.ones(21, 1, FEATURES.channels)
    monkeypatch.setattr(parts, "silent_rows", lambda features, frames, fps: heard * (frames == 21))
    batches = {"join": [2], "silent_probability": 1, "audio_dropout": 0}
    reader = Trainer(make_config(tmp_path, batches=batches), lambda line: None).reader
    for group in reader:
        assert group.batch.audio.shape[1:3] == (2, 13)
        assert group.batch.audio.unique().tolist() == [1]


def test_joined_clips_come_from_their_own_shards(tmp_path) -> None:
    with ShardWriter(tmp_path / "pairs", 3) as writer:
        for number in range(40, 46):
            writer.write(f"{number:08d}", {}, sample(number))
    data = {"joined": [tmp_path / "pairs"], "crop": 8, "crop_probability": 1.0}
    config = make_config(tmp_path, data=data, batches={"join": [1, 2]}, steps=12)
    numbers: dict[bool, set[int]] = {True: set(), False: set()}  # a clip's condition is its number
    for group in GroupReader(config, 5):
        numbers[group.batch.faces.shape[1] == 2] |= set((100 * group.batch.condition).round().int().flatten().tolist())
    assert len(numbers[True]) > 1
    assert numbers[True] <= set(range(40, 46))
    assert len(numbers[False]) > 1
    assert numbers[False] <= set(range(12))
    assert len(train(config.model_copy(update={"steps": 2}))) == 2


@pytest.mark.parametrize(("probability", "least", "most"), [(0.0, 0, 0), (0.3, 6, 20), (1.0, 40, 40)])
def test_as_many_batches_are_cropped_as_asked(tmp_path, probability: float, least: int, most: int) -> None:
    data = {"crop": 8, "crop_probability": probability}
    config = make_config(tmp_path, data=data, batches={"join": [1]}, steps=40, batch_size=1)
    cropped = sum(group.batch.latents.shape[-1] == 8 for group in GroupReader(config, 5))
    assert least <= cropped <= most


def test_shares_also_hold_for_joined_batches_of_the_same_folders(tmp_path) -> None:
    many, few = write_shards(tmp_path / "2", clips=18, persons=2), write_shards(tmp_path / "1", clips=6)
    data = {"single": [many, few], "shares": [1, 9]}
    config = make_config(tmp_path, data=data, batches={"join": [2]}, steps=60)
    people = [group.batch.faces.shape[1] for group in GroupReader(config, 5)]
    assert people.count(2) > 3 * people.count(4) > 0


@pytest.mark.parametrize("in_memory", [False, True])
def test_folders_of_different_shapes_take_turns_by_their_clips(tmp_path, in_memory: bool) -> None:
    many, few = write_shards(tmp_path / "2", clips=18, persons=2), write_shards(tmp_path / "1", clips=6)
    data = {"single": [many, few], "in_memory": in_memory}
    config = make_config(tmp_path, data=data, batches={"join": [1]}, steps=200, batch_size=1)
    shapes = [group.batch.latents.shape[-1] for group in GroupReader(config, 5)]
    assert 0.65 < shapes.count(24) / len(shapes) < 0.85  # 18 clips of 24
    assert len(train(config.model_copy(update={"steps": 3}))) == 3


def test_folders_take_turns_by_their_shares(tmp_path) -> None:
    many, few = write_shards(tmp_path / "2", clips=18, persons=2), write_shards(tmp_path / "1", clips=6)
    data = {"single": [many, few], "shares": [1, 4]}
    config = make_config(tmp_path, data=data, batches={"join": [1, 2]}, steps=300)
    shapes = [tuple(group.batch.faces.shape[1:2]) + group.batch.latents.shape[-1:] for group in GroupReader(config, 5)]
    alone, pairs = shapes.count((1, 12)), shapes.count((2, 24))
    assert 0.3 < alone / len(shapes) < 0.5  # half of the batches, four of five
    assert pairs > 0  # conversations, and joined clips


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_reader_of_several_shapes_resumes_where_it_stopped(tmp_path, in_memory: bool) -> None:
    folders = [write_shards(tmp_path / str(persons), clips=5 * persons, persons=persons) for persons in (1, 2)]
    data = {"single": folders, "joined": folders[:1], "in_memory": in_memory}
    config = make_config(tmp_path, data=data, batches={"join": [1, 2]}, steps=20)
    whole, rest = list(GroupReader(config, 5)), list(GroupReader(config, 5, start=9))
    assert len(rest) == 11
    for group, again in zip(whole[9:], rest, strict=True):
        assert torch.equal(group.batch.latents, again.batch.latents)


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_clips_are_read_by_workers_as_by_one_process(tmp_path, workers: int, in_memory: bool) -> None:
    config = make_config(tmp_path, data={"in_memory": in_memory}, batches={"join": [1, 2]}, steps=7)
    groups = list(group_loader(GroupReader(config, 5), workers))
    assert [group.step for group in groups] == list(range(7))
    later = list(group_loader(GroupReader(config, 5, start=3), workers))
    for resumed, *others in zip(later, groups[3:], GroupReader(config, 5, start=3), strict=True):
        for other in others:
            assert resumed.step == other.step
            for name in ("latents", "condition", "audio", "faces", "pictures", "face_masks", "loss_weights"):
                assert torch.equal(getattr(resumed.batch, name), getattr(other.batch, name))


def reads(monkeypatch, folder: Path, config: TrainingConfig, processes: int, workers: int, start: int = 0) -> list[str]:
    """What is read in a run, as "process.worker place", whoever reads it."""
    real = StoredSamples.sample

    def noted(samples: StoredSamples, place: int) -> dict:
        worker = get_worker_info()
        with open(folder / f"{rank}.{worker.id if worker else 0}.reads", "a") as file:
            file.write(f"{place}\n")
        return real(samples, place)

    monkeypatch.setattr(StoredSamples, "sample", noted)
    for rank in range(processes):
        list(group_loader(GroupReader(config, 5, start, rank, processes), workers))
    monkeypatch.setattr(StoredSamples, "sample", real)
    found = [f"{path.stem} {place}" for path in folder.glob("*.reads") for place in path.read_text().split()]
    for path in folder.glob("*.reads"):
        path.unlink()
    return found


@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (1, 2), (2, 2), (4, 1)])
def test_every_sample_is_read_by_one_worker_once_an_epoch(tmp_path, monkeypatch, processes: int, workers: int) -> None:
    data = {"single": [write_shards(tmp_path / "many", clips=24, clips_per_shard=5)]}
    config = make_config(tmp_path, data=data, groups=4, steps=3, batches={"join": [1]})  # 24 clips
    read = reads(monkeypatch, tmp_path, config, processes, workers)
    assert sorted(int(line.split()[1]) for line in read) == list(range(24))
    assert len({line.split()[0] for line in read}) == processes * max(1, workers)


def test_resuming_reads_nothing_of_what_came_before(tmp_path, monkeypatch) -> None:
    config = make_config(tmp_path, groups=2, steps=50, batches={"join": [1]})
    assert len(reads(monkeypatch, tmp_path, config, 1, 2, start=48)) == 2 * 2 * config.batch_size


def test_groups_must_be_shared_evenly(tmp_path) -> None:
    with pytest.raises(InputError, match="groups is 3"):
        GroupReader(make_config(tmp_path, groups=3), 5, processes=2)
