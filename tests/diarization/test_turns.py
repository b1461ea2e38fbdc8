"""The diarisation error and its parts."""

import numpy as np
import pytest

from anytalker.diarization.turns import Turn, diarization_error, spans_of
from anytalker.errors import InputError

REFERENCE = [Turn(0, 0.0, 4.0), Turn(1, 3.0, 8.0)]


def parts(found: list[Turn]) -> tuple[float, float, float]:
    error = diarization_error(REFERENCE, found)
    assert error.rate == pytest.approx(error.missed + error.false_alarm + error.confusion)
    return pytest.approx((error.missed, error.false_alarm, error.confusion))


def test_the_truth_under_other_names_has_no_error() -> None:
    error = diarization_error(REFERENCE, [Turn(7, 3.0, 8.0), Turn(5, 0.0, 4.0)])
    assert error.rate == 0
    assert error.seconds == 9
    assert error.mapping == {5: 0, 7: 1}


def test_each_kind_of_error_has_its_share() -> None:
    assert parts([Turn(0, 0.0, 3.0), Turn(1, 3.0, 8.0)]) == (1 / 9, 0, 0)  # one of two at once
    assert parts([*REFERENCE, Turn(0, 8.0, 10.0)]) == (0, 2 / 9, 0)
    assert parts([Turn(0, 0.0, 5.0), Turn(1, 5.0, 8.0)]) == (1 / 9, 0, 1 / 9)  # the second is late by two seconds
    assert parts([Turn(0, 0.0, 8.0)]) == (1 / 9, 0, 3 / 9)  # all as one: the longer of both is matched
    assert parts([]) == (1, 0, 0)


def test_speakers_are_matched_for_the_longest_agreement() -> None:
    found = [Turn(0, 0.0, 4.0), Turn(1, 3.0, 5.0), Turn(2, 5.0, 8.0)]
    error = diarization_error(REFERENCE, found)
    assert error.mapping == {0: 0, 2: 1}
    assert error.confusion == pytest.approx(2 / 9)


def test_turns_of_one_speaker_that_overlap_count_once() -> None:
    assert parts([Turn(0, 0.0, 3.0), Turn(0, 1.0, 4.0), Turn(1, 3.0, 8.0)]) == (0, 0, 0)


def test_without_speech_there_is_no_rate() -> None:
    with pytest.raises(InputError, match="no speech"):
        diarization_error([], REFERENCE)


def test_spans_of_frames() -> None:
    active = np.array([True, True, False, True])
    assert spans_of(active, 0.5, first=10) == [(5.0, 6.0), (6.5, 7.0)]
    assert spans_of(np.zeros(3, dtype=bool), 0.5) == []
