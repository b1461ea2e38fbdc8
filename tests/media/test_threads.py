"""Frames are encoded beside the making of the next ones: same file, same errors, nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from anytalker import AnyTalkerPipeline, InputError
from anytalker.media import video as output
from anytalker.media.threads import consume_apart
from anytalker.media.video import write_video
from anytalker.miniature.demo import demo_scene
from anytalker.pipelines.prepared_video import _on_cpu


def test_items_arrive_in_order_and_few_wait() -> None:
    made: list[int] = []
    seen: list[int] = []
    ahead: list[int] = []

    def make() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            ahead.append(len(made) - len(seen))
            yield number

    place = []

    def consume(items: Iterator[int]) -> None:
        place.append(threading.current_thread())
        for item in items:
            seen.append(item)

    before = threading.active_count()
    consume_apart(make(), consume)
    assert seen == list(range(50))
    assert max(ahead) <= 4  # one in the making, one that waits, one in use, and one between two of these
    assert place[0] is not threading.main_thread()
    assert threading.active_count() == before


@pytest.mark.parametrize("failing_at", [0, 3, 49])
def test_a_failure_there_is_raised_here_and_ends_the_making(failing_at: int) -> None:
    made: list[int] = []

    def consume(items: Iterator[int]) -> None:
        for item in items:
            if item == failing_at:
                raise OSError(28, "No space left on device")

    before = threading.active_count()
    with pytest.raises(OSError, match="No space left"):
        consume_apart((made.append(number) or number for number in range(1000)), consume)
    assert len(made) <= failing_at + 4
    assert threading.active_count() == before


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_failure_after_the_end_is_raised_here(count: int) -> None:
    def consume(items: Iterator[int]) -> None:
        raise InputError(f"{len(list(items))} are too few")

    before = threading.active_count()
    with pytest.raises(InputError, match=f"{count} are too few"):
        consume_apart(iter(range(count)), consume)
    assert threading.active_count() == before


def test_a_failure_here_is_raised_and_the_end_never_comes_there() -> None:
    ended: list[bool] = []

    def make() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    def consume(items: Iterator[int]) -> None:
        list(items)
        ended.append(True)

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        consume_apart(make(), consume)
    assert not ended
    assert threading.active_count() == before


def test_the_file_is_the_one_without_a_thread(tmp_path, monkeypatch) -> None:
    frames = np.random.default_rng(0).random((20, 32, 48, 3)).astype(np.float32)
    sound = np.sin(np.arange(16000) / 20).astype(np.float32)
    write_video(tmp_path / "a.mp4", iter(np.split(frames, 4)), 24, sound)
    monkeypatch.setattr(output, "consume_apart", lambda items, consume: consume(iter(items)))
    write_video(tmp_path / "b.mp4", iter(np.split(frames, 4)), 24, sound)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_bytes_are_those_of_the_frames() -> None:
    steps = torch.linspace(-0.5, 255.5, 100_000) / 255
    halves = (torch.arange(255) + 0.5) / 255
    frames = torch.cat([steps, halves]).clamp(0, 1)[:100_254].reshape(1, -1, 1, 3)
    expected = np.stack([output._eight_bit(frame) for frame in frames.numpy()])
    assert np.array_equal(_on_cpu(frames.clone(), True), expected)
    frames[0, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="not numbers"):
        _on_cpu(frames, True)


def test_a_video_is_written_from_the_bytes_of_its_frames(tmp_path, monkeypatch) -> None:
    image, boxes, voices = demo_scene(1, 0.4, 0)
    pipeline = AnyTalkerPipeline.from_pretrained("tiny")
    options = {"faces": boxes, "max_frames": 9, "num_inference_steps": 1}
    written: list[np.ndarray] = []
    encode = output._encode_frames

    def watch(track, frames, *others) -> None:
        encode(track, (written.append(chunk) or chunk for chunk in frames), *others)

    monkeypatch.setattr(output, "_encode_frames", watch)
    pipeline.generate_to(tmp_path / "a.mp4", image, voices, generator=torch.Generator().manual_seed(0), **options)
    video = pipeline(image, voices, generator=torch.Generator().manual_seed(0), **options)
    assert all(chunk.dtype == np.uint8 for chunk in written)
    assert np.array_equal(np.concatenate(written), np.stack([output._eight_bit(frame) for frame in video.frames]))


def test_nothing_is_still_written_to_after_a_second_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    events: list[str] = []

    class InterruptedThread(threading.Thread):
        joined = 0

        def join(self, timeout: float | None = None) -> None:
            self.joined += 1
            if self.joined == 1:  # the user presses the keys once more
                raise KeyboardInterrupt
            released.set()
            super().join(timeout)

    def consume(items: Iterator[int]) -> None:
        try:
            for _ in items:
                pass
        finally:
            released.wait(10)
            events.append("written")

    def make() -> Iterator[int]:
        yield 0
        raise KeyboardInterrupt

    monkeypatch.setattr("anytalker.media.threads.Thread", InterruptedThread)
    with pytest.raises(KeyboardInterrupt):
        consume_apart(make(), consume)
    assert events == ["written"]
