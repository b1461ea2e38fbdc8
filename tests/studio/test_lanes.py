"""Lanes: where a voice lies in time, and what it looks like."""

from __future__ import annotations

import re

import numpy as np
import pytest

from anytalker.studio import lanes as module
from anytalker.studio import words
from anytalker.studio.lanes import Waveforms, lanes, outline
from anytalker.studio.rows import Row
from tests.studio.test_jobs import NAME, _attributes, _texts

WAVE = (2.0, "M0 0L1 1Z")


def places(text: str) -> list[tuple[float, float]]:
    """Left edge and width of each recording, in percent."""
    return [(float(left), float(width)) for left, width in re.findall(r"left:([\d.]+)%;width:([\d.]+)%", text)]


def test_a_voice_lies_where_it_starts() -> None:
    text = lanes([Row("Anna", "a.wav"), Row("Ben"), Row("Cleo", "c.wav", starts=2.0)], [WAVE, None, WAVE])
    assert places(text) == [(0, 40), (40, 40)]
    clips = [one for one in _attributes(text) if one.get("role") == "slider"]
    assert [one["aria-valuenow"] for one in clips] == ["0", "2"]
    assert [one["data-field"] for one in clips] == [words.STARTS.format(number=number) for number in (1, 3)]
    assert words.LISTENING in _texts(text)


def test_nobody_speaks_and_somebody_speaks_very_late() -> None:
    assert lanes([Row("Ben")], [None]) == ""
    assert places(lanes([Row("Ben", "b.wav", starts=1e6)], [WAVE]))[0][0] == pytest.approx(80, abs=0.1)


def test_names_in_lanes_are_escaped() -> None:
    text = lanes([Row(NAME, "a.wav"), Row(NAME)], [WAVE, None])
    assert {"onerror", "onmouseover"}.isdisjoint(name for attributes in _attributes(text) for name in attributes)
    assert _texts(text).count(NAME) == 2


def test_an_outline_is_as_high_as_its_loudest_moment() -> None:
    samples = np.zeros(2400, np.float32)
    samples[1200:1210] = -0.05
    heights = [abs(1 - float(y)) for y in re.findall(r"[ML][\d]+ ([\d.]+)", outline(samples))]
    assert max(heights) == 1
    assert sorted(heights)[len(heights) // 2] == pytest.approx(0.02)
    assert outline(samples[:0]) == ""


def test_a_recording_is_decoded_once(desk, example, monkeypatch) -> None:
    decoded, decode = [], module.decode

    def counted(folder, image, voices, *rest) -> None:
        decoded.append(len(voices))
        decode(folder, image, voices, *rest)

    monkeypatch.setattr(module, "decode", counted)
    waveforms = Waveforms(desk.queue)
    anna, ben = (member.voice for member in example.members)
    first = waveforms(example.picture, [anna])
    assert waveforms(example.picture, [ben, anna])[1] == first[0]
    waveforms(example.picture, [anna, ben])
    assert decoded == [1, 1]
    assert first[0][0] == pytest.approx(4.0)
    assert list(desk.queue.folder.joinpath("incoming").iterdir()) == []
