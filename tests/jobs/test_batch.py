"""Many videos from one file: the release's form, bad jobs among good ones, and going on where it stopped."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from anytalker import AnyTalkerError, InputError
from anytalker.cli.app import app
from anytalker.jobs import batch as module
from anytalker.jobs import workers
from anytalker.jobs.batch import RESULTS, finished_jobs, run_batch
from anytalker.jobs.job import Job, read_jobs
from anytalker.loading.found import FoundModel
from anytalker.media.video import read_video
from anytalker.processes import ray_devices
from tests.processes import begin_at_once

FACES = [[20, 20, 60, 60], [120, 20, 60, 60]]


@pytest.fixture
def folder(tmp_path, write_wave, tone) -> Path:
    """A picture and two recordings."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (96, 192, 3), dtype=np.uint8)).save(tmp_path / "two.png")
    write_wave(tone[:8000], "anna.wav")
    write_wave(tone[2000:9000], "ben.wav")
    return tmp_path


def write_jobs(folder: Path, **jobs) -> Path:
    path = folder / "jobs.json"
    path.write_text(json.dumps(jobs))
    return path


def job(**changes) -> dict:
    return {
        "image": "two.png",
        "audio": ["anna.wav", None],
        "faces": FACES,
        "num_inference_steps": 1,
        "max_frames": 9,
        "upscale": False,
    } | changes


def test_a_channel_of_a_recording_belongs_to_its_file(folder, write_wave, tone) -> None:
    talk = write_wave(np.stack([tone, 0.5 * tone]).T.ravel(), "talk.wav", channels=2)
    read = read_jobs(write_jobs(folder, a=job(audio=["talk.wav:left", "talk.wav:2"])))["a"]
    assert read.audio == [folder / "talk.wav:left", folder / "talk.wav:2"]
    assert read.files() == [folder / "two.png", talk, talk]
    before = read.fingerprint("tiny")
    write_wave(np.stack([tone, tone, tone]).T.ravel(), "talk.wav", channels=3)
    assert read.fingerprint("tiny") != before


def test_a_file_may_begin_with_a_mark_of_its_encoding(folder) -> None:
    path = write_jobs(folder, a=job())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert list(read_jobs(path)) == ["a"]


def test_the_releases_batch_file_is_read(folder) -> None:
    path = write_jobs(
        folder,
        talk={
            "image_path": str(folder / "two.png"),
            "caption": "two people",
            "enhance_caption": "two people who talk",
            "audio_list": [str(folder / "anna.wav"), str(folder / "ben.wav")],
        },
    )
    read = read_jobs(path)["talk"]
    assert read.image == folder / "two.png"
    assert read.audio == [folder / "anna.wav", folder / "ben.wav"]
    assert read.prompt == "two people who talk"


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("[", "is not JSON"),
        ("{}", "one at least"),
        ('{"../a": {}}', "name of a video"),
        (json.dumps({"a" * 300: {}}), "name of a video"),
        ('{"a\\u0000b": {}}', "name of a video"),
        ('{"a\\ud800b": {}}', "name of a video"),
        ('{"a": {}, "a": {}}', "jobs.json: the name 'a' is there 2 times"),
        ("[" * 200_000, "is not JSON"),
        ('{"talk": {"audio": ["a.wav"]}}', "'talk', image"),
        ('{"talk": {"image": "a.png", "audio": []}}', "'talk', audio"),
        ('{"talk": {"image": "a.png", "audio": ["a.wav"], "guidance_scael": 2}}', "Did you mean 'guidance_scale'\\?"),
        (
            '{"talk": {"image": "a.png", "audio": ["a.wav"], "colour": 2}}',
            "'colour' is not known. A job's keys are image",
        ),
        ('{"talk": {"image": "a.png", "audio": ["a.wav"], "Seed": 2}}', "Did you mean 'seed'"),
        (
            '{"talk": {"image": "a.png", "audio": ["a.wav"], "fps": "many"}}',
            "'talk': fps is many; it must be a number from 1 to 120",
        ),
    ],
)
def test_files_of_another_form_are_named(tmp_path, text: str, culprit: str) -> None:
    path = tmp_path / "jobs.json"
    path.write_text(text)
    with pytest.raises(InputError, match=culprit):
        read_jobs(path)
    with pytest.raises(InputError, match=r"none\.json"):
        read_jobs(tmp_path / "none.json")


def test_other_names_in_the_releases_files_are_left_alone(tmp_path) -> None:
    path = write_jobs(tmp_path, talk={"image_path": "a.png", "audio_list": ["a.wav"], "bbox_source": "somewhere"})
    assert read_jobs(path)["talk"].image.name == "a.png"


