"""Sounds on disk are those in memory, wherever they lie on the clock."""

from __future__ import annotations

from itertools import pairwise
from threading import Thread

import numpy as np
import pytest

from anytalker.conditioning.timeline import speaking_spans
from anytalker.media.recordings import frame_loudness, mix
from anytalker.media.sound import Mixture, Sound

SAMPLES = np.random.default_rng(0).uniform(-1, 1, 5000).astype(np.float32)


@pytest.mark.parametrize("in_memory", [10, 10**6])
def test_every_part_is_that_of_the_array(in_memory: int) -> None:
    sound = Sound(SAMPLES, in_memory)
    assert (sound._file is None) == (in_memory > 5000)
    assert (len(sound), sound.shape, sound.dtype) == (5000, (5000,), np.float32)
    np.testing.assert_array_equal(np.asarray(sound), SAMPLES)
    for part in (slice(0, 7), slice(4990, None), slice(10, 10), slice(4000, 9000), slice(-5, None)):
        np.testing.assert_array_equal(sound[part], SAMPLES[part])


def test_threads_don_t_get_each_others_parts() -> None:
    sound = Sound(SAMPLES, 10)
    placed, file, others = sound.placed(0, 5000), sound._file, []

    class Interrupted:
        """The file, in which another thread reads just before this one does."""

        def seek(self, place: int) -> None:
            file.seek(place)
            if not others:
                others.append(Thread(target=lambda: sound[3000:3010]))
                others[0].start()
                others[0].join(0.2)

        read = staticmethod(file.read)

    sound._file = placed._file = Interrupted()
    np.testing.assert_array_equal(placed[100:200], SAMPLES[100:200])
    others[0].join()


@pytest.mark.parametrize("in_memory", [10, 10**6])
def test_silence_is_around_it(in_memory: int) -> None:
    sound = Sound(SAMPLES, in_memory).placed(100, 8000)
    expected = np.zeros(8000, np.float32)
    expected[100:5100] = SAMPLES
    np.testing.assert_array_equal(sound[:], expected)
    for part in (slice(0, 150), slice(50, 60), slice(5000, 5200), slice(6000, 9000)):
        np.testing.assert_array_equal(sound[part], expected[part])
    np.testing.assert_array_equal(sound.placed(0, 3000)[:], expected[:3000])


def test_parts_of_a_mixture_are_parts_of_the_mix() -> None:
    other = SAMPLES[::-1].copy()
    whole = mix([SAMPLES, other])
    assert np.abs(whole).max() == pytest.approx(1)
    mixture = Mixture([Sound(SAMPLES, 10), other])
    np.testing.assert_array_equal(mixture[:], whole)
    np.testing.assert_array_equal(mixture[777:1234], whole[777:1234])


def test_loudness_is_the_same_in_pieces() -> None:
    samples = np.tile(SAMPLES, 20)
    fine = frame_loudness(Sound(samples, 10), 3000, 480)
    edges = np.round(np.arange(3001) / 480 * 16000).astype(int)
    expected = [np.sqrt(np.mean(samples[a:b].astype(float) ** 2)) for a, b in pairwise(edges)]
    np.testing.assert_allclose(fine, expected, rtol=1e-5)
    assert speaking_spans(Sound(samples, 10)) == speaking_spans(samples)
