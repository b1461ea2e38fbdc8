"""Voices taken out of recordings, by small networks of the same format."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from anytalker.conditioning.separation import RATE, VocalSeparator, resampled
from anytalker.errors import InputError
from anytalker.media.sound import Sound

TRANSFORM, HOP, BINS, FRAMES = 1024, 128, 513, 32
BIN = RATE / TRANSFORM


def write_network(path: Path, keep: slice, shape: tuple = ("batch", 4, BINS, FRAMES)) -> Path:
    """A network that lets some bins through and no others."""
    kept = np.zeros((1, 1, shape[2], 1), np.float32)
    kept[:, :, keep] = 1
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("input", "output")]
    node = helper.make_node("Mul", ["input", "kept"], ["output"])
    graph = helper.make_graph([node], "mdx", ends[:1], ends[1:], [numpy_helper.from_array(kept, "kept")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def tones(rate: int, seconds: float, *frequencies: float) -> np.ndarray:
    moments = np.arange(round(rate * seconds)) / rate
    envelope = np.minimum(1, 20 * np.minimum(moments, seconds - moments))
    return (envelope * sum(0.2 * np.sin(2 * np.pi * one * moments) for one in frequencies)).astype(np.float32)


def decibels(found: np.ndarray, expected: np.ndarray) -> float:
    return float(10 * np.log10(np.square(expected).mean() / np.square(found - expected).mean()))


@pytest.fixture
def separator(tmp_path):
    """A separator that keeps some bins, by default all."""

    def make(keep: slice = slice(None), compensation: float = 1.0, rumble: int = 0) -> VocalSeparator:
        return VocalSeparator(write_network(tmp_path / "network.onnx", keep), TRANSFORM, HOP, compensation, rumble)

    return make


@pytest.mark.parametrize("length", [1, 700, 3968, 3969, 2 * RATE + 17])
def test_a_network_that_changes_nothing_changes_nothing(separator, length) -> None:
    sound = np.random.default_rng(4).uniform(-1, 1, length).astype(np.float32)
    parts = np.split(sound, [length // 3, length // 2])
    found = np.concatenate(list(separator().separated(parts, length)))
    assert len(found) == length
    np.testing.assert_allclose(found, sound, atol=2e-6)


def test_rumble_is_taken_out(separator) -> None:
    low, voice = tones(RATE, 1, BIN), tones(RATE, 1, 40 * BIN)
    found = np.concatenate(list(separator(rumble=3).separated([low + voice], RATE)))
    assert decibels(found, voice) > 30


def test_what_is_no_voice_is_left_out(separator) -> None:
    split = int(1500 / BIN)
    both, voice = tones(16000, 1.5, 600, 4000), tones(16000, 1.5, 600)
    found = separator(slice(split))(both)
    assert len(found) == len(both)
    assert decibels(both, voice) < 3
    assert decibels(found[:], voice) > 40
    assert decibels(separator(slice(split, None))(both)[:], both - voice) > 40


@pytest.mark.parametrize("samples", [1, 399, 16000, 30001])
def test_the_way_to_44100_samples_and_back_keeps_sound_and_length(separator, samples) -> None:
    sound = tones(16000, samples / 16000, 200, 3000, 6000)
    found = separator()(sound)
    assert len(found) == samples
    if samples > 400:
        assert decibels(found[:], sound) > 50


def test_loud_sound_comes_back_as_loud_but_for_the_networks_own_factor(separator) -> None:
    sound = 4 * tones(16000, 1, 600)
    np.testing.assert_allclose(separator(compensation=1.009)(sound)[:], 1.009 * sound, atol=5e-3)


def test_silence_stays_silence(separator) -> None:
    assert not separator()(np.zeros(5000, np.float32))[:].any()


def test_memory_does_not_grow_with_the_length(separator) -> None:
    made, peaks = separator(), []
    for seconds in (4, 16):
        parts = (np.full(4096, 0.1, np.float32) for _ in range(seconds * RATE // 4096))
        tracemalloc.start()
        count = sum(len(part) for part in made.separated(parts, seconds * RATE // 4096 * 4096))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert count == seconds * RATE // 4096 * 4096
    assert peaks[1] < 1.1 * peaks[0]


def test_the_rate_changes_in_parts_as_at_once() -> None:
    sound = tones(16000, 1, 440)
    whole = np.concatenate(list(resampled([sound], 16000, RATE)))
    parts = np.concatenate(list(resampled(np.split(sound, [100, 5000, 5001]), 16000, RATE)))
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    assert len(whole) == RATE


def test_long_sound_is_joined_on_disk() -> None:
    parts = [np.arange(5, dtype=np.float32), np.zeros(0, np.float32), np.arange(3, dtype=np.float32)]
    for in_memory in (0, 100):
        np.testing.assert_array_equal(Sound.joined(parts, in_memory)[:], np.concatenate(parts))


def test_files_that_are_no_such_network_are_named(tmp_path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"not an ONNX file")
    with pytest.raises(InputError, match=r"damaged\.onnx can't be loaded"):
        VocalSeparator(damaged)
    other = write_network(tmp_path / "other.onnx", slice(None), (1, 2, BINS, FRAMES))
    with pytest.raises(InputError, match=r"other\.onnx takes .*no MDX network"):
        VocalSeparator(other)
    with pytest.raises(InputError, match="has fewer"):
        VocalSeparator(write_network(tmp_path / "network.onnx", slice(None)), 256, 64)
