"""Frames of pieces, and the most likely sequence of speakers."""

import numpy as np
import pytest

from anytalker.diarization import resegmentation
from anytalker.diarization.resegmentation import _decode, _evidence, _pieces

SPANS = [(0.5, 3.0), (3.4, 5.0), (5.5, 9.0)]
TIMES = np.array([(start, start + 1.0) for start in np.arange(0.5, 8.1, 0.5)])
BELIEF = np.random.default_rng(0).dirichlet([1, 1, 1], len(TIMES))
CLEAR = np.arange(len(TIMES)) < 8
SPLIT = np.concatenate([BELIEF * CLEAR[:, None], BELIEF * ~CLEAR[:, None]], axis=1)


def test_pieces_tell_what_the_whole_does(monkeypatch) -> None:
    ((first, last),) = _pieces(SPANS)
    prior, speech, noisy = _evidence(first, last, SPANS, TIMES, SPLIT)
    monkeypatch.setattr(resegmentation, "_PIECE", 200)
    pieces = list(_pieces(SPANS))
    assert pieces == [(25, 150), (170, 250), (275, 450)]
    for start, end in pieces:
        part, spoken, murky = _evidence(start, end, SPANS, TIMES, SPLIT)
        assert part.shape == (3, end - start)
        assert np.array_equal(murky, noisy[start - first : end - first])
        assert part == pytest.approx(prior[:, start - first : end - first])
        assert np.array_equal(spoken, speech[start - first : end - first])


def test_the_sequence_has_few_changes_and_finds_overlaps() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((3, 300), dtype=bool)
    truth[0, :150], truth[1, 120:240], truth[2, 260:] = True, True, True
    speech = truth.any(axis=0)
    scores = np.where(truth, 2.0, -2.0) + 2 * rng.standard_normal(truth.shape)
    active = _decode(scores, np.full(truth.shape, 1 / 3), speech)
    assert (active != truth).mean() < 0.02
    assert np.abs(np.diff(active.astype(int), axis=1)).sum() == 4
    assert not active[:, ~speech].any()


def test_what_windows_believe_decides_where_spectra_do_not() -> None:
    prior = np.repeat([[0.95], [0.05]], 50, axis=1)
    assert _decode(np.zeros((2, 50)), prior, np.ones(50, dtype=bool))[0].all()
    assert not _decode(np.zeros((2, 50)), prior, np.ones(50, dtype=bool))[1].any()