@pytest.mark.parametrize(
    ("options", "code"), [([], 1), (["--strict"], 1), (["--allow-failures"], 0), (["--allow-failures", "--strict"], 0)]
)
def test_a_failed_job_is_told_by_the_exit_code(folder, monkeypatch, options, code) -> None:
    path = write_jobs(folder, good=job(), bad=job())
    results = [module.JobResult("good", None, 1.0), module.JobResult("bad", "no luck", 1.0)]
    monkeypatch.setattr(module, "run_batch", lambda *given: results)
    ended = CliRunner().invoke(app, ["batch", str(path), "--device", "cpu", *options])
    assert ended.exit_code == code
    assert "bad: no luck" in ended.output
    monkeypatch.setattr(module, "run_batch", lambda *given: results[:1])
    assert CliRunner().invoke(app, ["batch", str(path), "--device", "cpu", *options]).exit_code == 0


def test_the_help_names_every_key_of_a_job() -> None:
    said = CliRunner().invoke(app, ["batch", "--help"]).output
    page = (Path(__file__).parents[2] / "docs" / "memory_and_batches.md").read_text(encoding="utf-8")
    for name in Job.model_fields:
        assert re.search(rf"\b{name}\b", said), name
        assert f"| `{name}` |" in page, name


@pytest.mark.slow
def test_two_processes_make_the_same_files_as_one_and_a_bad_job_stops_nobody(folder, monkeypatch) -> None:
    path = write_jobs(folder, first=job(), bad=job(image="nothing.png"), second=job(audio=[None, "ben.wav"], seed=3))
    done: list[tuple[int, int]] = []
    begin_at_once(monkeypatch)
    one = run_batch(read_jobs(path), "tiny", folder / "one", ["cpu"], lambda *now: done.append(now))
    assert [result.name for result in one] == ["first", "bad", "second"]
    assert [result.reason is None for result in one] == [True, False, True]
    assert "nothing.png" in str(one[1].reason)
    assert done == [(0, 3), (1, 3), (2, 3), (3, 3)]
    run_batch(read_jobs(path), "tiny", folder / "two", ["cpu", "cpu"])
    for name in ("first", "second"):
        assert (folder / "one" / f"{name}.mp4").read_bytes() == (folder / "two" / f"{name}.mp4").read_bytes()
        assert len(read_video(folder / "one" / f"{name}.mp4")[0]) == 9
        assert (folder / "one" / f"{name}.json").is_file()
    assert (folder / "one" / "first.mp4").read_bytes() != (folder / "one" / "second.mp4").read_bytes()


def test_a_cluster_that_is_not_there_is_named(monkeypatch) -> None:
    ray = pytest.importorskip("ray")

    def none_found(address: str, **options) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    # Not ray's own search: beside another test's cluster it finds that one, and this process would end with it.
    monkeypatch.setattr(ray, "init", none_found)
    with pytest.raises(InputError, match="no ray cluster at 'auto'"):
        ray_devices("auto")


def test_a_batch_goes_on_where_it_stopped(folder, monkeypatch) -> None:
    made: list[str] = []

    class Worker:
        def make(self, model, loading, one, path) -> str | None:
            made.append(path.stem)
            path.write_bytes(b"video")
            return "no luck" if path.stem == "bad" else None

        def close(self) -> None:
            pass

    monkeypatch.setattr(module, "worker_for", lambda device: Worker())
    path = write_jobs(folder, first=job(), bad=job(), second=job())
    run_batch(read_jobs(path), "tiny", folder / "out", ["cpu"])
    assert made == ["first", "bad", "second"]
    with (folder / "out" / RESULTS).open("a") as file:
        file.write('{"name": "cut off')
    run_batch(read_jobs(path), "tiny", folder / "out", ["cpu"])
    assert made[3:] == ["bad"]
    (folder / "out" / "second.mp4").unlink()
    changed = write_jobs(folder, first=job(seed=1), bad=job(), second=job())
    run_batch(read_jobs(changed), "tiny", folder / "out", ["cpu"])
    assert made[4:] == ["first", "bad", "second"]


def test_results_that_can_not_be_written_end_the_batch_in_one_line(folder, monkeypatch) -> None:
    class Worker:
        closed = 0

        def make(self, *arguments) -> None:
            return None

        def close(self) -> None:
            Worker.closed += 1

    monkeypatch.setattr(module, "worker_for", lambda device: Worker())
    (folder / "out" / RESULTS).mkdir(parents=True)
    jobs = read_jobs(write_jobs(folder, first=job(), second=job()))
    with pytest.raises(AnyTalkerError, match=r"batch\.jsonl can't be written"):
        run_batch(jobs, "tiny", folder / "out", ["cpu", "cpu"])
    assert Worker.closed == 2


