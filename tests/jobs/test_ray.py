"""One ray cluster makes the files of a batch and does the work of a curation as processes of this machine do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from anytalker.curation.dataset import assemble
from anytalker.curation.engine import run_on_ray
from anytalker.jobs.batch import run_batch
from anytalker.jobs.job import read_jobs
from anytalker.processes import ray_devices
from tests.curation.test_engine import CONFIG, dangerous, no_preparation, works
from tests.jobs.test_batch import folder, job, write_jobs
from tests.processes import begin_at_once

__all__ = ["folder"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def devices() -> Iterator[list[str]]:
    """What a cluster of this machine has."""
    ray = pytest.importorskip("ray")
    try:
        yield ray_devices("local")
    finally:
        ray.shutdown()


def test_a_ray_cluster_makes_the_same_files(devices, folder, monkeypatch) -> None:
    path = write_jobs(folder, first=job(), bad=job(image="nothing.png"))
    assert set(devices) <= {"ray:cpu", "ray:cuda"}
    far = run_batch(read_jobs(path), "tiny", folder / "far", devices[:1])
    begin_at_once(monkeypatch)
    run_batch(read_jobs(path), "tiny", folder / "near", ["cpu"])
    assert [result.reason is None for result in far] == [True, False]
    assert "nothing.png" in str(far[1].reason)
    assert (folder / "far" / "first.mp4").read_bytes() == (folder / "near" / "first.mp4").read_bytes()


@pytest.mark.usefixtures("devices")
def test_a_curation_on_a_ray_cluster_outlives_a_process_that_dies(tmp_path) -> None:
    files = works(tmp_path, "calm.mp4", "shaky.mp4")
    told: list[tuple[str, float, float]] = []
    run_on_ray(files, "local", lambda *progress: told.append(progress), dangerous, no_preparation)
    assert (files[0].dataset / "died before").exists()
    dataset = assemble(files, {}, CONFIG)
    assert not dataset.failed
    assert [survey.frames for survey in dataset.surveys] == [100, 100]
    assert told[-1] == ("shots", 8.0, 8.0)
