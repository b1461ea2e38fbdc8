"""Long videos: the same as in memory, and the same however often they were interrupted."""

from __future__ import annotations

import copy
import errno
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.configuration_utils import FrozenDict
from PIL import Image

from anytalker import AnyTalkerPipeline, InputError
from anytalker.conditioning.binding import FaceMask
from anytalker.errors import AnyTalkerError
from anytalker.media import destination
from anytalker.media.video import read_video
from anytalker.models.autoencoder import MiniatureAutoencoder
from anytalker.models.latents import (
    CHUNK,
    SETTLED_GREY,
    decode_chunks,
    decode_frames,
    decode_video,
    latents_behind,
    picture_latents,
    regroup,
)
from anytalker.pipelines import parts, prepared_video
from anytalker.pipelines.inputs import input_files
from anytalker.pipelines.prepared_video import PreparedVideo
from tests.loading.full_size import small_parts
from tests.pipelines.test_pipeline import FACES, make_pipeline
from tests.processes import start

SECONDS = 5.75
STEPS = 3


class Killed(BaseException):
    """Stands for the end of the process."""


def short_windows() -> AnyTalkerPipeline:
    """Random models that are fast, and windows of four latent frames."""
    torch.manual_seed(4)
    vae = MiniatureAutoencoder(width=16, blocks=1, fine_width=8, fine_blocks=1)
    for parameter in vae.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    made = make_pipeline(vae)
    made.settings = replace(made.settings, window=4, window_overlap=2, max_area=32 * 48, num_inference_steps=STEPS)
    return made