def test_after_an_interruption_no_further_job_is_begun(folder, monkeypatch) -> None:
    made, ending = [], threading.Event()

    class Threads(module.ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            ending.set()
            super().shutdown(wait=wait)

    class Worker:
        def make(self, model, loading, one, path) -> None:
            made.append(path.stem)
            if path.stem == "second":
                ending.wait()

        def close(self) -> None:
            made.append("closed")

    def interrupt(done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "worker_for", lambda device: Worker())
    monkeypatch.setattr(module, "ThreadPoolExecutor", Threads)
    jobs = read_jobs(write_jobs(folder, first=job(), second=job(), third=job()))
    with pytest.raises(KeyboardInterrupt):
        run_batch(jobs, "tiny", folder / "out", ["cpu"], interrupt)
    assert made in (["first", "closed"], ["first", "second", "closed"])


def test_a_model_that_changed_makes_its_videos_again(folder, monkeypatch) -> None:
    model = folder / "model"
    model.mkdir()
    weights = model / "weights.safetensors"
    weights.write_bytes(b"1")
    found = FoundModel(model, {"transformer": model}, None, model / "anytalker.json")
    monkeypatch.setattr("anytalker.jobs.job.find_model", lambda name: found)
    one = read_jobs(write_jobs(folder, first=job()))["first"]
    before = one.fingerprint("mine")
    assert one.fingerprint("mine") == before
    weights.write_bytes(b"22")
    assert one.fingerprint("mine") != before


def test_a_job_that_takes_its_process_down_stops_no_other(folder, monkeypatch) -> None:
    class Pool:
        def __init__(self, *arguments, **options) -> None:
            pass

        def submit(self, make, model, device, placement, one, path):
            class Future:
                def result(self):
                    if path.stem == "bad":
                        raise workers.BrokenProcessPool
                    path.write_bytes(b"video")

            return Future()

        def shutdown(self, wait: bool = True) -> None:
            pass

    monkeypatch.setattr(workers, "ProcessPoolExecutor", Pool)
    jobs = read_jobs(write_jobs(folder, first=job(), bad=job(), second=job()))
    results = run_batch(jobs, "tiny", folder / "out", ["cpu"])
    assert [result.reason is None for result in results] == [True, False, True]
    assert "memory" in str(results[1].reason)


def test_a_process_that_can_not_be_started_is_no_fault_of_the_results(folder, monkeypatch) -> None:
    def refuse(*given) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(workers.ProcessPoolExecutor, "submit", refuse)
    (result,) = run_batch(read_jobs(write_jobs(folder, first=job())), "tiny", folder / "out", ["cpu"])
    assert result.reason == "Its process can't be started: Resource temporarily unavailable."


def test_a_line_that_was_cut_off_costs_no_other(folder, monkeypatch) -> None:
    made = []

    class Worker:
        def make(self, model, loading, one, path) -> None:
            made.append(path.stem)
            path.write_bytes(b"video")

        def close(self) -> None:
            pass

    monkeypatch.setattr(module, "worker_for", lambda device: Worker())
    (folder / "out").mkdir()
    (folder / "out" / RESULTS).write_bytes(b'{"name": "cut off \xc3')
    jobs = read_jobs(write_jobs(folder, first=job()))
    for _ in range(2):
        run_batch(jobs, "tiny", folder / "out", ["cpu"])
    assert made == ["first"]


def test_finished_jobs_need_their_video(tmp_path) -> None:
    assert finished_jobs(tmp_path, {}) == set()
    line = {"name": "a", "reason": None, "fingerprint": "x"}
    (tmp_path / RESULTS).write_text(json.dumps(line) + "\n")
    assert finished_jobs(tmp_path, {"a": "x"}) == set()
    (tmp_path / "a.mp4").write_bytes(b"")
    assert finished_jobs(tmp_path, {"a": "x"}) == {"a"}
    assert finished_jobs(tmp_path, {"a": "y"}) == set()


def test_paths_are_taken_from_the_files_folder(tmp_path) -> None:
    one = Job.model_validate({"image": "a.png", "audio": ["none", "/b.wav", None]}).within(tmp_path)
    assert one.image == tmp_path / "a.png"
    assert one.audio == [None, Path("/b.wav"), None]