@pytest.fixture(scope="module")
def pipeline() -> AnyTalkerPipeline:
    return short_windows()


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (100, 200, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def prepare(pipeline, picture):
    """A video of two people, ready to be made; settings can be changed."""

    def build(seed: int = 3, **changes) -> PreparedVideo:
        options = {"faces": FACES, "fps": 12, "generator": torch.Generator().manual_seed(seed)} | changes
        voice = np.random.default_rng(1).uniform(-0.3, 0.3, int(16000 * SECONDS)).astype(np.float32)
        audio = options.pop("audio", [voice, None])
        return pipeline.prepare(picture, audio, **options)

    return build


@pytest.fixture(scope="module")
def whole(prepare, tmp_path_factory) -> bytes:
    """The bytes of the video that was never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    prepare().to_file(folder / "talk.mp4")
    assert sorted(path.name for path in folder.iterdir()) == ["talk.json", "talk.mp4"]
    return (folder / "talk.mp4").read_bytes()


def in_memory(prepared: PreparedVideo) -> np.ndarray:
    return prepared.collect(prepared.decode(list(prepared.denoise()))).frames


def stop_at(prepared: PreparedVideo, stage: str, moment: int, error: BaseException) -> PreparedVideo:
    def report(name: str, done: int, total: int) -> None:
        if (name, done) == (stage, moment):
            raise error

    return replace(prepared, report=report)


def test_in_memory_streamed_and_written_are_the_same(prepare, tmp_path) -> None:
    frames = in_memory(prepare())
    video = prepare()
    chunks = list(video.decode(video.denoise()))
    assert len(chunks) > 1
    np.testing.assert_array_equal(np.concatenate(chunks), frames)
    assert len(frames) == 69
    video = prepare().to_file(tmp_path / "talk.mp4")
    written, fps = read_video(tmp_path / "talk.mp4")
    assert (written.shape, fps) == (frames.shape, 12)
    for shown, made in zip(written.mean(-1), frames.mean(-1), strict=True):  # noise: half of its colours are lost
        assert np.corrcoef(shown.ravel(), made.ravel())[0, 1] > 0.8
    record = json.loads((tmp_path / "talk.json").read_text())
    assert (record["frames"], record["seed"], record["width"]) == (69, 3, frames.shape[2])
    assert set(video.seconds) == {"prepare", "denoise", "decode"}


def test_the_calls_of_the_pipeline_agree(pipeline, picture, tone, tmp_path) -> None:
    def options() -> dict:
        return {"faces": FACES, "fps": 12, "generator": torch.Generator().manual_seed(1), "num_inference_steps": 1}

    frames = pipeline(picture, [tone], **options()).frames
    np.testing.assert_array_equal(np.concatenate(list(pipeline.stream(picture, [tone], **options()))), frames)
    assert pipeline.generate_to(tmp_path / "a.mp4", picture, [tone], **options()).inputs.frames == len(frames)


def test_calls_overwrite_no_input_and_nothing_unrelated(pipeline, prepare, picture, tone, tmp_path) -> None:
    picture.save(tmp_path / "talk.preview.png")
    mask = FaceMask(picture, str(tmp_path / "talk.preview.png"))
    for image, audio, faces in (
        (tmp_path / "talk.preview.png", [tone], FACES),
        (picture, [None, tmp_path / "talk.mp4"], FACES),
        (picture, [tone], [mask]),
    ):
        with pytest.raises(InputError, match="would be overwritten"):
            pipeline.generate_to(tmp_path / "talk.mp4", image, audio, faces=faces)
    with pytest.raises(InputError, match="audio must be a list"):
        pipeline.generate_to(tmp_path / "talk.mp4", picture, Path("anna.wav"))
    assert input_files(picture, [tone], np.array(FACES)) == []
    (tmp_path / "a.json").write_text('{"persons": []}')
    with pytest.raises(InputError, match="not the record of a video"):
        pipeline.generate_to(tmp_path / "a.mp4", tmp_path / "gone.png", [tone])
    with pytest.raises(InputError, match="not the record of a video"):
        prepare().to_file(tmp_path / "a.mp4")
    assert (tmp_path / "a.json").read_text() == '{"persons": []}'


@pytest.mark.parametrize("interval", [0, 1e6])
def test_two_runs_never_make_the_same_video(pipeline, prepare, picture, tone, tmp_path, whole, interval) -> None:
    output, refused = tmp_path / "talk.mp4", []

    def report(stage: str, done: int, total: int) -> None:
        if done != 1:
            return
        with pytest.raises(InputError, match=r"Another run is making .*talk\.mp4 right now"):
            prepare(seed=4).to_file(output, interval=interval)
        with pytest.raises(InputError, match="Another run"):
            pipeline.generate_to(output, tmp_path / "gone.png", [tone])
        refused.append(stage)

    replace(prepare(), report=report).to_file(output, interval=interval)
    assert refused == ["denoise", "decode"]
    assert output.read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.json", "talk.mp4"]


def test_progress_counts_windows_and_chunks(prepare, tmp_path) -> None:
    reports = []
    prepare(on_progress=lambda *report: reports.append(report)).to_file(tmp_path / "talk.mp4")
    denoised = [(done, total) for stage, done, total in reports if stage == "denoise"]
    assert denoised == [(done, 8 * STEPS) for done in range(8 * STEPS + 1)]
    decoded = [(done, total) for stage, done, total in reports if stage == "decode"]
    assert decoded == [(done, 3) for done in range(4)]


def test_the_steps_memory_is_given_back_before_decoding_begins(prepare, monkeypatch) -> None:
    events = []
    monkeypatch.setattr(prepared_video, "empty_device_cache", lambda device: events.append(device))
    in_memory(prepare(on_progress=lambda stage, done, total: events.append((stage, done == total))))
    assert events.count("cpu") == 1
    assert events[events.index("cpu") + 1] == ("denoise", True)
    assert "decode" not in {event[0] for event in events[: events.index("cpu")]}


@pytest.mark.parametrize(
    ("stage", "moments"),
    [("denoise", [1, 9, 10, 23]), ("denoise", [24]), ("decode", [0, 2]), ("denoise", [2, 3, 4, 5, 6, 7, 8])],
)
def test_killed_and_started_again_is_the_same(prepare, tmp_path, whole, stage, moments) -> None:
    output, said = tmp_path / "talk.mp4", []
    for moment in moments:
        with pytest.raises(Killed):
            stop_at(prepare(), stage, moment, Killed()).to_file(output, said.append, interval=0)
        assert not output.exists()
    prepare().to_file(output, said.append, interval=0)
    assert output.read_bytes() == whole
    assert not (tmp_path / "talk.parts").exists()
    assert sum("Going on" in message for message in said) >= len(moments) - 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.json", "talk.mp4"]


@pytest.mark.parametrize("written", [0, 1, 2, 3])
def test_killed_while_it_saves_is_the_same(prepare, tmp_path, whole, monkeypatch, written) -> None:
    output, real, calls = tmp_path / "talk.mp4", parts.save_file, []

    def save(tensors, path, metadata=None):
        calls.append(path)
        if len(calls) == 12 + written:
            Path(path).write_bytes(b"half")
            raise Killed
        real(tensors, path, metadata)

    monkeypatch.setattr(parts, "save_file", save)
    with pytest.raises(Killed):
        prepare().to_file(output, interval=0)
    prepare().to_file(output, interval=0)
    assert output.read_bytes() == whole


def test_what_is_short_leaves_nothing(prepare, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        stop_at(prepare(), "denoise", 20, KeyboardInterrupt()).to_file(tmp_path / "talk.mp4", interval=1e6)
    assert str(caught.value) == ""
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_says_where_the_parts_are(prepare, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt, match=r"goes on where it stopped.*talk\.parts"):
        stop_at(prepare(), "denoise", 2, KeyboardInterrupt()).to_file(tmp_path / "talk.mp4", interval=0)
    assert [path.name for path in tmp_path.iterdir()] == ["talk.parts"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 4}, "seed"),
        ({"prompt": "hello"}, "prompt"),
        ({"num_inference_steps": 2}, "num_inference_steps"),
        ({"fps": 11}, "fps"),
        ({"faces": FACES[::-1]}, "faces"),
        ({"audio": [np.full(int(16000 * SECONDS), 0.1), None]}, "voices"),
    ],
)
def test_parts_of_another_video_are_not_used(prepare, tmp_path, changes, named) -> None:
    output, said = tmp_path / "talk.mp4", []
    with pytest.raises(Killed):
        stop_at(prepare(), "denoise", 2, Killed()).to_file(output, interval=0)
    with pytest.raises(Killed):
        stop_at(prepare(**changes), "denoise", 1, Killed()).to_file(output, said.append, interval=0)
    assert len(said) == 1
    assert named in said[0]
    assert "starting anew" in said[0]
    if named == "seed":
        prepare(**changes).to_file(output)
        prepare(**changes).to_file(tmp_path / "fresh.mp4")
        assert output.read_bytes() == (tmp_path / "fresh.mp4").read_bytes()


def test_a_sampler_is_the_same_in_every_process(prepare) -> None:
    video = prepare()
    sampler = copy.copy(video.denoiser.scheduler)
    left_out = sampler.config["_use_default_values"]  # in the order of a set
    sampler._internal_dict = FrozenDict({**sampler.config, "_use_default_values": left_out[::-1]})
    assert len(left_out) > 1
    assert replace(video, denoiser=replace(video.denoiser, scheduler=sampler)).identity() == video.identity()


def test_a_state_that_was_read_no_longer_needs_its_file(tmp_path) -> None:
    known = {"sound": "1"}
    parts.Parts(tmp_path / "talk.parts", known).save([], {"latents": torch.zeros(1000)})
    state, _ = parts.Parts(tmp_path / "talk.parts", known).load()
    path = tmp_path / "talk.parts" / "state.safetensors"
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)
    assert state is not None
    assert state["latents"].abs().max() == 0


def test_other_weights_are_another_video(prepare, pipeline, tmp_path) -> None:
    said = []
    with pytest.raises(Killed):
        stop_at(prepare(), "denoise", 2, Killed()).to_file(tmp_path / "talk.mp4", interval=0)
    weight = pipeline.transformer.proj_out.weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(1.5)
    try:
        prepare().to_file(tmp_path / "talk.mp4", said.append)
    finally:
        with torch.no_grad():
            weight.copy_(before)
    assert "transformer changed" in said[0]


@pytest.mark.parametrize("damage", ["state", "latents", "missing"])
def test_damaged_parts_are_not_used(prepare, tmp_path, whole, damage) -> None:
    output, said, folder = tmp_path / "talk.mp4", [], tmp_path / "talk.parts"
    with pytest.raises(Killed):
        stop_at(prepare(), "denoise", 20, Killed()).to_file(output, interval=0)
    first = sorted(folder.glob("latents-*"))[0]
    if damage == "missing":
        first.unlink()
    else:
        path = folder / "state.safetensors" if damage == "state" else first
        path.write_bytes(path.read_bytes()[:100])
    prepare().to_file(output, said.append)
    assert "damaged" in said[0]
    assert output.read_bytes() == whole


def test_other_files_in_the_folder_stay(prepare, tmp_path) -> None:
    (tmp_path / "talk.parts").mkdir()
    (tmp_path / "talk.parts" / "mine.txt").write_text("precious")
    prepare().to_file(tmp_path / "talk.mp4", interval=0)
    assert [path.name for path in (tmp_path / "talk.parts").iterdir()] == ["mine.txt"]
    (tmp_path / "a.parts").write_text("a file")
    with pytest.raises(InputError, match=r"a\.parts is in the way"):
        prepare().to_file(tmp_path / "a.mp4")


def test_a_full_disk_keeps_the_finished_parts(prepare, tmp_path, whole, monkeypatch) -> None:
    output, real, saved = tmp_path / "talk.mp4", parts.save_file, []

    def save(tensors, path, metadata=None):
        if len(saved) > 20:
            raise parts.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        saved.append(path)
        real(tensors, path, metadata)

    monkeypatch.setattr(parts, "save_file", save)
    with pytest.raises(AnyTalkerError, match=r"disk is full.*Free some space in .*parts are kept in .*talk\.parts"):
        prepare().to_file(output, interval=0)
    assert not list((tmp_path / "talk.parts").glob(".*"))
    monkeypatch.setattr(parts, "save_file", real)
    said = []
    prepare().to_file(output, said.append)
    assert "Going on" in said[0]
    assert output.read_bytes() == whole


def test_a_disk_that_fills_while_the_video_is_written_keeps_the_latents(prepare, tmp_path, whole, monkeypatch) -> None:
    from anytalker.pipelines import prepared_video

    def write(path, frames, *_: object, **options: object) -> None:
        next(iter(frames))
        raise InputError(f"{path} can't be written") from OSError(errno.ENOSPC, "No space left on device")

    real = prepared_video.write_video
    monkeypatch.setattr(prepared_video, "write_video", write)
    with pytest.raises(AnyTalkerError, match=r"disk is full.*parts are kept") as caught:
        prepare().to_file(tmp_path / "talk.mp4", interval=0)
    assert not isinstance(caught.value, InputError)
    monkeypatch.setattr(prepared_video, "write_video", real)
    said = []
    prepare().to_file(tmp_path / "talk.mp4", said.append)
    assert "Going on at 100%" in said[0]
    assert (tmp_path / "talk.mp4").read_bytes() == whole


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA"), "of the machine"])
def test_out_of_memory_says_what_to_do(prepare, tmp_path, error) -> None:
    if isinstance(error, str):
        with pytest.raises(RuntimeError) as raised:
            torch.empty(2**58)
        error = raised.value
    prepared = stop_at(prepare(batch_guidance=True), "denoise", 2, error)
    with pytest.raises(AnyTalkerError, match=r"Out of memory.*--batch-guidance.*parts are kept"):
        prepared.to_file(tmp_path / "talk.mp4", interval=0)
    with pytest.raises(AnyTalkerError, match=r"Out of memory.*smaller picture") as caught:
        stop_at(prepare(), "denoise", 1, error).to_file(tmp_path / "b.mp4")
    assert "kept" not in str(caught.value)


def test_a_gpu_out_of_memory_is_told_the_next_smaller_setting(prepare) -> None:
    class OnGpu:
        device = torch.device("cuda")

    for memory, advice in (("high", "--memory balanced"), ("balanced", "--memory low"), ("low", "a smaller picture")):
        conditioning = replace(prepare().conditioning, condition=OnGpu())
        assert advice in replace(prepare(), memory=memory, conditioning=conditioning)._advice()


def test_a_lost_gpu_keeps_the_finished_parts(prepare, tmp_path, whole) -> None:
    lost = RuntimeError("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA")
    with pytest.raises(
        AnyTalkerError, match=r"GPU stopped working \(CUDA error: unspecified launch failure\).*parts are"
    ):
        stop_at(prepare(), "denoise", 20, lost).to_file(tmp_path / "talk.mp4", interval=0)
    prepare().to_file(tmp_path / "talk.mp4")
    assert (tmp_path / "talk.mp4").read_bytes() == whole


def test_other_errors_stay_what_they_are(prepare, tmp_path) -> None:
    with pytest.raises(ZeroDivisionError):
        stop_at(prepare(), "denoise", 5, ZeroDivisionError()).to_file(tmp_path / "talk.mp4", interval=0)


def test_the_folder_of_the_longest_name_can_be_made(tmp_path) -> None:
    destination.parts_folder(tmp_path / f"{'é' * 125}.mp4").mkdir()
    destination.lock_path(tmp_path / f"{'é' * 125}.mp4").touch()
    assert destination.parts_folder("a/talk.mp4") == Path("a/talk.parts")


KILLED = """
import sys
from pathlib import Path
from tests.pipelines.test_prepared_video import make_one
make_one(Path(sys.argv[1]), int(sys.argv[2]))
"""


def make_one(output: Path, kill_at: int = 0) -> bytes:
    """Make a video with one thread; if told, end this process by SIGKILL after so many steps of windows."""

    def report(stage: str, done: int, total: int) -> None:
        if stage == "denoise" and done == kill_at and kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    voice = np.random.default_rng(1).uniform(-0.3, 0.3, 16000 * 4).astype(np.float32)
    options = {"faces": FACES[:1], "fps": 12, "generator": torch.Generator().manual_seed(0), "on_progress": report}
    try:
        gray = Image.new("RGB", (200, 100), (90, 80, 70))
        short_windows().generate_to(output, gray, [voice], interval=0, **options)
    finally:
        torch.set_num_threads(threads)
    return output.read_bytes()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.slow
def test_a_process_that_was_killed_goes_on_to_the_same_bytes(tmp_path) -> None:
    output = tmp_path / "talk.mp4"
    assert start(KILLED, [str(output), "6"]).end()[0] == -signal.SIGKILL
    assert (tmp_path / "talk.parts" / "state.safetensors").is_file()
    assert (tmp_path / ".talk.lock").is_file()  # nobody holds it any more
    resumed = make_one(output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.json", "talk.mp4"]
    assert resumed == make_one(tmp_path / "whole.mp4")


def test_decoding_in_chunks_is_decoding_the_whole() -> None:
    tiny = AnyTalkerPipeline.from_pretrained("tiny").vae
    assert tiny.config.deblocking > 0
    for vae, held in ((small_parts()["vae"], 0), (tiny, 2)):
        latents = torch.randn(1, 16, 2 * CHUNK + 3, 2, 3)
        pieces = list(decode_chunks(vae, latents.split([1, 3, 9, 6], dim=2)))
        assert [piece.shape[2] for piece in pieces] == [4 * CHUNK - 3 - held, 4 * CHUNK, 12 + held]
        torch.testing.assert_close(torch.cat(pieces, dim=2), decode_video(vae, latents), atol=1e-5, rtol=0)
        other = list(decode_chunks(vae, [latents]))
        assert all(torch.equal(one, two) for one, two in zip(pieces, other, strict=True))


def test_a_part_is_decoded_as_in_the_whole() -> None:
    torch.manual_seed(0)
    tiny = AnyTalkerPipeline.from_pretrained("tiny").vae
    for vae, begin in ((small_parts()["vae"].double(), 165), (tiny, 62)):
        latents = torch.randn(1, 16, 44, 1, 1, dtype=vae.dtype)
        end = begin + 8
        first, last = latents_behind(vae, begin, end, latents.shape[2])
        assert 0 < first < (begin + 3) // 4 < last < 46
        part = torch.cat(list(decode_frames(vae, latents, begin, end, "cpu")), dim=2)
        whole = torch.cat(list(decode_chunks(vae, [latents])), dim=2)[:, :, begin:end]
        torch.testing.assert_close(part, whole, atol=1e-5 if vae is tiny else 1e-12, rtol=0)
    assert next(iter(decode_frames(tiny, latents, 0, 1, "cpu"))).shape[2] == 1


def test_wans_encoding_of_a_picture_settles() -> None:
    encoded = picture_latents(small_parts()["vae"], torch.rand(1, 3, 1, 16, 16) * 2 - 1, SETTLED_GREY + 3)
    assert not torch.equal(encoded[:, :, 8], encoded[:, :, -1])
    late = encoded[:, :, SETTLED_GREY - 1 :]
    assert torch.equal(late, late[:, :, :1].expand_as(late))


@pytest.mark.parametrize("sizes", [[20], [1] * 20, [7, 1, 12], [8, 8, 4]])
def test_regrouped_frames_are_the_same(sizes) -> None:
    frames = torch.arange(20.0).view(1, 1, 20, 1, 1)
    grouped = list(regroup(frames.split(sizes, dim=2), 8))
    assert [part.shape[2] for part in grouped] == [8, 8, 4]
    assert torch.equal(torch.cat(grouped, dim=2), frames)
